#include "tests/sim/simulator.h"

#include <algorithm>

#include "tests/sim/hash.h"

namespace gob::sim {
namespace {

using Kind = WorldEvent::Kind;
constexpr std::uint64_t kUs = 1000;
constexpr std::uint64_t kMs = 1000 * kUs;

NodeId node_id(unsigned i) { return NodeId{static_cast<std::uint16_t>(i)}; }

}  // namespace

Simulator::Simulator(const SimOptions& options)
    : options_(options),
      random_(options.seed),
      world_(options.world),
      last_arrival_(std::size_t{options.world.geometry.nodes} * options.world.geometry.nodes),
      slowness_(last_arrival_.size()),
      habits_(std::size_t{options.world.geometry.nodes} * options.world.threads),
      may_starve_(!options.world.budgets.empty()) {
  for (Habit& habit : habits_) {
    habit.kind = static_cast<Habit::Kind>(random_.pick(4));
    habit.page = random_.pick(options_.world.geometry.pages());
  }
}

SimResult Simulator::run(std::vector<WorldEvent>* record) {
  record_ = record;
  world_.start();
  const std::uint64_t rests = 4;
  for (std::uint64_t part = 1; part <= rests && world_.violation().empty(); ++part) {
    for (unsigned i = 0; i < habits_.size(); ++i)
      plan_access(i / options_.world.threads, i % options_.world.threads);
    plan_environment();
    while (result_.steps < options_.steps * part / rests && !queue_.empty() &&
           world_.violation().empty()) {
      const Planned next = queue_.top();
      queue_.pop();
      now_ = next.time;
      apply(next.event);
    }
    bring_to_rest();
  }
  if (result_.violation.empty()) result_.violation = world_.violation();
  if (result_.violation.empty()) result_.violation = world_.check_history();
  return result_;
}

void Simulator::plan(Time delay, const WorldEvent& event) {
  queue_.push({now_ + delay, order_++, event});
}

// The network: a one-way trip of this model, never overtaking on the same link.
Simulator::Time Simulator::latency(unsigned link) {
  switch (options_.latency) {
    case Latency::kFixed:
      return 10 * kUs;
    case Latency::kUniform:
      return random_.between(5 * kUs, 50 * kUs);
    case Latency::kHeavyTail: {
      // Doubles with probability one half each time: most are short, some a thousand times longer.
      Time time = random_.between(2 * kUs, 10 * kUs);
      for (unsigned i = 0; i < 10 && random_.one_in(2); ++i) time *= 2;
      return time;
    }
    case Latency::kLopsided:
      if (random_.one_in(200))
        slowness_[link] = static_cast<std::uint8_t>(random_.one_in(3) ? random_.pick(11) : 0);
      return random_.between(2 * kUs, 10 * kUs) << slowness_[link];
  }
  return 0;
}

void Simulator::plan_access(unsigned node, unsigned thread) {
  Habit& habit = habits_[node * options_.world.threads + thread];
  if (habit.planned || resting_) return;
  habit.planned = true;
  const Time think = random_.one_in(4) ? random_.between(0, 200 * kUs) : random_.below(5 * kUs);
  WorldEvent access{.kind = Kind::kRead, .node = node_id(node), .thread = thread};
  plan(think, access);  // what it is gets decided when it happens
}

WorldEvent Simulator::choose_access(unsigned node, unsigned thread) {
  const Geometry& geometry = options_.world.geometry;
  Habit& habit = habits_[node * options_.world.threads + thread];
  WorldEvent access{.kind = Kind::kRead, .node = node_id(node), .thread = thread};
  bool write = random_.below(100) < options_.writes_percent;
  switch (habit.kind) {
    case Habit::Kind::kAnywhere:
      habit.page = random_.pick(geometry.pages());
      break;
    case Habit::Kind::kFewPages:
      habit.page = random_.pick(std::min(geometry.pages(), 4u));
      break;
    case Habit::Kind::kInOrder:
      habit.page = (habit.page + 1) % geometry.pages();
      break;
    case Habit::Kind::kReadThenWrite:
      if (!habit.write_next) habit.page = random_.pick(geometry.pages());
      write = habit.write_next;
      habit.write_next = !habit.write_next;
      break;
  }
  if (random_.one_in(200)) habit.kind = static_cast<Habit::Kind>(random_.pick(4));
  if (write) access.kind = Kind::kWrite;
  const PageSet first = PageSet::of(geometry.page(habit.page));
  access.pages = first;
  // Neighbours in the same stripe: a run that is wanted, then some asked for ahead.
  const unsigned wanted = random_.one_in(6) ? 1 + random_.pick(8) : 1;
  const bool streams = habit.kind == Habit::Kind::kInOrder || random_.one_in(10);
  const unsigned ahead = streams ? random_.pick(17) : 0;
  for (unsigned i = 1; i < wanted + ahead && habit.page + i < geometry.pages(); ++i) {
    const PageSet next = PageSet::of(geometry.page(habit.page + i));
    if (next.container != first.container || next.stripe != first.stripe) break;
    (i < wanted ? access.pages.mask : access.ahead) |= next.mask;
  }
  return access;
}

void Simulator::apply(const WorldEvent& planned) {
  WorldEvent event = planned;
  const bool is_access = (event.kind == Kind::kRead || event.kind == Kind::kWrite);
  if (is_access) {
    habits_[event.node.value() * options_.world.threads + event.thread].planned = false;
    if (resting_) return;
    event = choose_access(event.node.value(), event.thread);
  }
  if (event.kind == Kind::kIo) {
    const NodeModel& at = world_.node(event.node);
    std::vector<unsigned> may_finish;
    for (unsigned i = 0; i < at.io().size(); ++i)
      if (at.may_finish(i)) may_finish.push_back(i);
    if (!may_finish.empty())
      event.index = may_finish[random_.pick(static_cast<unsigned>(may_finish.size()))];
  }
  if (event.kind == Kind::kPropose) proposing_ = false;
  if (!world_.refuses(event).empty()) return;  // overtaken by something else
  if (record_ != nullptr) record_->push_back(event);
  world_.apply(event);
  ++result_.steps;
  Hash digest;
  digest.add(result_.digest);
  digest.add(now_);
  digest.add(static_cast<std::uint64_t>(event.kind) << 32 | event.node.value());
  digest.add(event.pages.mask);
  digest.add(world_.effects().sent.size());
  result_.digest = digest.value();
  follow_up(event);
}

// What comes of the event later.
void Simulator::follow_up(const WorldEvent& event) {
  const Effects& fx = world_.effects();
  const unsigned node = event.node.value();
  const unsigned nodes = options_.world.geometry.nodes;
  result_.accesses += fx.done.size();
  result_.refusals += fx.refused.size();
  for (const Effects::Sent& sent : fx.sent) {
    const unsigned link = node * nodes + sent.to.value();
    Time& last = last_arrival_[link];
    last = std::max(last + 1, now_ + latency(link));
    plan(last - now_, {.kind = Kind::kDeliver, .node = sent.to, .from = event.node});
  }
  for (const unsigned thread : fx.woken)
    plan(random_.below(8 * kUs), {.kind = Kind::kRetry, .node = event.node, .thread = thread});
  for (const unsigned page : fx.held)
    plan(random_.between(1 * kUs, 20 * kUs),
         {.kind = Kind::kHoldExpired,
          .node = event.node,
          .pages = PageSet::of(options_.world.geometry.page(page))});
  for (unsigned i = 0; i < fx.io_started; ++i) {
    const bool ok = !(options_.io_failures && !resting_ && random_.one_in(5));
    plan(random_.between(20 * kUs, 500 * kUs), {.kind = Kind::kIo, .node = event.node, .ok = ok});
  }
  if (world_.oracle().view_of(event.node) != ViewOracle::kNone) {
    const std::vector<Thread>& threads = world_.node(event.node).threads();
    for (unsigned t = 0; t < threads.size(); ++t) {
      if (threads[t].state == Thread::State::kIdle) plan_access(node, t);
      if (threads[t].state == Thread::State::kBlocked && options_.expiries && random_.one_in(500))
        plan(random_.below(2 * kMs),
             {.kind = Kind::kExpire, .node = event.node, .pages = threads[t].pages});
    }
  }
  if (event.kind == Kind::kPropose) {
    for (unsigned i = 0; i < nodes; ++i)
      plan(random_.below(1 * kMs),
           {.kind = Kind::kView, .node = node_id(i), .index = world_.oracle().views() - 1});
  }
  watch_membership();
}

// Membership notices after a while, and tells each node in its own time.
void Simulator::watch_membership() {
  const ViewOracle& oracle = world_.oracle();
  if (oracle.is_outdated() && !proposing_) {
    proposing_ = true;
    plan(random_.between(50 * kUs, 2 * kMs), {.kind = Kind::kPropose});
  }
}

void Simulator::bring_to_rest() {
  resting_ = true;
  drain();
  resting_ = false;
}

}  // namespace gob::sim
