// The programs of a simulated cluster: they touch, fault, compute and meet.
#include <algorithm>

#include "gobbench/simulate/sim_cluster.h"

namespace gob::bench {

Status SimCluster::run(std::vector<std::unique_ptr<Program>> programs) {
  first_start_ = ~SimTime{0};
  last_end_ = 0;
  running_ = programs.size();
  for (std::size_t i = 0; i < programs.size(); ++i) {
    programs_[i] = {};
    programs_[i].program = std::move(programs[i]);
    programs_[i].state = Running::State::kReady;
    queue_.plan(queue_.now(), {What::kProgram, kShard, static_cast<std::uint16_t>(i), 0});
  }
  if (Status drained = drain(); !drained) return drained;
  if (running_ != 0)
    return make_error(ErrorCode::kProtocol, "simulation: " + std::to_string(running_) +
                                                " programs wait for what never comes");
  return {};
}

// The program goes on: it was made ready, its computation may be done, or what it waited for came.
void SimCluster::run_program(unsigned node) {
  Running& running = programs_[node];
  if (running.state == Running::State::kEnded) return;
  if (running.state == Running::State::kComputing && queue_.now() < running.compute_until)
    return queue_.plan(running.compute_until,
                       {What::kProgram, kShard, static_cast<std::uint16_t>(node), 0});
  if (running.state != Running::State::kWaiting || !running.miss) {
    if (running.state != Running::State::kReady) running.step.reset();  // computed, or met
  }
  running.state = Running::State::kReady;
  for (;;) {
    if (!running.step) {
      running.step = running.program->next();
      running.range = 0;
      running.page = 0;
    }
    switch (running.step->kind) {
      case ProgramStep::Kind::kEnd:
        return end_program(node);
      case ProgramStep::Kind::kStartClock:
        first_start_ = std::min(first_start_, queue_.now());
        running.misses.clear();
        nodes_[node].counters() = {};
        break;
      case ProgramStep::Kind::kBarrier:
        running.state = Running::State::kWaiting;
        return queue_.plan(queue_.now() + to_ns(timing_.call_us),
                           {What::kBarrierCall, kControl, static_cast<std::uint16_t>(node), 0});
      case ProgramStep::Kind::kWork: {
        if (!touch_all(node, running)) return;
        if (running.step->compute_ns == 0) break;
        // One processor: gobd ends what it is at first.
        SimTime begin = queue_.now();
        if (timing_.cores < 2)
          for (const Server& server : servers_[node]) begin = std::max(begin, server.busy_until);
        running.state = Running::State::kComputing;
        running.compute_until = begin + running.step->compute_ns;
        return queue_.plan(running.compute_until,
                           {What::kProgram, kShard, static_cast<std::uint16_t>(node), 0});
      }
    }
    running.step.reset();
  }
}

// Touches what is left of the step's ranges. False: a page is missing, the program stands still.
bool SimCluster::touch_all(unsigned node, Running& running) {
  for (; running.range < running.step->range_count; ++running.range, running.page = 0) {
    const PageRange& range = running.step->ranges[running.range];
    const auto here = [&] {
      return PageId{range.first.container, PageIndex{range.first.page.value() + running.page}};
    };
    const std::uint32_t allowed =
        nodes_[node].memory().allowed_from(here(), range.pages - running.page, range.access);
    if (allowed > 0 && running.miss) {
      running.miss->ns = queue_.now() - running.miss->ns;
      running.misses.push_back(*running.miss);
      running.miss.reset();
    }
    running.page += allowed;
    if (running.page == range.pages) continue;
    // What is taken away again before the program had its turn is one longer miss.
    if (!running.miss) running.miss = MissSample{here(), range.access, queue_.now()};
    running.state = Running::State::kWaiting;
    queue_.plan(queue_.now() + to_ns(timing_.fault_us),
                {What::kFault, kShard, static_cast<std::uint16_t>(node), 0});
    return false;
  }
  return true;
}

void SimCluster::end_program(unsigned node) {
  programs_[node].state = Running::State::kEnded;
  last_end_ = std::max(last_end_, queue_.now());
  --running_;
}

}  // namespace gob::bench
