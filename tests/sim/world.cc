#include "tests/sim/world.h"

#include <algorithm>
#include <utility>

namespace gob::sim {
namespace {

NodeId node_id(unsigned i) { return NodeId{static_cast<std::uint16_t>(i)}; }

CoreConfig core_config(const WorldConfig& config, unsigned node) {
  CoreConfig core = config.core;
  core.self = node_id(node);
  core.cluster_size = config.geometry.nodes;
  if (!config.budgets.empty()) core.budget_frames = config.budgets[node];
  return core;
}

bool changes_membership(WorldEvent::Kind kind) {
  using Kind = WorldEvent::Kind;
  return kind == Kind::kCrash || kind == Kind::kFence || kind == Kind::kCut ||
         kind == Kind::kDisconnect || kind == Kind::kView || kind == Kind::kPropose;
}

}  // namespace

World::World(const WorldConfig& config)
    : config_(config),
      links_(std::size_t{config.geometry.nodes} * config.geometry.nodes),
      oracle_(config.geometry.nodes),
      current_(config.geometry.pages()),
      written_in_(config.geometry.pages()),
      may_be_lost_(config.geometry.pages()),
      rolled_back_(config.geometry.pages()),
      ended_(config.geometry.pages()),
      foreign_(config.geometry.pages()),
      seen_by_(config.geometry.pages()),
      revived_(config.geometry.pages()),
      doubt_(config.geometry.pages()),
      discarding_(config.geometry.pages()),
      asked_(config.geometry.pages()),
      synced_(config.geometry.pages()),
      synced_since_(config.geometry.pages()),
      to_list_(config.geometry.pages()),
      removed_(config.geometry.containers + 1) {
  nodes_.reserve(config.geometry.nodes);
  for (unsigned i = 0; i < config.geometry.nodes; ++i) {
    nodes_.emplace_back(config.geometry, core_config(config, i), config.threads);
    boot(node_id(i));
  }
}

// Tells a new core of the containers, as the name service would before programs can touch them.
void World::boot(NodeId node) {
  const Geometry& geometry = config_.geometry;
  for (std::uint32_t i = 1; i <= geometry.containers; ++i) {
    if (removed_[i] != 0) continue;
    ContainerInfo info;
    info.id = ContainerId{i};
    info.pages = std::uint64_t{geometry.pages_each} * geometry.stride;
    info.created = Epoch{1};
    info.home = config_.home_of(info.id);
    nodes_[node.value()].step(event::AddContainer{info}, nullptr, fx_);
  }
  if (!fx_.broken.empty()) fail(fx_.broken);
  fx_.clear();
}

void World::start() {
  apply({.kind = WorldEvent::Kind::kPropose});
  for (unsigned i = 0; i < config_.geometry.nodes; ++i)
    apply({.kind = WorldEvent::Kind::kView, .node = node_id(i)});
  for (bool moved = true; moved;) {
    moved = false;
    for (unsigned from = 0; from < config_.geometry.nodes; ++from) {
      for (unsigned to = 0; to < config_.geometry.nodes; ++to) {
        while (!link(node_id(from), node_id(to)).empty()) {
          apply({.kind = WorldEvent::Kind::kDeliver, .node = node_id(to), .from = node_id(from)});
          moved = true;
        }
      }
    }
  }
  if (!oracle_.settled()) fail("the first view was not established");
}

std::string World::refuses(const WorldEvent& event) const {
  using Kind = WorldEvent::Kind;
  const unsigned nodes = config_.geometry.nodes;
  if (event.node.value() >= nodes || event.from.value() >= nodes) return "no such node";
  const bool runs = oracle_.runs(event.node);
  const NodeModel& at = nodes_[event.node.value()];
  if (!event.pages.empty() && !config_.geometry.contains(event.pages)) return "no such page";
  switch (event.kind) {
    case Kind::kRead:
    case Kind::kWrite:
      if (event.pages.empty()) return "an access to nothing";
      if (event.thread >= config_.threads) return "no such thread";
      if (!config_.geometry.contains(event.pages.with(event.pages.mask | event.ahead)))
        return "no such page to read ahead";
      if (oracle_.view_of(event.node) == ViewOracle::kNone) return "the node has not started";
      return at.threads()[event.thread].state == Thread::State::kIdle ? "" : "the thread is busy";
    case Kind::kRetry:
      if (!runs || event.thread >= config_.threads) return "no such thread";
      return at.threads()[event.thread].state == Thread::State::kWoken ? "" : "nobody woke it";
    case Kind::kDeliver:
      if (!runs) return "the node is down";
      if (link(event.from, event.node).empty()) return "nothing is on its way";
      return oracle_.is_cut(event.from, event.node) ? "the link is cut" : "";
    case Kind::kIo:
      if (!runs || event.index >= at.io().size()) return "no such I/O";
      return at.may_finish(event.index) ? "" : "an earlier one of the page comes first";
    case Kind::kHoldExpired:
      if (!runs || event.pages.size() != 1) return "one page of a node that is up is needed";
      for (unsigned page = 0; page < config_.geometry.pages(); ++page)
        if (PageSet::of(config_.geometry.page(page)) == event.pages && at.held(page)) return "";
      return "no such hold";
    case Kind::kFlush:
    case Kind::kExpire:
    case Kind::kRemove:
      return runs && !event.pages.empty() ? "" : "the node is down, or no page is named";
    case Kind::kWriteBack:
    case Kind::kDiscard:
      if (!runs || event.pages.empty()) return "the node is down, or no page is named";
      return config_.home_of(event.pages.container) == event.node ? "" : "not the home";
    case Kind::kSync:
      if (!runs || event.pages.empty()) return "the node is down, or no file is named";
      if (config_.home_of(event.pages.container) != event.node) return "not the home";
      return at.syncing(event.pages.container) ? "a sync is under way" : "";
    case Kind::kLeave:
      if (oracle_.life(event.node) != ViewOracle::Life::kUp) return "the node is not up";
      return others_stay(event.node) ? "" : "nobody would be left";
    case Kind::kCrash:
      if (!oracle_.alive(event.node)) return "the node is down";
      return others_stay(event.node) ? "" : "nobody would be left";
    case Kind::kCut:
      if (oracle_.runs(event.from) && !oracle_.broken(event.from, event.node))
        return "the link is whole";
      return link(event.from, event.node).empty() ? "nothing is on its way" : "";
    case Kind::kDisconnect:
      if (event.node == event.from || !may_lose_link(event.node) || !may_lose_link(event.from) ||
          oracle_.condemned(event.from))
        return "not two members that go on";
      return others_stay(event.node) ? "" : "nobody would be left";
    case Kind::kFence:
      return oracle_.cut_off(event.node) ? "" : "the node is not cut off";
    case Kind::kRestart:
      return runs ? "the node is up" : "";
    case Kind::kPropose:
      return "";
    case Kind::kView:
      if (event.index >= oracle_.views()) return "no such view";
      if (!oracle_.may_enter(event.node, event.index)) return "the view is not for the node";
      return "";
  }
  return "no such event";
}

bool World::others_stay(NodeId node) const {
  for (unsigned i = 0; i < config_.geometry.nodes; ++i)
    if (node_id(i) != node && may_lose_link(node_id(i)) && !oracle_.condemned(node_id(i)))
      return true;
  return false;
}

bool World::may_lose_link(NodeId node) const {
  return oracle_.life(node) == ViewOracle::Life::kUp && !nodes_[node.value()].leaving();
}

void World::apply(const WorldEvent& event) {
  fx_.clear();
  const std::string refusal = refuses(event);
  if (!refusal.empty()) return fail("the event cannot happen: " + refusal);
  perform(event);
  if (changes_membership(event.kind))
    for (unsigned page = 0; page < config_.geometry.pages(); ++page) note_gone(page);
  settle_effects(event.node);
}

void World::perform(const WorldEvent& event) {
  using Kind = WorldEvent::Kind;
  NodeModel& at = nodes_[event.node.value()];
  switch (event.kind) {
    case Kind::kRead:
      return at.begin(event.thread, event.pages, Access::kRead, event.ahead, 0, fx_);
    case Kind::kWrite:
      return at.begin(event.thread, event.pages, Access::kWrite, event.ahead, ++last_write_, fx_);
    case Kind::kRetry:
      return at.retry(event.thread, ++last_write_, fx_);
    case Kind::kDeliver: {
      std::deque<Packet>& link = link_of(event.from, event.node);
      const Packet packet = std::move(link.front());
      link.pop_front();
      at.step(event::Deliver{event.from, packet.message}, &packet, fx_);
      // Bytes that came are somewhere now, or gone.
      if (!packet.bytes.empty())
        for_each_page(packet.message.pages,
                      [&](PageId id) { fx_.touched.push_back(config_.geometry.index(id)); });
      return;
    }
    case Kind::kIo:
      failed_io_ = failed_io_ || !event.ok;
      return at.finish_io(event.index, event.ok, fx_);
    case Kind::kHoldExpired:
      for_each_page(event.pages,
                    [&](PageId id) { at.expire_hold(config_.geometry.index(id), fx_); });
      return;
    case Kind::kFlush:
      return at.step(event::Flush{event.pages}, nullptr, fx_);
    case Kind::kExpire:
      return at.step(event::Expire{event.pages}, nullptr, fx_);
    case Kind::kWriteBack:
      ask_write_back(event.pages);
      return at.step(event::WriteBack{event.pages}, nullptr, fx_);
    case Kind::kDiscard:
      for_each_page(event.pages,
                    [&](PageId id) { discarding_[config_.geometry.index(id)] = 1; });
      return at.step(event::Discard{event.pages}, nullptr, fx_);
    case Kind::kSync:
      ask_sync(event.pages.container, event.index != 0);
      return at.begin_sync(event.pages.container, event.index != 0, fx_);
    case Kind::kLeave:
      away_ = true;
      return at.step(event::Leave{}, nullptr, fx_);
    case Kind::kCrash:
    case Kind::kFence:
      return crash(event.node);
    case Kind::kCut:
      note_doubts();
      link_of(event.from, event.node).clear();
      return note_losses();
    case Kind::kDisconnect:
      note_doubts();
      oracle_.disconnect(event.from, event.node);
      crashed_ = away_ = true;  // what only the loser holds is as good as dead
      return;
    case Kind::kRestart: {
      const NodeModel before = at;  // its disk is still there
      oracle_.restart(event.node);
      at = NodeModel(config_.geometry, core_config(config_, event.node.value()), config_.threads);
      for (unsigned i = 0; i < config_.geometry.nodes; ++i) {
        link_of(event.node, node_id(i)).clear();
        link_of(node_id(i), event.node).clear();
      }
      boot(event.node);
      for (unsigned page = 0; page < config_.geometry.pages(); ++page)
        if (at.on_device(page)) at.set_device(page, before.slot(page).value);
      return;
    }
    case Kind::kPropose:
      note_doubts();
      oracle_.propose();
      return note_losses();
    case Kind::kView:
      note_doubts();
      oracle_.enter(event.node, event.index);
      for (unsigned i = 0; i < config_.geometry.nodes; ++i)
        if (oracle_.is_cut(node_id(i), event.node)) link_of(node_id(i), event.node).clear();
      return at.step(event::NewView{oracle_.view(event.index)}, nullptr, fx_);
    case Kind::kRemove:
      removed_[event.pages.container.value()] = 1;
      return at.step(event::RemoveContainer{event.pages.container}, nullptr, fx_);
  }
}

void World::crash(NodeId node) {
  crashed_ = away_ = true;
  note_doubts();
  end_of(node);
  oracle_.crash(node);
  for (unsigned i = 0; i < config_.geometry.nodes; ++i) link_of(node_id(i), node).clear();
  note_losses();
}

void World::note_losses() {
  for (unsigned page = 0; page < config_.geometry.pages(); ++page)
    if (current_[page] != 0 && !exists(page)) may_be_lost_[page] = 1;
}

// The value of the last write is with a survivor, on the disk of a file's home, alive or not, or on
// its way between two of them.
bool World::exists(unsigned page) const {
  return in_memory(page) || (home_of(page) != kNoNode && on_disk(page) == current_[page]);
}

bool World::in_memory(unsigned page) const {
  const unsigned nodes = config_.geometry.nodes;
  for (unsigned i = 0; i < nodes; ++i)
    if (oracle_.alive(node_id(i)) && nodes_[i].keeps(page, current_[page])) return true;
  const PageId id = config_.geometry.page(page);
  for (unsigned from = 0; from < nodes; ++from) {
    if (!oracle_.alive(node_id(from))) continue;
    for (unsigned to = 0; to < nodes; ++to) {
      if (!oracle_.alive(node_id(to))) continue;
      for (const Packet& packet : links_[from * nodes + to]) {
        const PageSet pages = packet.message.pages;
        if (packet.bytes.empty() || pages.container != id.container || !pages.contains(id.page))
          continue;
        if (packet.bytes[pages.rank(id.page)] == current_[page]) return true;
      }
    }
  }
  return false;
}

// Sends what the node sent, learns what its programs did, and checks what that touched.
void World::settle_effects(NodeId node) {
  if (!fx_.broken.empty()) fail("node " + std::to_string(node.value()) + ": " + fx_.broken);
  for (Effects::Sent& sent : fx_.sent) {
    if (sent.to.value() >= config_.geometry.nodes) continue;
    if (oracle_.connected(node, sent.to)) link_of(node, sent.to).push_back(sent.packet);
  }
  for (const Effects::Done& done : fx_.done) settle_access(node, done);
  for (const unsigned page : fx_.touched) {
    // A node that is not told of a death yet may grant to the dead, or drop a copy for a write
    // whose bytes died on their way: nobody can know better.
    if (current_[page] != 0 && (oracle_.mourns(node) || discarding_[page] != 0) && !exists(page))
      may_be_lost_[page] = 1;
    if (home_of(page) != kNoNode && on_disk(page) == current_[page]) {
      foreign_[page] = 0;
      seen_by_[page].clear();
    }
    note_gone(page);
    check_page(page);
  }
  for (const Effects::Refused& refused : fx_.refused) settle_refusal(node, refused);
  for (const Effects::Job& job : fx_.jobs) settle_job(node, job);
  for (const Effects::Synced& sync : fx_.synced) settle_sync(node, sync);
  if (fx_.left) oracle_.left(node);
  if (fx_.serving) oracle_.served(node);
}

void World::settle_access(NodeId node, const Effects::Done& done) {
  if (removed_[config_.geometry.page(done.page).container.value()] != 0) return;
  if (outlived(node, done.page)) return;
  const bool writes = done.access == Access::kWrite;
  history_.add({node, done.thread, done.page, writes, done.value});
  if (writes) return note_write(node, done.page, done.value);
  // What a node sees that the others count as dead settles nothing for them.
  if (!oracle_.cut_off(node)) doubt_[done.page] = 0;
  if (done.value == current_[done.page]) seen_by_[done.page].insert(node);
  roll_back(done.page, done.value);
  if (done.value != current_[done.page] && !may_be_stale(node, done.page)) {
    fail("node " + std::to_string(node.value()) + " read " + std::to_string(done.value) +
         " from page " + std::to_string(done.page) + ", whose last write is " +
         std::to_string(current_[done.page]));
  }
}

// A node that was cut off goes on with what it had until it is fenced. Nothing of what it does
// reaches the others, so its reads come before their writes in an order that all agree on; that
// there is such an order is what the history check shows.
bool World::may_be_stale(NodeId node, unsigned page) const {
  return oracle_.cut_off(node) && written_in_[page] > oracle_.view_of(node);
}

// A page that a home's end took back to what its file has is out of order by what it is.
std::string World::check_history() const {
  return history_.check([this](unsigned page) {
    return removed_[config_.geometry.page(page).container.value()] != 0 || rolled_back_[page] != 0;
  });
}

void World::settle_refusal(NodeId node, const Effects::Refused& refused) {
  const unsigned page = refused.page;
  bool allowed = true;
  switch (refused.refusal) {
    case Refusal::kLost:
      allowed = current_[page] == 0 ? crashed_ : may_be_lost_[page] != 0 && !exists(page);
      // The file may have it without anybody's being sure of that.
      if (home_of(page) != kNoNode && !in_memory(page))
        allowed = allowed || doubt_[page] != 0 || both_died(page);
      allowed = allowed || revived_[page] != 0;
      // Who has not heard yet that the container is gone may count on those who have.
      allowed = allowed || removed_[config_.geometry.page(page).container.value()] != 0;
      break;
    case Refusal::kRemoved:
      allowed = removed_[config_.geometry.page(page).container.value()] != 0;
      break;
    case Refusal::kIo:
      allowed = failed_io_ || (away_ && nodes_[node.value()].of_file(page));
      break;
    case Refusal::kNone:
    case Refusal::kSkipped:
    case Refusal::kRange:
      allowed = false;
      break;
    case Refusal::kTimedOut:
    case Refusal::kNoRoom:
    case Refusal::kLeaving:
      break;
  }
  if (!allowed)
    fail("needless refusal of page " + std::to_string(page) + " at node " +
         std::to_string(node.value()) + ": " + name_of(refused.refusal) +
         (exists(page) ? ", though its bytes exist" : ""));
}

// Invariants 1, 2 and 6 for one page, over the rights of programs everywhere.
void World::check_page(unsigned page) {
  if (removed_[config_.geometry.page(page).container.value()] != 0) return;
  unsigned writers = 0;
  unsigned copies = 0;
  for (unsigned i = 0; i < config_.geometry.nodes; ++i) {
    if (!oracle_.runs(node_id(i))) continue;
    const Frame& frame = nodes_[i].frame(page);
    if (outlived(node_id(i), page)) continue;
    if (frame.rights == Access::kWrite) ++writers;
    if (may_be_stale(node_id(i), page)) continue;
    if (frame.present && (frame.rights == Access::kWrite || !oracle_.cut_off(node_id(i)))) ++copies;
    if (frame.rights != Access::kNone) roll_back(page, frame.value);
    if (frame.rights != Access::kNone && frame.value != current_[page])
      fail("programs of node " + std::to_string(i) + " can read " + std::to_string(frame.value) +
           " from page " + std::to_string(page) + ", whose last write is " +
           std::to_string(current_[page]));
  }
  if (writers > 0 && copies > 1)
    fail("page " + std::to_string(page) + " is writable, but not the only copy");
  if (current_[page] != 0 && may_be_lost_[page] == 0 && !exists(page))
    fail("the bytes of page " + std::to_string(page) + " are nowhere, and no node died with them");
}

bool World::is_quiet() const {
  if (!oracle_.settled()) return false;
  const unsigned nodes = config_.geometry.nodes;
  for (unsigned to = 0; to < nodes; ++to) {
    if (!oracle_.alive(node_id(to))) continue;
    for (unsigned from = 0; from < nodes; ++from)
      if (!links_[from * nodes + to].empty() && !oracle_.is_cut(node_id(from), node_id(to)))
        return false;
    const NodeModel& at = nodes_[to];
    if (!at.io().empty() || at.any_held()) return false;
    for (const Thread& thread : at.threads())
      if (thread.state == Thread::State::kWoken) return false;
  }
  return true;
}

void World::fail(std::string text) {
  if (violation_.empty()) violation_ = std::move(text);
}

}  // namespace gob::sim
