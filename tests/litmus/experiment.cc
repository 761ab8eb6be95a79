#include "tests/litmus/experiment.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <numeric>
#include <set>
#include <thread>

#include "gobbench/process.h"
#include "gobbench/session.h"
#include "tests/litmus/arena.h"
#include "tests/litmus/node_memory.h"
#include "tests/litmus/racer.h"

namespace gob::litmus {
namespace {

constexpr std::uint64_t kRunsForWeak = 4'000'000;

// What a program needs to know; the same in all.
struct Job {
  const Setup& setup;
  const bench::Cluster& cluster;
  Race race;
  std::vector<std::string> containers;
  std::set<unsigned> nodes;  // with a thread
  Arena& arena;
  Memory memory = Memory::kLibgob;
};

bool meet_programs(const Job& job) {
  return job.arena.programs.meet(static_cast<std::uint32_t>(job.nodes.size()), 0, job.arena.failed);
}

// The program on one node: a thread for each of the race's threads there.
bool run_program(const Job& job, unsigned node) {
  const bool first = node == *job.nodes.begin();
  const auto memory =
      job.memory == Memory::kSegments
          ? segments_of_node(job.cluster.nodes()[node].control_socket, node, kContainerPages)
          : containers_of_node(job.cluster.nodes()[node].control_socket, kContainerPages);
  if (first) memory->create(job.containers);
  if (!meet_programs(job)) return false;
  {
    const std::vector<std::uint64_t*> words = memory->open(job.containers);
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < job.setup.node_of.size(); ++t)
      if (job.setup.node_of[t] == node)
        threads.emplace_back([&, t] {
          // The control must see what two cores do to each other, so it needs two.
          const std::vector<unsigned> cpus = bench::usable_cpus();
          const bench::PinnedThread pinned(
              job.setup.is_control() ? std::optional(cpus[t % cpus.size()]) : std::nullopt);
          run_racer(job.race, t, words, job.arena);
        });
    for (std::thread& thread : threads) thread.join();
  }
  if (!first) memory->close();
  if (!meet_programs(job)) return false;
  if (first) {
    memory->close();
    memory->remove(job.containers);
  }
  return true;
}

pid_t start_program(const Job& job, unsigned node) {
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);
  try {
    if (run_program(job, node)) ::_exit(0);
  } catch (const std::exception& error) {
    job.arena.fail("the program on node " + job.cluster.nodes()[node].name + ": " + error.what());
  }
  ::_exit(1);
}

// Ends with the program: every wait in it is bounded.
void await_program(const Job& job, unsigned node, pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  const std::string how = WIFSIGNALED(status)
                              ? std::string("was killed by ") + ::strsignal(WTERMSIG(status))
                              : "failed";
  job.arena.fail("the program on node " + job.cluster.nodes()[node].name + " " + how +
                 "; the log of its gobd ends:\n" + job.cluster.log_end(node));
}

}  // namespace

Result<Tally> run_setup(const bench::Cluster& cluster, const Setup& setup, std::uint64_t runs,
                        std::uint64_t seed, Memory memory) {
  const ArenaPointer arena = make_arena();
  Job job{setup, cluster, {}, {}, {setup.node_of.begin(), setup.node_of.end()}, *arena, memory};
  job.race.program = setup.fenced ? setup.program.fenced() : setup.program;
  job.race.layout = setup.layout;
  job.race.seed = seed;
  job.race.runs = runs;
  if (setup.is_control()) job.race.runs_for_weak = std::max(runs, kRunsForWeak);
  const unsigned containers = setup.layout == Layout::kContainers ? setup.program.variables : 1;
  for (unsigned c = 0; c < containers; ++c) job.containers.push_back(bench::unique_name("litmus"));

  const auto begin = std::chrono::steady_clock::now();
  std::map<unsigned, pid_t> programs;
  for (const unsigned node : job.nodes) {
    programs[node] = start_program(job, node);
    if (programs[node] < 0) {
      const Error error = system_error("cannot start the programs of a litmus test");
      programs.erase(node);
      arena->fail(error.message());
    }
  }
  for (const auto& [node, pid] : programs) await_program(job, node, pid);
  if (const std::string failure = arena->failure(); !failure.empty())
    return make_error(ErrorCode::kSystem, setup.program.name + ": " + failure);

  Tally tally;
  tally.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  tally.runs = arena->runs;
  tally.alien = arena->alien;
  tally.faults = arena->faults;
  for (OutcomeCode code = 0; code < kOutcomeCodes; ++code)
    if (arena->counts[code] != 0) tally.counts[code] = arena->counts[code];
  return tally;
}

}  // namespace gob::litmus
