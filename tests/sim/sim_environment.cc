// What befalls the simulated cluster from outside, how it is brought to rest, and options by seed.
#include <algorithm>

#include "tests/sim/simulator.h"

namespace gob::sim {
namespace {

using Kind = WorldEvent::Kind;
constexpr std::uint64_t kUs = 1000;
constexpr std::uint64_t kMs = 1000 * kUs;

NodeId node_id(unsigned i) { return NodeId{static_cast<std::uint16_t>(i)}; }

}  // namespace

// The connection of two nodes breaks: of what is on its way on either link, some arrives, some does
// not. The one that loses goes on by itself for a while, is fenced, and may join again, empty.
void Simulator::plan_disconnect(Time when, NodeId stays, NodeId loser) {
  plan(when, {.kind = Kind::kDisconnect, .node = loser, .from = stays});
  plan(when + random_.below(100 * kUs), {.kind = Kind::kCut, .node = loser, .from = stays});
  plan(when + random_.below(100 * kUs), {.kind = Kind::kCut, .node = stays, .from = loser});
  // If it is not cut off by then, it will be asked again.
  for (unsigned again = 1; again <= 3; ++again)
    plan(when + again * random_.below(5 * kMs), {.kind = Kind::kFence, .node = loser});
}

// Plans some of each for the next part of the run; those that cannot happen when their time comes
// are passed over.
void Simulator::plan_environment() {
  const Geometry& geometry = options_.world.geometry;
  const auto any_node = [&] { return node_id(random_.pick(geometry.nodes)); };
  const Time span = 20 * kMs;
  if (options_.flushes) {
    for (unsigned i = 0; i < 60; ++i) {
      WorldEvent flush{.kind = Kind::kFlush, .node = any_node()};
      flush.pages = PageSet::of(geometry.page(random_.pick(geometry.pages())));
      plan(random_.below(span), flush);
    }
  }
  if (options_.write_backs) {
    for (unsigned i = 0; i < 60; ++i) {
      WorldEvent write{.kind = Kind::kWriteBack};
      write.pages = PageSet::of(geometry.page(random_.pick(geometry.pages())));
      if (random_.one_in(3))
        for (unsigned page = 0; page < geometry.pages(); ++page)
          if (const PageSet more = PageSet::of(geometry.page(page));
              more.with(0) == write.pages.with(0))
            write.pages.mask |= more.mask;
      if (random_.one_in(4)) write.kind = Kind::kDiscard;
      write.node = options_.world.home_of(write.pages.container);
      if (write.node != kNoNode) plan(random_.below(span), write);
    }
  }
  for (unsigned i = 0; options_.syncs && i < 20; ++i) {
    WorldEvent sync{.kind = Kind::kSync, .index = random_.one_in(4) ? 1u : 0u};
    sync.pages = PageSet::of(geometry.page(random_.pick(geometry.pages())));
    sync.node = options_.world.home_of(sync.pages.container);
    if (sync.node != kNoNode) plan(random_.below(span), sync);
  }
  if (options_.removals && random_.one_in(2)) {
    WorldEvent remove{.kind = Kind::kRemove};
    remove.pages = PageSet::of(geometry.page(random_.pick(geometry.pages())));
    if (remove.pages.container.value() != 1) {  // one stays
      const Time when = random_.below(span);
      for (unsigned i = 0; i < geometry.nodes; ++i) {
        remove.node = node_id(i);
        plan(when + random_.below(1 * kMs), remove);
      }
    }
  }
  plan_faults();
}

void Simulator::plan_faults() {
  const Geometry& geometry = options_.world.geometry;
  const Time span = 20 * kMs;
  for (unsigned i = 0; i < geometry.nodes; ++i) {
    const NodeId node = node_id(i);
    const Time when = random_.below(span);
    if (options_.crashes && random_.one_in(2)) {
      plan(when, {.kind = Kind::kCrash, .node = node});
      for (unsigned to = 0; to < geometry.nodes; ++to)
        if (random_.one_in(2))
          plan(when + random_.below(100 * kUs),
               {.kind = Kind::kCut, .node = node_id(to), .from = node});
    } else if (options_.leaves && random_.one_in(3)) {
      // Asked again and again, as a host does until everything is handed over.
      for (unsigned again = 0; again < 40; ++again)
        plan(when + again * 250 * kUs, {.kind = Kind::kLeave, .node = node});
    }
    if (options_.disconnects && random_.one_in(3))
      plan_disconnect(when, node_id(random_.pick(geometry.nodes)), node);
    if (random_.one_in(2))
      plan(when + random_.below(10 * kMs), {.kind = Kind::kRestart, .node = node});
  }
}

void Simulator::plan_write_backs() {
  for (unsigned i = 0; i < options_.world.geometry.nodes; ++i) {
    if (!world_.oracle().alive(node_id(i))) continue;
    const Core& core = world_.node(node_id(i)).core();
    for (const ContainerId id : core.dirty_files())
      for (const PageSet& pages : core.file_pages(id, false))
        plan(0, {.kind = Kind::kWriteBack, .node = node_id(i), .pages = pages});
  }
}

// The clocks of programs that wait, where they may wait for room that nobody can make.
void Simulator::press_clocks() {
  for (unsigned i = 0; may_starve_ && i < options_.world.geometry.nodes; ++i) {
    if (!world_.oracle().alive(node_id(i))) continue;
    for (const Thread& thread : world_.node(node_id(i)).threads())
      if (thread.state == Thread::State::kBlocked)
        plan(0, {.kind = Kind::kExpire, .node = node_id(i), .pages = thread.pages});
  }
}

void Simulator::drain() {
  const ViewOracle& oracle = world_.oracle();
  // Generous: what is under way ends within a few steps for each page and node.
  const std::uint64_t most = result_.steps + 200'000;
  // A page that no hold keeps may make room for another before its program has seen it, and come
  // back in that one's place, for ever.
  std::uint64_t next_clocks = options_.world.core.hold_grants ? most : result_.steps + 100'000;
  bool pressed = false;
  unsigned asked_to_leave = 0;
  unsigned rounds = 0;
  while (world_.violation().empty() && result_.steps < most) {
    if (result_.steps >= next_clocks) {
      next_clocks += 1000;
      press_clocks();
    }
    if (!queue_.empty()) {
      const Planned next = queue_.top();
      queue_.pop();
      now_ = next.time;
      apply(next.event);
      continue;
    }
    watch_membership();
    if (!queue_.empty()) continue;
    for (unsigned i = 0; i < options_.world.geometry.nodes; ++i)
      if (oracle.cut_off(node_id(i))) plan(0, {.kind = Kind::kFence, .node = node_id(i)});
    if (!queue_.empty()) continue;
    // Hosts ask until all is handed over, or nobody can take it.
    for (unsigned i = 0; i < options_.world.geometry.nodes && asked_to_leave < 40; ++i)
      if (oracle.life(node_id(i)) == ViewOracle::Life::kUp && world_.node(node_id(i)).leaving())
        plan(0, {.kind = Kind::kLeave, .node = node_id(i)});
    ++asked_to_leave;
    if (!queue_.empty()) continue;
    if (!pressed) {
      pressed = true;
      press_clocks();
      if (!queue_.empty()) continue;
    }
    // Homes write back what is dirty from time to time.
    if (rounds++ < 2 && !world_.check_rest().empty()) plan_write_backs();
    if (queue_.empty()) break;
  }
  if (!world_.violation().empty()) return;
  if (!world_.is_quiet()) {
    result_.violation = "the cluster does not come to rest";
    return;
  }
  ++result_.rests;
  result_.violation = world_.check_rest();
}

SimOptions options_of(std::uint64_t seed, std::uint64_t steps) {
  Random random(seed ^ 0x5eed);
  SimOptions options;
  options.seed = seed;
  options.steps = steps;
  WorldConfig& world = options.world;
  Geometry& geometry = world.geometry;
  geometry.nodes =
      static_cast<std::uint16_t>(random.one_in(50) ? 50 + random.pick(6) : 2 + random.pick(7));
  geometry.containers = 1 + random.pick(3);
  constexpr unsigned kSizes[] = {1, 2, 3, 8, 20, 70, 150};
  geometry.pages_each = kSizes[random.pick(7)];
  geometry.stride = random.one_in(4) ? kStripePages : 1;
  world.threads = 1 + random.pick(3);
  options.latency = static_cast<Latency>(random.pick(4));
  options.crashes = random.one_in(3);
  options.disconnects = random.one_in(3);
  options.leaves = random.one_in(4);
  options.removals = geometry.containers > 1 && random.one_in(4);
  options.flushes = !random.one_in(4);
  options.expiries = !random.one_in(4);
  options.writes_percent = 10 + random.pick(70);
  world.core.swap = !random.one_in(5);
  world.core.hold_grants = !random.one_in(5);
  world.core.create_ahead = !random.one_in(4);
  if (random.one_in(2)) {
    // Room for a part of the pages at each node; all nodes together may have too little.
    for (unsigned i = 0; i < geometry.nodes; ++i)
      world.budgets.push_back(2 + random.below(geometry.pages() + 20));
    options.io_failures = world.core.swap && random.one_in(3);
  }
  if (random.one_in(6)) {
    world.files = 1 + random.pick(geometry.containers);
    options.write_backs = options.syncs = true;
  }
  return options;
}

std::string to_text(const SimOptions& options) {
  const WorldConfig& world = options.world;
  const auto flag = [](const char* name, bool on) {
    return on ? std::string(" ") + name : std::string();
  };
  constexpr const char* kLatencies[] = {"fixed", "uniform", "heavy-tail", "lopsided"};
  return "seed " + std::to_string(options.seed) + ": " + std::to_string(world.geometry.nodes) +
         " nodes, " + std::to_string(world.geometry.containers) + " x " +
         std::to_string(world.geometry.pages_each) + " pages, " + std::to_string(world.threads) +
         " threads, " + std::to_string(options.steps) + " steps, latency " +
         kLatencies[static_cast<unsigned>(options.latency)] + flag("crashes", options.crashes) +
         flag("disconnects", options.disconnects) + flag("leaves", options.leaves) +
         flag("removals", options.removals) + flag("budgets", !world.budgets.empty()) +
         flag("swap", world.core.swap) + flag("io-failures", options.io_failures) +
         flag("files", world.files != 0) + flag("syncs", options.syncs) +
         flag("holds", world.core.hold_grants);
}

// Leaves out ever smaller stretches of events, as long as something is violated all the same.
Scenario shrink(Scenario scenario, unsigned effort) {
  for (std::size_t stretch = scenario.events.size() / 2; stretch >= 1; stretch /= 2) {
    for (std::size_t at = 0; at < scenario.events.size() && effort > 0;) {
      Scenario shorter = scenario;
      const std::size_t end = std::min(at + stretch, shorter.events.size());
      shorter.events.erase(shorter.events.begin() + static_cast<std::ptrdiff_t>(at),
                           shorter.events.begin() + static_cast<std::ptrdiff_t>(end));
      --effort;
      if (replay(shorter, nullptr).empty())
        at += stretch;
      else
        scenario = std::move(shorter);
    }
  }
  return scenario;
}

}  // namespace gob::sim
