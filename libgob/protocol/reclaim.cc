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
  const std::uint64_t low = low_water() + kept_for_home();
  const std::uint64_t high =
      std::max(low + 1, std::min(config_.high_water_frames, config_.budget_frames / 4));
  // Every page was offered and found no place: only something new can help.
  if (kept_in_a_row_ > resident_) return;
  // Dirty pages that other nodes' files have to take may wait there for this node to take theirs.
  const auto waits_at_home = [](const auto& item) { return item.second.homeward; };
  const std::uint64_t promised = std::min(reserved_, free_frames());
  const bool starved = !parked_for_room_.empty() || !waiting_at_home_.empty();
  if (free_frames() - promised > low && !starved) return;
  const auto away = static_cast<std::uint64_t>(std::ranges::count_if(injections_, waits_at_home));
  // A page that left otherwise while its flush was on its way frees nothing more. Its manager may
  // answer only when another's flush of it has ended, which may wait at home for a frame of ours.
  const auto free_soon = [&] {
    return free_frames() + being_flushed_ - std::min(being_flushed_, away);
  };
  if (free_soon() >= high + promised) return;
  const auto enough = [&] { return free_soon() >= high + promised; };
  // Pages of files give way first: they have another place, memory has not (paper §4.3.3). Of
  // these, copies that others hold, too, before last copies. Not if all were offered in vain.
  const bool in_vain = kept_in_a_row_ > file_frames_.size();
  const bool files_help = file_frames_.size() != 0 && !in_vain;
  bool some_go_soon = false;
  for (const bool shared_only : {true, false})
    if (!enough() && files_help) some_go_soon = reclaim_files(shared_only, starved, enough, out);
  const bool files_are_left = files_help && files_in_vain_ < file_frames_.slot_count();
  if (enough() || (files_are_left && !starved)) return;
  // So do those on their way here: memory stays while files can make room for each other.
  const auto comes = [&](const auto& item) {
    return item.second.reserved && home_of(page_of(item.first)) != kNoNode;
  };
  if (!in_vain && (some_go_soon || std::ranges::any_of(pending_, comes))) return;
  // Twice round clears every reference mark on the way.
  const std::size_t limit = starved ? 2 * locals_.slot_count() : kScanSlots;
  for (std::size_t seen = 0; seen < limit && !enough(); ++seen) {
    if (clock_hand_ >= locals_.slot_count()) clock_hand_ = 0;
    if (locals_.slot_count() == 0) return;
    auto& slot = locals_.slot(clock_hand_++);
    if (slot.key == PageTable<LocalPage>::kEmpty || file_frames_.find(slot.key) != nullptr)
      continue;
    if (slot.value.referenced) {
      slot.value.referenced = false;
      continue;
    }
    flush(page_of(slot.key), out);
  }
}

// Returns whether there are pages that only wait for a program's turn to end.
bool Core::reclaim_files(bool shared_only, bool starved, const std::function<bool()>& enough,
                         Out& out) {
  bool held = false;
  // Not twice round while nobody waits: what has just come would leave in the same step, before its
  // program has seen it.
  const std::size_t slots = file_frames_.slot_count();
  const std::size_t limit = starved ? 2 * slots : std::min(kScanSlots, slots);
  for (std::size_t seen = 0; seen < limit && !enough(); ++seen) {
    if (file_hand_ >= file_frames_.slot_count()) file_hand_ = 0;
    const PageKey key = file_frames_.slot(file_hand_++).key;
    if (!shared_only) ++files_in_vain_;
    if (key == PageTable<std::uint8_t>::kEmpty) continue;
    LocalPage& local = *locals_.find(key);
    held = held || local.held;
    if (shared_only && !local.shared) continue;
    if (local.referenced) {
      local.referenced = false;
      continue;
    }
    const std::uint64_t before = being_flushed_;
    // Its neighbours go with it: a run costs one message, one notification and one kernel call.
    const PageSet stripe = PageSet::of(page_of(key)).with(~std::uint64_t{0});
    for_each_page(stripe, [&](PageId page) {
      if (file_frames_.find(key_of(page)) == nullptr || (enough() && key_of(page) != key)) return;
      const LocalPage& neighbour = *locals_.find(key_of(page));
      if (!neighbour.referenced && (!shared_only || neighbour.shared)) flush(page, out);
    });
    if (being_flushed_ != before) files_in_vain_ = 0;
  }
  return held;
}

void Core::leave(Out& out) {
  if (!leaving_) {
    leaving_ = true;
    std::vector<PageKey> parked;
    for (auto& [key, pending] : pending_) {
      if (pending.wanted == Access::kNone) continue;
      pending.wanted = Access::kNone;
      out.act(action::Refuse{PageSet::of(page_of(key)), Refusal::kLeaving, config_.self});
      if (pending.stage == Pending::Stage::kParked && pending.job == Pending::Job::kNone)
        parked.push_back(key);
    }
    for (PageKey key : parked) drop_pending(page_of(key));
  }
  if (phase_ != Phase::kServing) return;
  std::vector<PageKey> swapped;
  for (std::size_t i = 0; i < locals_.slot_count() && being_flushed_ < kMaxFlushesAtOnce; ++i) {
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
  if (!stranded && (locals_.size() != 0 || !pending_.empty() || !syncs_.empty())) return;
  left_said_ = true;
  out.act(action::Left{locals_.size() != 0});
}

}  // namespace gob
