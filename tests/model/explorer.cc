// The search: which events each state allows, and what they lead to.
#include "tests/model/explorer.h"

#include <algorithm>
#include <utility>

namespace gob::model {
namespace {

using Kind = sim::WorldEvent::Kind;

NodeId node_id(unsigned i) { return NodeId{static_cast<std::uint16_t>(i)}; }

template <class F>
void for_each_bit(std::uint32_t mask, F&& f) {
  for (; mask != 0; mask &= mask - 1) f(static_cast<unsigned>(std::countr_zero(mask)));
}

}  // namespace

Explorer::Explorer(const sim::WorldConfig& config, const Bounds& bounds)
    : config_(config),
      bounds_(bounds),
      parts_(config, bounds.leaves == 0),
      n_(config.geometry.nodes),
      words_(n_ + n_ * n_ + 7) {}

Report Explorer::run() {
  sim::World world(config_);
  world.start();
  if (!world.violation().empty()) {
    report_.violation = "at the start: " + world.violation();
    return report_;
  }
  State first;
  for (unsigned i = 0; i < n_; ++i) {
    first.nodes[i] = parts_.put_node(world.node(node_id(i)));
    first.accesses |= (bounds_.reads & 3) << (i * 4) | (bounds_.writes & 3) << (i * 4 + 2);
  }
  first.oracle = parts_.put_oracle(world.oracle());
  first.luck = bounds_.flushes << kFlushes | bounds_.expiries << kExpiries |
               bounds_.io_failures << kFailures | bounds_.crashes << kCrashes |
               bounds_.restarts << kRestarts | bounds_.leaves << kLeaves |
               std::uint64_t{bounds_.cuts} << kCuts | std::uint64_t{bounds_.accesses} << kAccesses |
               std::uint64_t{bounds_.write_backs} << kWriteBacks |
               std::uint64_t{bounds_.discards} << kDiscards |
               std::uint64_t{bounds_.syncs} << kSyncs;
  bool is_new = false;
  intern(first, is_new);
  origins_.push_back({0, 0});

  std::uint64_t level_end = 1;
  for (std::uint32_t id = 0; id < origins_.size() && report_.violation.empty(); ++id) {
    if (id == level_end) {
      ++report_.depth;
      level_end = origins_.size();
    }
    if (origins_.size() > bounds_.max_states) break;
    expand(id);
    report_.complete = id + 1 == origins_.size();
  }
  report_.states = origins_.size();
  report_.node_states = parts_.node_states();
  report_.link_states = parts_.link_states();
  report_.seen = parts_.seen();
  if (report_.violation.empty() && report_.complete) check_liveness();
  return report_;
}

void Explorer::expand(std::uint32_t id) {
  current_ = id;
  const State state = load(id);
  const sim::ViewOracle& oracle = parts_.oracle(state.oracle);
  if (oracle.is_outdated()) return take(state, {.kind = Kind::kPropose}, true);
  for (unsigned i = 0; i < n_; ++i) {
    for (unsigned from = 0; from < n_; ++from) {
      const std::uint32_t link = state.links[from * n_ + i];
      if (link != 0 && state.nodes[i] != kDown && !oracle.is_cut(node_id(from), node_id(i)))
        take(state, {.kind = Kind::kDeliver, .node = node_id(i), .from = node_id(from)}, true);
    }
    if (state.nodes[i] != kDown) try_node_events(state, i);
    try_crashes(state, i);
  }
  if (is_quiet(state)) check_rest(state);
}

void Explorer::try_node_events(const State& state, unsigned node) {
  const NodeId id = node_id(node);
  const NodeFacts& facts = parts_.facts(state.nodes[node]);
  const sim::ViewOracle& oracle = parts_.oracle(state.oracle);
  for_each_bit(facts.woken, [&](unsigned thread) {
    take(state, {.kind = Kind::kRetry, .node = id, .thread = thread}, true);
  });
  for_each_bit(facts.held, [&](unsigned page) {
    take(state, {.kind = Kind::kHoldExpired, .node = id, .pages = parts_.set_of(page)}, true);
  });
  for (unsigned index = 0; index < facts.io; ++index) {
    if (!parts_.node(state.nodes[node]).may_finish(index)) continue;
    take(state, {.kind = Kind::kIo, .node = id, .index = index, .ok = true}, true);
    if (left(state, kFailures) != 0)
      take(state, {.kind = Kind::kIo, .node = id, .index = index, .ok = false}, false);
  }
  for (unsigned view = 0; view < oracle.views(); ++view)
    if (oracle.may_enter(id, view))
      take(state, {.kind = Kind::kView, .node = id, .index = view}, true);
  if (oracle.view_of(id) != sim::ViewOracle::kNone) try_accesses(state, node);
  if (left(state, kFlushes) != 0)
    for_each_bit(facts.present, [&](unsigned page) {
      take(state, {.kind = Kind::kFlush, .node = id, .pages = parts_.set_of(page)}, false);
    });
  for (unsigned page = 0; page < config_.geometry.pages(); ++page)
    if (left(state, kWriteBacks) != 0 && home_of(page) == id)
      take(state, {.kind = Kind::kWriteBack, .node = id, .pages = parts_.set_of(page)}, false);
  for (unsigned page = 0; page < config_.geometry.pages(); ++page)
    if (left(state, kDiscards) != 0 && home_of(page) == id)
      take(state, {.kind = Kind::kDiscard, .node = id, .pages = parts_.set_of(page)}, false);
  if (left(state, kSyncs) != 0 && home_of(0) == id && !facts.syncing)
    for (const unsigned list : {0u, 1u})
      take(state, {.kind = Kind::kSync, .node = id, .index = list, .pages = parts_.set_of(0)},
           false);
  if (left(state, kExpiries) != 0)
    for_each_bit(facts.blocked, [&](unsigned page) {
      take(state, {.kind = Kind::kExpire, .node = id, .pages = parts_.set_of(page)}, false);
    });
  if (left(state, kLeaves) != 0 && others_stay(state, node) &&
      oracle.life(id) == sim::ViewOracle::Life::kUp)
    take(state, {.kind = Kind::kLeave, .node = id}, false);
}

void Explorer::try_accesses(const State& state, unsigned node) {
  const NodeFacts& facts = parts_.facts(state.nodes[node]);
  if (facts.idle == 0 || left(state, kAccesses) == 0) return;
  const auto thread = static_cast<unsigned>(std::countr_zero(facts.idle));
  const unsigned budget = (state.accesses >> (node * 4)) & 0xf;
  const unsigned pages = config_.geometry.pages();
  for (const Kind kind : {Kind::kRead, Kind::kWrite}) {
    if ((kind == Kind::kRead ? budget & 3 : budget >> 2) == 0) continue;
    sim::WorldEvent access{.kind = kind, .node = node_id(node), .thread = thread};
    for (unsigned page = 0; page < pages; ++page) {
      access.pages = parts_.set_of(page);
      take(state, access, false);
      if (!bounds_.ahead) continue;
      for (unsigned other = 0; other < pages; ++other)
        if (parts_.set_of(other).stripe == access.pages.stripe && other != page)
          access.ahead |= parts_.set_of(other).mask;
      if (access.ahead != 0) take(state, access, false);
      access.ahead = 0;
    }
    if (!bounds_.runs || pages < 2) continue;
    access.pages = parts_.set_of(0);
    for (unsigned page = 1; page < pages; ++page) access.pages.mask |= parts_.set_of(page).mask;
    take(state, access, false);
  }
}

void Explorer::try_crashes(const State& state, unsigned node) {
  if (state.nodes[node] == kDown) {
    if (left(state, kRestarts) != 0)
      take(state, {.kind = Kind::kRestart, .node = node_id(node)}, false);
    return;
  }
  if (parts_.oracle(state.oracle).cut_off(node_id(node)))
    return take(state, {.kind = Kind::kFence, .node = node_id(node)}, true);
  if (left(state, kCrashes) != 0 && others_stay(state, node))
    take(state, {.kind = Kind::kCrash, .node = node_id(node)}, false);
  if (left(state, kCuts) == 0 || !stays(state, node)) return;
  for (unsigned from = 0; from < n_; ++from)
    if (from != node && stays(state, from))
      take(state, {.kind = Kind::kDisconnect, .node = node_id(node), .from = node_id(from)}, false);
}

bool Explorer::stays(const State& state, unsigned node) const {
  return parts_.oracle(state.oracle).life(node_id(node)) == sim::ViewOracle::Life::kUp &&
         !parts_.facts(state.nodes[node]).leaving;
}

bool Explorer::others_stay(const State& state, unsigned node) const {
  for (unsigned i = 0; i < n_; ++i)
    if (i != node && stays(state, i)) return true;
  return false;
}

void Explorer::spend(State& state, Luck what) {
  if (left(state, what) != kAny) state.luck -= std::uint64_t{1} << what;
}

void Explorer::spend_access(State& state, unsigned node, bool write) {
  const unsigned shift = node * 4 + (write ? 2 : 0);
  if (((state.accesses >> shift) & 3) != kAnyOfNode) state.accesses -= 1u << shift;
  spend(state, kAccesses);
}

void Explorer::take(const State& state, const sim::WorldEvent& event, bool progress) {
  if (!report_.violation.empty()) return;
  taking_ = &event;
  State next = state;
  const unsigned i = event.node.value();
  switch (event.kind) {
    case Kind::kPropose:
    case Kind::kCrash:
    case Kind::kRestart:
    case Kind::kDisconnect:
    case Kind::kFence:
      move_node(next, event);
      if (event.kind == Kind::kCrash) spend(next, kCrashes);
      if (event.kind == Kind::kDisconnect) spend(next, kCuts);
      if (event.kind == Kind::kRestart) spend(next, kRestarts);
      settle_sync(next);
      return add(next, event, progress);
    case Kind::kRead:
      spend_access(next, i, false);
      break;
    case Kind::kWrite:
      spend_access(next, i, true);
      break;
    case Kind::kFlush:
      spend(next, kFlushes);
      break;
    case Kind::kWriteBack:
      spend(next, kWriteBacks);
      break;
    case Kind::kDiscard:
      spend(next, kDiscards);
      next.truth |= std::uint64_t{parts_.mask_of(event.pages)} << kDiscarding;
      break;
    case Kind::kSync:
      spend(next, kSyncs);
      ask_sync(next, event.index != 0);
      break;
    case Kind::kExpire:
      spend(next, kExpiries);
      break;
    case Kind::kLeave:
      spend(next, kLeaves);
      break;
    case Kind::kIo:
      if (!event.ok) {
        spend(next, kFailures);
        next.truth |= kFailed;
      }
      break;
    case Kind::kView: {
      note_doubts(next);
      sim::ViewOracle oracle = parts_.oracle(state.oracle);
      oracle.enter(event.node, event.index);
      for (unsigned from = 0; from < n_; ++from)
        if (oracle.is_cut(node_id(from), event.node)) next.links[from * n_ + i] = 0;
      next.oracle = parts_.put_oracle(std::move(oracle));
      settle_sync(next);
      break;
    }
    case Kind::kRetry:
    case Kind::kDeliver:
    case Kind::kHoldExpired:
    case Kind::kCut:
    case Kind::kRemove:
      break;
  }
  std::uint32_t packet = 0;
  if (event.kind == Kind::kDeliver) {
    std::uint32_t& link = next.links[event.from.value() * n_ + i];
    packet = parts_.link(link).head;
    link = parts_.link(link).rest;
  }
  const NodeStep& step = parts_.step(state.nodes[i], event, packet, next.oracle);
  settle_step(state, next, event, step);
  add(next, event, progress);
}

// What follows from a node's step for the rest of the cluster.
void Explorer::settle_step(const State& before, State& next, const sim::WorldEvent& event,
                           const NodeStep& step) {
  const unsigned i = event.node.value();
  next.nodes[i] = step.node;
  if (!step.broken.empty()) fail("node " + std::to_string(i) + ": " + step.broken);
  const sim::ViewOracle& oracle = parts_.oracle(next.oracle);
  for (const NodeStep::Sent& sent : step.sent) {
    if (sent.to >= n_ || !oracle.connected(event.node, node_id(sent.to))) continue;
    std::uint32_t& link = next.links[i * n_ + sent.to];
    link = parts_.append(link, sent.packet);
  }
  const PageMask written = before.truth & 0xff;
  const PageMask wrong =
      ((written & step.read_not_last) | (~written & step.read_not_zero)) & ~may_be_stale(before, i) &
      ~rolled_back(next);
  if (wrong != 0) fail("a read at node " + std::to_string(i) + " returned old bytes");
  if ((step.not_in_file & written & ~rolled_back(next) & ~may_be_stale(next, i)) != 0)
    fail("a page was said to be written back that the file does not have");
  // What a node does that the others count as dead settles nothing for them.
  const PageMask settled = oracle.cut_off(event.node) ? 0 : step.read | step.wrote;
  next.truth &= ~(std::uint64_t{settled} << kDoubt);
  next.truth &= ~(std::uint64_t{step.discarded} << kDiscarding);
  if (step.wrote != 0) {
    note_writes(next, event.node, step.wrote);
    for (unsigned other = 0; other < n_; ++other)
      if (other != i && next.nodes[other] != kDown)
        next.nodes[other] = parts_.outdate_node(next.nodes[other], step.wrote);
    for (unsigned from = 0; from < n_; ++from)
      for (unsigned to = 0; to < n_; ++to)
        if (from != i)
          next.links[from * n_ + to] = parts_.outdate_link(next.links[from * n_ + to], step.wrote);
    // Its own links: what it sent before this step is older, what this step sent is not.
    for (unsigned to = 0; to < n_; ++to) {
      std::uint32_t link = parts_.outdate_link(before.links[i * n_ + to], step.wrote);
      for (const NodeStep::Sent& sent : step.sent)
        if (sent.to == to && oracle.connected(event.node, node_id(to)))
          link = parts_.append(link, sent.packet);
      next.links[i * n_ + to] = link;
    }
  }
  // A node that is not told of a death yet may grant to the dead, or drop a copy for a write whose
  // bytes died on their way: nobody can know better.
  if (oracle.mourns(event.node)) note_losses(next);
  const auto discarding = static_cast<PageMask>(next.truth >> kDiscarding);
  next.truth |= (next.truth & 0xff & discarding & ~existing(next)) << 8;
  if (step.refused_lost != 0) {
    const PageMask may = (next.truth >> 8) & 0xff;
    const PageMask now = next.truth & 0xff;
    // The file may have it without anybody's being sure of that.
    PageMask doubt = static_cast<PageMask>(next.truth >> kDoubt) & 0xff;
    for_each_bit(step.refused_lost, [&](unsigned page) {
      if (both_died(oracle.view(oracle.views() - 1), page)) doubt |= 1u << page;
    });
    doubt &= ~in_memory(next);
    const PageMask needless =
        step.refused_lost & ~step.wrote & now & (~may | existing(next)) & ~doubt;
    if (needless != 0) fail("needless loss: a page whose bytes exist was refused as lost");
    if ((step.refused_lost & ~now) != 0 && (next.truth & kCrashed) == 0)
      fail("a page was refused as lost, but no node ever died");
  }
  const bool home_away =
      config_.files != 0 && ((next.truth & kCrashed) != 0 || left(next, kLeaves) < bounds_.leaves);
  if (step.refused_io != 0 && (next.truth & kFailed) == 0 && !home_away)
    fail("an I/O error, but no I/O ever failed");
  if (step.left || step.serving) {
    sim::ViewOracle after = oracle;
    if (step.left) after.left(event.node);
    if (step.serving) after.served(event.node);
    for (unsigned other = 0; other < n_; ++other) {
      if (next.nodes[other] == kDown || after.runs(node_id(other))) continue;
      keep_disk(next, node_id(other));
      next.nodes[other] = kDown;  // departed
      for (unsigned from = 0; from < n_; ++from) next.links[from * n_ + other] = 0;
    }
    next.oracle = parts_.put_oracle(std::move(after));
  }
  for (unsigned page = 0; page < config_.geometry.pages(); ++page)
    if (writer_of(next, page) != 0 && disk_has_last(next, page)) set_writer(next, page, 0);
  settle_sync(next);
  if (step.synced || step.listed || step.sync_failed) end_sync(next, event.node, step);
}

// Events that are not steps of a core.
void Explorer::move_node(State& next, const sim::WorldEvent& event) {
  const unsigned i = event.node.value();
  note_doubts(next);
  sim::ViewOracle oracle = parts_.oracle(next.oracle);
  if (event.kind == Kind::kPropose || event.kind == Kind::kDisconnect) {
    if (event.kind == Kind::kPropose)
      oracle.propose();
    else
      oracle.disconnect(event.from, event.node);
    next.oracle = parts_.put_oracle(std::move(oracle));
    if (event.kind == Kind::kDisconnect) {
      next.truth |= kCrashed;
      forget_writers(next, event.node);
    }
    return note_losses(next);
  }
  for (unsigned other = 0; other < n_; ++other) next.links[other * n_ + i] = 0;
  if (event.kind == Kind::kCrash || event.kind == Kind::kFence) {
    oracle.crash(event.node);
    keep_disk(next, event.node);
    next.nodes[i] = kDown;
    next.truth |= kCrashed;
    forget_writers(next, event.node);
    bool left_behind = false;
    for (unsigned other = 0; other < n_; ++other)
      left_behind = left_behind || oracle.cut_off(node_id(other));
    if (!left_behind) next.truth &= ~(std::uint64_t{0xff} << kOutran);
    next.oracle = parts_.put_oracle(std::move(oracle));
    return note_losses(next);
  }
  oracle.restart(event.node);
  for (unsigned other = 0; other < n_; ++other) next.links[i * n_ + other] = 0;
  sim::NodeModel fresh = sim::World(config_).node(event.node);
  for (unsigned page = 0; page < config_.geometry.pages(); ++page) {
    if (home_of(page) != event.node) continue;
    fresh.set_device(page, disk_of(next, page));
    set_disk(next, page, 0);
  }
  next.nodes[i] = parts_.put_node(std::move(fresh));
  next.oracle = parts_.put_oracle(std::move(oracle));
}

void Explorer::note_losses(State& next) const {
  next.truth |= (next.truth & 0xff & ~existing(next)) << 8;
}

void Explorer::note_writes(State& next, NodeId writer, PageMask wrote) const {
  next.truth = (next.truth | wrote) & ~(std::uint64_t{wrote} << kOutran);
  const sim::ViewOracle& oracle = parts_.oracle(next.oracle);
  for (unsigned i = 0; i < n_; ++i)
    if (oracle.cut_off(node_id(i)) && oracle.view_of(writer) > oracle.view_of(node_id(i)))
      next.truth |= std::uint64_t{wrote} << kOutran;
  for_each_bit(wrote, [&](unsigned page) {
    if (home_of(page) == kNoNode) return;
    next.truth &= ~(std::uint64_t{1} << (8 + page));  // what was lost before is of no account
    if (disk_of(next, page) == 1) set_disk(next, page, 2);
    if (writer != home_of(page) && !oracle.cut_off(writer)) set_writer(next, page, 1u + writer.value());
  });
}

PageMask Explorer::may_be_stale(const State& state, unsigned node) const {
  return parts_.oracle(state.oracle).cut_off(node_id(node)) ? (state.truth >> kOutran) & 0xff : 0;
}

// Pages whose last write is with a member, or on its way between two.
PageMask Explorer::in_memory(const State& state) const {
  return with_members(state, &NodeFacts::keeps_last, &LinkFacts::carries_last);
}

PageMask Explorer::with_members(const State& state, PageMask NodeFacts::*at,
                                PageMask LinkFacts::*between) const {
  const sim::ViewOracle& oracle = parts_.oracle(state.oracle);
  PageMask pages = 0;
  for (unsigned i = 0; i < n_; ++i) {
    if (!oracle.alive(node_id(i))) continue;
    pages |= parts_.facts(state.nodes[i]).*at;
    for (unsigned to = 0; to < n_; ++to)
      if (oracle.alive(node_id(to))) pages |= parts_.link(state.links[i * n_ + to]).*between;
  }
  return pages;
}

PageMask Explorer::existing(const State& state) const {
  PageMask pages = in_memory(state);
  for (unsigned page = 0; page < config_.geometry.pages(); ++page)
    if (home_of(page) != kNoNode && disk_has_last(state, page)) pages |= 1u << page;
  return pages;
}

void Explorer::add(const State& next, const sim::WorldEvent& event, bool progress) {
  ++report_.transitions;
  bool is_new = false;
  std::uint32_t id = 0;
  if (report_.violation.empty()) {
    id = intern(next, is_new);
    if (is_new) {
      const PageMask pages = event.pages.empty() ? 0 : parts_.mask_of(event.pages);
      const PageMask ahead = event.ahead == 0 ? 0 : parts_.mask_of(event.pages.with(event.ahead));
      origins_.push_back({current_, pack_event(event, pages, ahead)});
      check(next);
    }
  }
  if (!report_.violation.empty()) return write_counterexample(current_, &event);
  if (progress) {
    edge_from_.push_back(current_);
    edge_to_.push_back(id);
  }
}

}  // namespace gob::model
