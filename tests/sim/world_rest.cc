// What must hold when nothing moves (invariants 4 and 5), and words for traces.
#include <algorithm>

#include "tests/sim/world.h"

namespace gob::sim {
namespace {

NodeId node_id(unsigned i) { return NodeId{static_cast<std::uint16_t>(i)}; }

constexpr const char* kKindNames[] = {"read",         "write",   "retry",      "deliver", "io",
                                      "hold-expired", "flush",   "expire",     "leave",   "crash",
                                      "cut",          "restart", "propose",    "view",    "remove",
                                      "disconnect",   "fence",   "write-back", "discard", "sync"};

}  // namespace

const char* name_of(WorldEvent::Kind kind) { return kKindNames[static_cast<unsigned>(kind)]; }

std::optional<WorldEvent::Kind> kind_named(const std::string& name) {
  for (unsigned i = 0; i < std::size(kKindNames); ++i)
    if (name == kKindNames[i]) return static_cast<WorldEvent::Kind>(i);
  return std::nullopt;
}

std::string World::check_rest() const {
  const unsigned nodes = config_.geometry.nodes;
  for (unsigned i = 0; i < nodes; ++i) {
    if (!oracle_.alive(node_id(i))) continue;
    const NodeModel& at = nodes_[i];
    for (const Thread& thread : at.threads())
      if (thread.state == Thread::State::kBlocked)
        return "a program of node " + std::to_string(i) + " waits for ever for " +
               to_text(thread.pages);
    if (!at.core().at_rest())
      return "nothing moves, but node " + std::to_string(i) + " is not at rest";
    if (at.any_syncing()) return "a sync at node " + std::to_string(i) + " never ends";
  }
  const View& view = oracle_.view(oracle_.views() - 1);
  for (unsigned page = 0; page < config_.geometry.pages(); ++page) {
    const PageId id = config_.geometry.page(page);
    const std::string name = "page " + std::to_string(page) + ": ";
    const NodeId manager = view.manager(id.container, id.page.value() / kStripePages);
    NodeSet holders;
    for (unsigned i = 0; i < nodes; ++i) {
      if (!oracle_.alive(node_id(i))) continue;
      if (nodes_[i].core().local(id).state != PageState::kInvalid) holders.add(node_id(i));
      if (nodes_[i].core().entry(id) && node_id(i) != manager)
        return name + "node " + std::to_string(i) + " has a directory entry, but is no manager";
    }
    const auto entry = nodes_[manager.value()].core().entry(id);
    if (removed_[id.container.value()] != 0) {
      bool told_all = true;
      for (unsigned i = 0; i < nodes; ++i)
        told_all = told_all && (!oracle_.alive(node_id(i)) || nodes_[i].told_removed(id.container));
      if (told_all && (entry || !holders.empty())) return name + "its container is gone, it is not";
      continue;
    }
    if (!entry) {
      if (!holders.empty()) return name + "it is held, but its manager does not know it";
      const bool in_file = nodes_[manager.value()].of_file(page) && exists(page);
      if (current_[page] != 0 && may_be_lost_[page] == 0 && !in_file)
        return name + "it is forgotten";
      if (foreign_[page] != 0 && !exists(page) && !forgotten(page) && !both_died(page))
        return name + "others than the home wrote it, and it is taken for what the file has";
      continue;
    }
    if (entry->lost != 0) {
      if (!holders.empty()) return name + "its manager says lost, but it is held";
      continue;
    }
    const NodeId home = config_.home_of(id.container);
    if (home != kNoNode && oracle_.alive(home) && entry->dirty == 0 && !forgotten(page) &&
        nodes_[home.value()].slot(page).value != current_[page])
      return name + "its manager says that the file has it, but the file is older";
    if (!holders.has(entry->owner())) return name + "its owner does not hold it";
    NodeSet missing{holders.bits() & ~entry->copyset().bits()};
    if (!missing.empty()) return name + "a holder is not in the copyset";
    if (nodes <= NodeSet::kBits && entry->copyset() != holders)
      return name + "the copyset names a node that holds nothing";
  }
  return {};
}

std::optional<WorldEvent> next_move(const World& world) {
  using Kind = WorldEvent::Kind;
  const Geometry& geometry = world.config().geometry;
  const auto enabled = [&](const WorldEvent& event) { return world.refuses(event).empty(); };
  if (world.oracle().is_outdated()) return WorldEvent{.kind = Kind::kPropose};
  for (unsigned to = 0; to < geometry.nodes; ++to) {
    for (unsigned from = 0; from < geometry.nodes; ++from) {
      const WorldEvent deliver{.kind = Kind::kDeliver, .node = node_id(to), .from = node_id(from)};
      if (enabled(deliver)) return deliver;
    }
  }
  for (unsigned i = 0; i < geometry.nodes; ++i) {
    const WorldEvent view{
        .kind = Kind::kView, .node = node_id(i), .index = world.oracle().views() - 1};
    if (enabled(view)) return view;
    if (world.oracle().cut_off(node_id(i)))
      return WorldEvent{.kind = Kind::kFence, .node = node_id(i)};
    if (!world.oracle().alive(node_id(i))) continue;
    const NodeModel& at = world.node(node_id(i));
    for (unsigned t = 0; t < at.threads().size(); ++t)
      if (at.threads()[t].state == Thread::State::kWoken)
        return WorldEvent{.kind = Kind::kRetry, .node = node_id(i), .thread = t};
    if (!at.io().empty()) return WorldEvent{.kind = Kind::kIo, .node = node_id(i)};
    for (unsigned page = 0; page < geometry.pages(); ++page)
      if (at.held(page))
        return WorldEvent{.kind = Kind::kHoldExpired,
                          .node = node_id(i),
                          .pages = PageSet::of(geometry.page(page))};
  }
  return std::nullopt;
}

std::string settle(World& world) {
  constexpr unsigned kMost = 1u << 20;
  for (unsigned i = 0; i < kMost; ++i) {
    const auto move = next_move(world);
    if (!move) return world.check_rest();
    world.apply(*move);
    if (!world.violation().empty()) return world.violation();
  }
  return "the cluster does not come to rest";
}

std::vector<unsigned> World::concerned(const WorldEvent& event) const {
  PageSet pages = event.pages;
  if (event.kind == WorldEvent::Kind::kDeliver && !link(event.from, event.node).empty())
    pages = link(event.from, event.node).front().message.pages;
  std::vector<unsigned> indices;
  if (config_.geometry.contains(pages))
    for_each_page(pages, [&](PageId id) { indices.push_back(config_.geometry.index(id)); });
  return indices;
}

std::string World::describe(const std::vector<unsigned>* pages) const {
  std::string text;
  const unsigned nodes = config_.geometry.nodes;
  for (unsigned i = 0; i < nodes; ++i) {
    if (!oracle_.runs(node_id(i))) {
      text += "  node " + std::to_string(i) + " is down\n";
      continue;
    }
    const NodeModel& at = nodes_[i];
    for (unsigned page = 0; page < config_.geometry.pages(); ++page) {
      if (pages != nullptr && std::find(pages->begin(), pages->end(), page) == pages->end())
        continue;
      const Frame& frame = at.frame(page);
      const Core& core = at.core();
      const PageId id = config_.geometry.page(page);
      if (!frame.present && core.local(id).state == PageState::kInvalid && !core.entry(id) &&
          core.pending(id) == nullptr)
        continue;
      text += "  page " + std::to_string(page) + " at " + core.describe(id) + "; frame ";
      text += frame.present ? "#" + std::to_string(frame.value) + " access " + name_of(frame.rights)
                            : std::string("absent");
      if (at.slot(page).kept) text += ", swapped #" + std::to_string(at.slot(page).value);
      text += "\n";
    }
    for (unsigned t = 0; t < at.threads().size(); ++t) {
      const Thread& thread = at.threads()[t];
      if (thread.state == Thread::State::kIdle) continue;
      text += "  node " + std::to_string(i) + " thread " + std::to_string(t) +
              (thread.state == Thread::State::kBlocked ? " waits to " : " wakes to ") +
              name_of(thread.access) + " " + to_text(thread.pages) + "\n";
    }
  }
  for (unsigned from = 0; from < nodes; ++from)
    for (unsigned to = 0; to < nodes; ++to)
      for (const Packet& packet : links_[from * nodes + to])
        text += "  " + std::to_string(from) + " -> " + std::to_string(to) + ": " + to_text(packet) +
                "\n";
  return text;
}

// For traces: a delivery shows its packet, so ask before the event happens.
std::string World::describe(const WorldEvent& event) const {
  if (event.kind != WorldEvent::Kind::kDeliver) return {};
  const std::deque<Packet>& packets = link(event.from, event.node);
  return packets.empty() ? std::string{} : to_text(packets.front());
}

}  // namespace gob::sim
