// The truth about files: what their disks must have, what may end with a home, and what may be
// refused as lost although it is not.
#include <algorithm>
#include <utility>

#include "tests/sim/world.h"

namespace gob::sim {
namespace {

NodeId node_id(unsigned i) { return NodeId{static_cast<std::uint16_t>(i)}; }

}  // namespace

NodeId World::home_of(unsigned page) const {
  return config_.home_of(config_.geometry.page(page).container);
}

Value World::on_disk(unsigned page) const { return nodes_[home_of(page).value()].slot(page).value; }

// Every page that some core takes for newer than its file: should these cores end now, nobody can
// know better later.
void World::note_doubts() {
  for (unsigned page = 0; page < config_.geometry.pages(); ++page) {
    const NodeId home = home_of(page);
    if (home == kNoNode) continue;
    const PageId id = config_.geometry.page(page);
    for (unsigned i = 0; i < config_.geometry.nodes && doubt_[page] == 0; ++i) {
      if (!oracle_.runs(node_id(i))) continue;
      const Core& core = nodes_[i].core();
      const auto entry = core.entry(id);
      bool dirty = core.local(id).dirty || (entry && (entry->dirty != 0 || entry->lost != 0));
      if (node_id(i) == home && !dirty)
        for (const PageSet& pages : core.file_pages(id.container, false))
          dirty = dirty || (pages.container == id.container && pages.contains(id.page));
      if (dirty) doubt_[page] = 1;
    }
  }
}

// Manager and home died at the same time, or were one node: whoever wrote the page may have died
// with them.
bool World::both_died(unsigned page, unsigned since) const {
  const PageId id = config_.geometry.page(page);
  const NodeId home = home_of(page);
  for (unsigned v = since; v < oracle_.views(); ++v) {
    for (const Loss& loss : oracle_.view(v).losses) {
      const NodeId manager =
          manager_among(loss.members, id.container, id.page.value() / kStripePages);
      const bool home_survived = std::ranges::count(loss.members, home) != 0 &&
                                 std::ranges::count(loss.dead, home) == 0;
      if (std::ranges::count(loss.dead, manager) != 0 && !home_survived) return true;
    }
  }
  return false;
}

// The node was left behind with a page that has a new life in its file since: what the node does
// with its own copy is nobody's affair.
bool World::outlived(NodeId node, unsigned page) const {
  return revived_[page] != 0 && may_be_stale(node, page);
}

// A node ends. What others wrote to a file of it is known to be lost, whoever managed or manages it,
// unless the home was to have it discarded.
void World::end_of(NodeId node) {
  for (unsigned page = 0; page < config_.geometry.pages(); ++page) {
    seen_by_[page].erase(node);
    if (home_of(page) != node) continue;
    asked_[page].clear();
    synced_[page] = to_list_[page] = 0;
    const bool forgotten = foreign_[page] == 0 || discarding_[page] != 0;
    if (on_disk(page) != current_[page] && forgotten) ended_[page] = 1;
  }
}

void World::ask_write_back(const PageSet& pages) {
  for_each_page(pages, [&](PageId id) {
    const unsigned page = config_.geometry.index(id);
    asked_[page].push_back(current_[page]);
  });
}

void World::settle_job(NodeId node, const Effects::Job& job) {
  const unsigned page = job.page;
  const Pending* next = nodes_[node.value()].core().pending(config_.geometry.page(page));
  if (job.discard) {
    if (next == nullptr) discarding_[page] = 0;
    if (job.refusal == Refusal::kNone) settle_discard(node, page);
    return;
  }
  std::vector<Value>& asked = asked_[page];
  const Value at_least = asked.empty() ? 0 : asked.front();
  if (!asked.empty()) asked.erase(asked.begin());
  if (next == nullptr) asked.clear();
  if (job.refusal != Refusal::kNone || may_be_stale(node, page)) return;
  if (ended_[page] != 0 || forgotten(page)) return;  // the file has what it had then
  if (removed_[config_.geometry.page(page).container.value()] != 0) return;  // while it was removed
  // Nobody writes while the disk is busy with it; if the manager says that nothing need be done,
  // somebody may have written since.
  const Value value = on_disk(page);
  const bool wrote = std::ranges::count(fx_.written, page) != 0;
  if (value < at_least || (wrote && value != current_[page]))
    fail("page " + std::to_string(page) + " was said to be written back, but the file has " +
         std::to_string(value));
}

// Nobody has the page any more, and nothing is on its way to the disk: the file service may put
// what it likes into the file.
void World::settle_discard(NodeId node, unsigned page) {
  for (unsigned i = 0; i < config_.geometry.nodes; ++i)
    if (oracle_.alive(node_id(i)) && nodes_[i].frame(page).present)
      fail("page " + std::to_string(page) + " was discarded, but node " + std::to_string(i) +
           " has it");
  if (may_be_lost_[page] != 0 || doubt_[page] != 0) revived_[page] = 1;
  const Value value = ++last_write_;
  nodes_[node.value()].set_device(page, value);
  history_.add({node, config_.threads, page, true, value});
  note_write(node, page, value);
  may_be_lost_[page] = doubt_[page] = 0;
  std::ranges::fill(asked_[page], 0);
}

void World::note_write(NodeId node, unsigned page, Value value) {
  current_[page] = value;
  written_in_[page] = oracle_.view_of(node);
  if (!oracle_.cut_off(node)) doubt_[page] = 0;
  ended_[page] = 0;
  if (home_of(page) == kNoNode) return;
  seen_by_[page].insert(node);
  if (node != home_of(page)) foreign_[page] = 1;
  if (on_disk(page) == value) foreign_[page] = 0;
}

// What was written before, by any node, shall be on the disk when the sync is answered; what is
// lost already cannot be. A sync that lists finds what is in memory all the time until it ends.
void World::ask_sync(ContainerId id, bool list) {
  for (unsigned page = 0; page < config_.geometry.pages(); ++page) {
    if (config_.geometry.page(page).container != id) continue;
    synced_[page] = !list && exists(page) ? current_[page] : 0;
    synced_since_[page] = oracle_.views();
    to_list_[page] = list;
    note_gone(page);
  }
}

// The page left the memory of a node, or may have.
void World::note_gone(unsigned page) {
  if (to_list_[page] == 0) return;
  const unsigned nodes = config_.geometry.nodes;
  for (unsigned i = 0; i < nodes; ++i)
    if (oracle_.alive(node_id(i)) && nodes_[i].has_or_reads(page)) return;
  const PageId id = config_.geometry.page(page);
  for (unsigned link = 0; link < links_.size(); ++link) {
    if (!oracle_.alive(node_id(link / nodes)) || !oracle_.alive(node_id(link % nodes))) continue;
    for (const Packet& packet : links_[link])
      if (!packet.bytes.empty() && packet.message.pages.container == id.container &&
          packet.message.pages.contains(id.page))
        return;
  }
  to_list_[page] = 0;
}

void World::settle_sync(NodeId node, const Effects::Synced& sync) {
  const ContainerId id = sync.container;
  const std::vector<PageSet> listed = nodes_[node.value()].core().file_pages(id, true);
  for (unsigned page = 0; page < config_.geometry.pages(); ++page) {
    if (config_.geometry.page(page).container != id) continue;
    const std::string name = "page " + std::to_string(page);
    const bool counts = sync.ok && removed_[id.value()] == 0;
    // With the home, before it came back; or with manager and writer before the home knew.
    const bool ended = !exists(page) && (ended_[page] != 0 || both_died(page, synced_since_[page]));
    if (counts && !sync.list && !ended && on_disk(page) < synced_[page])
      fail("a file was said to be synced, but of " + name + " it has " +
           std::to_string(on_disk(page)) + ", not " + std::to_string(synced_[page]));
    const auto has = [&](const PageSet& pages) {
      return pages.contains(config_.geometry.page(page).page);
    };
    if (counts && sync.list && to_list_[page] != 0 && !oracle_.cut_off(node) &&
        std::ranges::none_of(listed, has))
      fail("a sync did not list " + name + ", which is in memory");
    synced_[page] = to_list_[page] = 0;
  }
}

// What the home of a file wrote and had not written back ends with it, as with any local program;
// so does what only nodes know that died or were left behind.
bool World::forgotten(unsigned page) const {
  const auto goes_on = [&](NodeId node) { return oracle_.alive(node); };
  const bool unknown = std::ranges::none_of(seen_by_[page], goes_on);
  return (ended_[page] != 0 || unknown) && !exists(page);
}

// The page is then what the file has.
void World::roll_back(unsigned page, Value value) {
  const NodeId home = home_of(page);
  if (home == kNoNode || value == current_[page] || !forgotten(page)) return;
  if (on_disk(page) != value) return;
  current_[page] = value;
  synced_[page] = std::min(synced_[page], value);
  std::ranges::fill(asked_[page], 0);
  may_be_lost_[page] = 0;
  rolled_back_[page] = revived_[page] = 1;
  written_in_[page] = oracle_.views() - 1;
}

}  // namespace gob::sim
