// Looking at a core from outside: hosts' questions, local rules, content hash.
#include <algorithm>
#include <sstream>

#include "libgob/protocol/core.h"

namespace gob {

LocalPage Core::local(PageId page) const {
  const LocalPage* found = locals_.find(key_of(page));
  return found == nullptr ? LocalPage{} : *found;
}

std::optional<DirectoryEntry> Core::entry(PageId page) const {
  const DirectoryEntry* found = directory_.find(key_of(page));
  if (found == nullptr) return std::nullopt;
  return *found;
}

const Transaction* Core::transaction(PageId page) const {
  const auto found = transactions_.find(key_of(page));
  return found == transactions_.end() ? nullptr : &found->second;
}

const Pending* Core::pending(PageId page) const {
  const auto found = pending_.find(key_of(page));
  return found == pending_.end() ? nullptr : &found->second;
}

bool Core::at_rest() const {
  if (phase_ != Phase::kServing || !transactions_.empty() || !pending_.empty() ||
      !deferred_.empty() || !injections_.empty() || !early_.empty() || !waiting_requests_.empty() ||
      !writing_.empty() || !jobs_wait_.empty() || !syncs_.empty())
    return false;
  bool resting = true;
  locals_.for_each([&](PageKey, const LocalPage& local) {
    if (local.held || local.flushing || local.state == PageState::kSwappingIn ||
        local.state == PageState::kSwappingOut)
      resting = false;
  });
  return resting;
}

std::string Core::check() const {
  std::uint64_t resident = 0;
  std::uint64_t flushing = 0;
  std::uint64_t reserved = 0;
  std::string broken;
  locals_.for_each([&](PageKey key, const LocalPage& local) {
    if (is_resident(local.state)) ++resident;
    if (local.flushing && is_resident(local.state)) ++flushing;
    if (local.state == PageState::kInvalid && !local.flushing)
      broken = "an empty frame table entry";
    if (local.state == PageState::kStored) {
      const Pending* p = pending(page_of(key));
      if (p == nullptr || !p->bytes_here) broken = "stored bytes that no request explains";
    }
    if (local.state == PageState::kInjecting && !injections_.contains(key))
      broken = "an injection that nobody answers for";
  });
  for (const auto& [key, pending] : pending_) {
    if (pending.reserved) ++reserved;
    // A discard lets a program here have its turn.
    const bool has_turn = pending.job == Pending::Job::kDiscard && local(page_of(key)).held;
    if (pending.stage == Pending::Stage::kGranted && pending.acks_missing <= 0 &&
        !pending.device && !has_turn)
      broken = "a granted request that was not completed";
    if (pending.stage == Pending::Stage::kParked && pending.wanted == Access::kNone &&
        pending.job == Pending::Job::kNone)
      broken = "a parked request that nobody wants";
  }
  for (const auto& [key, transaction] : transactions_)
    if (transaction.requesters.empty()) broken = "a transaction that nobody will end";
  if (phase_ == Phase::kServing) {
    directory_.for_each([&](PageKey, const DirectoryEntry& entry) {
      if (entry.lost == 0 &&
          (!view_.contains(entry.owner()) || !entry.copyset().has(entry.owner())))
        broken = "an owner that does not hold the page";
    });
  }
  file_frames_.for_each([&](PageKey key, std::uint8_t) {
    if (!is_resident(local(page_of(key)).state)) broken = "a frame of a file that is none";
  });
  if (resident != resident_) broken = "resident frames miscounted";
  if (flushing != being_flushed_) broken = "flushes miscounted";
  if (reserved != reserved_) broken = "reserved frames miscounted";
  return broken;
}

std::string Core::describe(PageId page) const {
  std::ostringstream text;
  text << "node " << config_.self.value() << " epoch " << view_.epoch.value() << " phase "
       << static_cast<int>(phase_) << ":";
  const LocalPage l = local(page);
  text << " state " << static_cast<int>(l.state) << (l.held ? " held" : "")
       << (l.flushing ? " flushing" : "") << (l.dirty ? " dirty" : "")
       << (l.foreign ? " foreign" : "");
  if (const Pending* p = pending(page))
    text << "; pending stage " << static_cast<int>(p->stage) << " access "
         << static_cast<int>(p->access) << " wanted " << static_cast<int>(p->wanted)
         << " acks missing " << p->acks_missing
         << (std::ranges::count(parked_for_room_, key_of(page)) != 0 ? " for want of room" : "");
  if (const auto e = entry(page))
    text << "; owner " << e->owner().value() << " copyset " << std::hex << e->copyset().bits()
         << std::dec << (e->lost != 0 ? " lost" : "") << (e->dirty != 0 ? " dirty" : "");
  if (const Transaction* t = transaction(page)) {
    text << "; transaction " << static_cast<int>(t->type) << " for";
    for (NodeId node : t->requesters) text << ' ' << node.value();
    text << ", queue " << t->queue.size();
  }
  const auto waiting = deferred_.find(key_of(page));
  if (waiting != deferred_.end()) text << "; deferred " << waiting->second.size();
  return text.str();
}

namespace {

std::uint64_t combine(std::uint64_t seed, std::uint64_t value) {
  return mix64(seed ^ (value + 0x9e3779b97f4a7c15ull + (seed << 6)));
}

std::uint64_t hash_of(const Message& m) {
  std::uint64_t h = static_cast<std::uint64_t>(m.type) | std::uint64_t{1} << 63;
  for (std::uint64_t field :
       {static_cast<std::uint64_t>(m.payload), static_cast<std::uint64_t>(m.refusal),
        static_cast<std::uint64_t>(m.holding),
        std::uint64_t{m.confirm} | std::uint64_t{m.accepted} << 1 | std::uint64_t{m.leaving} << 2 |
            std::uint64_t{m.sole} << 3 | std::uint64_t{m.device} << 4 |
            std::uint64_t{m.dirty} << 5 | std::uint64_t{m.written} << 6,
        std::uint64_t{m.requester.value()}, std::uint64_t{m.node.value()}, std::uint64_t{m.acks},
        std::uint64_t{m.free_frames}, m.epoch.value(), std::uint64_t{m.pages.container.value()},
        m.pages.stripe, m.pages.mask, m.ahead})
    h = combine(h, field);
  return h;
}

}  // namespace

std::uint64_t Core::hash() const {
  std::uint64_t h = combine(view_.epoch.value(), static_cast<std::uint64_t>(phase_));
  h = combine(h, std::uint64_t{leaving_} | std::uint64_t{left_said_} << 1);
  for (NodeId node : view_.members) h = combine(h, node.value());
  for (const auto& [id, info] : containers_) h = combine(combine(h, id.value()), info.pages);
  std::uint64_t unordered = 0;
  locals_.for_each([&](PageKey key, const LocalPage& l) {
    unordered +=
        combine(key, static_cast<std::uint64_t>(l.state) | std::uint64_t{l.held} << 8 |
                         std::uint64_t{l.flushing} << 9 | std::uint64_t{l.referenced} << 10 |
                         std::uint64_t{l.dirty} << 11 | std::uint64_t{l.shared} << 12 |
                         std::uint64_t{l.foreign} << 13);
  });
  directory_.for_each([&](PageKey key, const DirectoryEntry& e) {
    unordered += combine(~key, e.copyset().bits() | std::uint64_t{e.owner().value()} << 48 |
                                   std::uint64_t{e.lost} << 60 | std::uint64_t{e.dirty} << 61 |
                                   std::uint64_t{e.foreign} << 62);
  });
  h = combine(combine(h, unordered), kept_in_a_row_);
  for (const auto& [key, p] : pending_) {
    h = combine(h, key);
    h = combine(h, static_cast<std::uint64_t>(p.stage) | static_cast<std::uint64_t>(p.access) << 4 |
                       static_cast<std::uint64_t>(p.wanted) << 8 | std::uint64_t{p.confirm} << 12 |
                       std::uint64_t{p.bytes_here} << 13 | std::uint64_t{p.reserved} << 14 |
                       static_cast<std::uint64_t>(p.refusal) << 16 |
                       static_cast<std::uint64_t>(p.job) << 24 | std::uint64_t{p.device} << 28);
    h = combine(h, static_cast<std::uint64_t>(p.acks_missing));
  }
  for (const auto& [key, t] : transactions_) {
    h = combine(combine(h, key), static_cast<std::uint64_t>(t.type));
    for (NodeId node : t.requesters) h = combine(h, node.value());
    for (const QueuedRequest& q : t.queue)
      h = combine(h, std::uint64_t{q.requester.value()} << 8 | static_cast<std::uint64_t>(q.type));
  }
  for (const auto& [key, waiting] : deferred_) {
    h = combine(h, key);
    for (const Deferred& d : waiting) h = combine(combine(h, d.from.value()), hash_of(d.message));
  }
  for (const auto& [key, injection] : injections_) {
    h = combine(combine(combine(h, key), injection.target.value()), injection.homeward);
    for (NodeId node : injection.refused_by) h = combine(h, node.value());
  }
  for (const auto& [stripe, mask] : file_dirty_)
    h = combine(combine(combine(h, stripe.first.value()), stripe.second), mask);
  for (const auto& [stripe, mask] : file_listed_)
    h = combine(combine(combine(h, stripe.first.value() + 0x40000u), stripe.second), mask);
  for (const auto& [key, count] : writing_) h = combine(combine(h, key), count);
  for (const auto& [key, jobs] : jobs_wait_)
    for (const Pending::Job job : jobs) h = combine(combine(h, key), static_cast<unsigned>(job));
  for (const auto& [id, sync] : syncs_) {
    h = combine(combine(h, id.value()), sync.list);
    for (NodeId node : sync.missing) h = combine(h, node.value());
  }
  for (const auto& [node, room] : room_) h = combine(combine(h, node.value()), room);
  for (PageKey key : parked_for_room_) h = combine(h, key);
  for (PageKey key : waiting_at_home_) h = combine(h, key);
  for (NodeId node : leavers_) h = combine(h, node.value() + 0x30000u);
  for (NodeId node : markers_) h = combine(h, node.value() + 0x10000u);
  for (NodeId node : report_ends_) h = combine(h, node.value() + 0x20000u);
  for (const auto& [node, messages] : early_)
    for (const Message& m : messages) h = combine(combine(h, node.value()), hash_of(m));
  for (const auto& [node, m] : waiting_requests_) h = combine(combine(h, node.value()), hash_of(m));
  return h;
}

bool operator==(const Core& a, const Core& b) {
  const auto content = [](const Core& c) {
    return std::tie(c.config_, c.view_, c.phase_, c.leaving_, c.left_said_, c.leavers_,
                    c.containers_, c.locals_, c.resident_, c.reserved_, c.being_flushed_,
                    c.kept_in_a_row_, c.deferred_, c.injections_, c.room_, c.pending_,
                    c.parked_for_room_, c.waiting_at_home_, c.file_dirty_, c.file_listed_,
                    c.writing_, c.jobs_wait_, c.jobs_ready_, c.syncs_, c.directory_,
                    c.transactions_, c.markers_, c.report_ends_, c.early_, c.waiting_requests_);
  };
  return content(a) == content(b);
}

}  // namespace gob
