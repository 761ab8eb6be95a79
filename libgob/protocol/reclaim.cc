// Page replacement: keeps some frames free by flushing pages that were not used lately (a clock
// hand over the frame table), and empties the node when it leaves.
#include <algorithm>

#include "libgob/protocol/core.h"
#include "libgob/protocol/outbox.h"

namespace gob {

namespace {
constexpr std::uint64_t kMaxFlushesAtOnce = 256;  // of a leaving node
constexpr std::size_t kScanSlots = 512;           // a step, while nobody waits for a frame
}  // namespace

// A small budget cannot afford the configured reserve.
std::uint64_t Core::low_water() const {
  return std::min(config_.low_water_frames, config_.budget_frames / 8);
}

void Core::reclaim(Out& out) {
  if (phase_ != Phase::kServing || leaving_) return;
  const std::uint64_t high =
      std::max(low_water() + 1, std::min(config_.high_water_frames, config_.budget_frames / 4));
  // Every page was offered and found no place: only something new can help.
  if (kept_in_a_row_ > resident_) return;
  const auto free_soon = [&] { return free_frames() + flushing_; };
  const std::uint64_t promised = std::min(reserved_, free_frames());
  const bool starved = !parked_for_room_.empty();
  if (free_frames() - promised > low_water() && !starved) return;
  if (free_soon() >= high + promised) return;
  // Twice round clears every reference mark on the way.
  const std::size_t limit = starved ? 2 * locals_.slot_count() : kScanSlots;
  for (std::size_t seen = 0; seen < limit && free_soon() < high + promised; ++seen) {
    if (clock_hand_ >= locals_.slot_count()) clock_hand_ = 0;
    if (locals_.slot_count() == 0) return;
    auto& slot = locals_.slot(clock_hand_++);
    if (slot.key == PageTable<LocalPage>::kEmpty) continue;
    if (slot.value.referenced) {
      slot.value.referenced = false;
      continue;
    }
    flush(page_of(slot.key), out);
  }
}

void Core::leave(Out& out) {
  if (!leaving_) {
    leaving_ = true;
    std::vector<PageKey> parked;
    for (auto& [key, pending] : pending_) {
      if (pending.wanted == Access::kNone) continue;
      pending.wanted = Access::kNone;
      out.act(action::Refuse{PageSet::of(page_of(key)), Refusal::kLeaving, config_.self});
      if (pending.stage == Pending::Stage::kParked) parked.push_back(key);
    }
    for (PageKey key : parked) drop_pending(page_of(key));
  }
  if (phase_ != Phase::kServing) return;
  std::vector<PageKey> swapped;
  for (std::size_t i = 0; i < locals_.slot_count() && flushing_ < kMaxFlushesAtOnce; ++i) {
    const auto& slot = locals_.slot(i);
    if (slot.key == PageTable<LocalPage>::kEmpty) continue;
    if (slot.value.state == PageState::kSwapped && swapped.size() < kMaxFlushesAtOnce)
      swapped.push_back(slot.key);
    else
      flush(page_of(slot.key), out);
  }
  for (PageKey key : swapped)
    if (has_room()) start_swap_in(page_of(key), out);
}

void Core::check_left(Out& out) {
  if (!leaving_ || left_said_ || phase_ != Phase::kServing) return;
  const bool stranded = std::ranges::all_of(
      view_.members, [&](NodeId node) { return node == config_.self || leavers_.contains(node); });
  if (!stranded && (locals_.size() != 0 || !pending_.empty())) return;
  left_said_ = true;
  out.act(action::Left{locals_.size() != 0});
}

}  // namespace gob
