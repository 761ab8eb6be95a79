// The truth about a file: what its disk has, who wrote what it has not, and what a sync promises.
#include "tests/model/explorer.h"

namespace gob::model {
namespace {

NodeId node_id(unsigned i) { return NodeId{static_cast<std::uint16_t>(i)}; }

}  // namespace

// Every page that some core takes for newer than its file.
void Explorer::note_doubts(State& next) const {
  for (unsigned page = 0; page < config_.geometry.pages(); ++page) {
    if (home_of(page) == kNoNode) continue;
    const PageId id = config_.geometry.page(page);
    bool dirty = false;
    for (unsigned i = 0; i < n_; ++i) {
      if (next.nodes[i] == kDown) continue;
      const Core& core = parts_.node(next.nodes[i]).core();
      const auto entry = core.entry(id);
      dirty = dirty || core.local(id).dirty || (entry && (entry->dirty != 0 || entry->lost != 0));
      if (home_of(page) != node_id(i)) continue;
      for (const PageSet& pages : core.file_pages(id.container, false))
        dirty = dirty || pages.contains(id.page);
    }
    if (dirty) next.truth |= std::uint64_t{1} << (kDoubt + page);
  }
}

// The node ends; the files of which it is the home stay as they are.
void Explorer::keep_disk(State& next, NodeId gone) const {
  for (unsigned page = 0; page < config_.geometry.pages(); ++page) {
    if (home_of(page) != gone) continue;
    set_disk(next, page, parts_.node(next.nodes[gone.value()]).slot(page).value);
    next.sync = 0;  // it ends, too
  }
}

void Explorer::set_disk(State& state, unsigned page, sim::Value value) {
  state.truth &= ~(std::uint64_t{3} << (kDisk + 2 * page));
  state.truth |= static_cast<std::uint64_t>(value & 3) << (kDisk + 2 * page);
}

void Explorer::set_writer(State& state, unsigned page, unsigned writer) {
  if (page >= kWriterPages) return;
  state.truth &= ~(std::uint64_t{7} << (kWriter + 3 * page));
  state.truth |= std::uint64_t{writer} << (kWriter + 3 * page);
}

void Explorer::forget_writers(State& next, NodeId gone) const {
  for (unsigned page = 0; page < config_.geometry.pages(); ++page) {
    const bool discarding = ((next.truth >> (kDiscarding + page)) & 1) != 0;
    if (writer_of(next, page) == 1u + gone.value() || (home_of(page) == gone && discarding))
      set_writer(next, page, 0);
  }
}

bool Explorer::disk_has_last(const State& state, unsigned page) const {
  const std::uint32_t home = state.nodes[home_of(page).value()];
  if (home == kDown) return disk_of(state, page) == 1;
  return parts_.node(home).slot(page).value == 1;
}

PageMask Explorer::rolled_back(const State& state) const {
  PageMask pages = 0;
  for (unsigned page = 0; page < config_.geometry.pages(); ++page)
    if (home_of(page) != kNoNode && writer_of(state, page) == 0) pages |= 1u << page;
  if (pages != 0) pages &= static_cast<PageMask>(state.truth >> 8) & 0xff & ~existing(state);
  return pages;
}

// What was written before, by any node, shall be on the disk when the sync is answered; what is
// lost already cannot be. A sync that lists finds what is in memory all the time until it ends.
void Explorer::ask_sync(State& next, bool list) const {
  const PageMask written = next.truth & 0xff & existing(next);
  for (unsigned page = 0; page < config_.geometry.pages(); ++page)
    if (!list && ((written >> page) & 1) != 0) {
      next.sync |= 1u << page;
      // What the home wrote before it ended, ended with it.
      const bool ended = (next.truth & kCrashed) != 0 && writer_of(next, page) == 0;
      if (ended) next.sync |= 1u << (kEnded + page);
    }
  if (list) next.sync |= 0xffu << kToList;
  settle_sync(next);
}

void Explorer::settle_sync(State& next) const {
  if (next.sync == 0) return;
  for (unsigned page = 0; page < config_.geometry.pages(); ++page)
    if (disk_has_last(next, page)) next.sync &= ~(1u << page);
  // Which of the older bytes the file has is not known; tests/sim/world.cc knows.
  next.sync &= ~may_be_stale(next, home_of(0).value());
  const PageMask there = with_members(next, &NodeFacts::in_memory, &LinkFacts::carries);
  next.sync &= ~(0xffu << kToList) | there << kToList;
}

void Explorer::end_sync(State& next, NodeId home, const NodeStep& step) {
  PageMask excused = next.sync >> kEnded & rolled_back(next);
  // Manager and writer died together before the home that came back knew.
  const sim::ViewOracle& oracle = parts_.oracle(next.oracle);
  for (unsigned page = 0; page < config_.geometry.pages(); ++page)
    if (both_died(oracle.view(oracle.views() - 1), page)) excused |= (1u << page) & ~existing(next);
  if (step.synced && (next.sync & 0xff & ~excused) != 0)
    fail("a file was said to be synced that has not what was written before");
  const bool left_behind = oracle.cut_off(home);
  if (step.listed && !left_behind && (next.sync >> kToList & 0xff & ~step.list) != 0)
    fail("a sync did not list a page that is in memory");
  if (!parts_.facts(next.nodes[home.value()]).syncing) next.sync = 0;
}

}  // namespace gob::model
