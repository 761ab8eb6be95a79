#include "tests/history/stress.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csetjmp>
#include <csignal>
#include <memory>
#include <new>
#include <system_error>
#include <thread>

#include "libgob/runtime/clock.h"
#include "tests/sim/random.h"

namespace gob::history {
namespace {

constexpr std::size_t kPageWords = kPageSize / sizeof(std::uint64_t);
constexpr unsigned kLongestBurst = 8;
constexpr unsigned kRefusalsToGiveUp = 200;  // in a row: its node is gone
constexpr int kTimeoutMs = 120'000;
constexpr const char* kContainer = "history";

// Shared by all programs; followed by the accesses of one thread after the other.
struct Shared {
  std::atomic<std::uint64_t> done = 0;  // accesses of all threads
  std::atomic<std::uint64_t> refused = 0;

  [[nodiscard]] LoggedAccess* log_of(unsigned thread, const StressPlan& plan) {
    return reinterpret_cast<LoggedAccess*>(this + 1) + std::size_t{thread} * plan.accesses;
  }
};
static_assert(sizeof(Shared) % alignof(LoggedAccess) == 0);

struct UnmapShared {
  std::size_t bytes;
  void operator()(Shared* shared) const { ::munmap(shared, bytes); }
};
using SharedPointer = std::unique_ptr<Shared, UnmapShared>;

SharedPointer make_shared_log(const StressPlan& plan) {
  const std::size_t bytes = sizeof(Shared) + std::size_t{plan.nodes} * plan.threads *
                                                 plan.accesses * sizeof(LoggedAccess);
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    throw std::system_error(errno, std::generic_category(), "cannot map memory for the log");
  return SharedPointer(new (memory) Shared, UnmapShared{bytes});
}

thread_local sigjmp_buf refused_here;
void on_bus(int) { siglongjmp(refused_here, 1); }

// The access lies between the two times: the fences keep it, and the store out of the processor's
// buffer, on its side of each. Other threads of the same node could see it out of its time
// otherwise; threads of other nodes could not.
inline std::uint64_t fenced_time() {
  asm volatile("mfence; lfence" : : : "memory");
  const std::uint64_t now = monotonic_ns();
  asm volatile("mfence; lfence" : : : "memory");
  return now;
}

// One thread of a program.
class Worker {
 public:
  Worker(const StressPlan& plan, unsigned thread, std::uint64_t* words, Shared& shared)
      : plan_(plan),
        thread_(thread),
        words_(words),
        shared_(shared),
        log_(shared.log_of(thread, plan)),
        random_(plan.seed * 1000 + thread) {}

  void run() {
    unsigned refusals = 0;
    for (unsigned i = 0; i < plan_.accesses && refusals < kRefusalsToGiveUp;) {
      // Some pages are used more than others.
      const unsigned page = random_.pick(random_.one_in(2) ? plan_.pages : 1 + plan_.pages / 8);
      for (unsigned burst = 1 + random_.pick(kLongestBurst); burst > 0 && i < plan_.accesses;
           --burst, ++i)
        refusals =
            access(log_[i], page * plan_.words + random_.pick(plan_.words), i) ? 0 : refusals + 1;
      if (random_.one_in(16)) std::this_thread::yield();
    }
  }

 private:
  // False: the page was refused.
  bool access(LoggedAccess& entry, std::uint32_t location, unsigned number) {
    std::uint64_t* const word =
        words_ + location / plan_.words * kPageWords + location % plan_.words * 64;
    const bool writes = random_.pick(5) < 2;
    entry = LoggedAccess{};
    entry.location = location;
    entry.value = writes ? (std::uint64_t{thread_} + 1) << 32 | (number + 1) : 0;
    entry.kind = writes ? LoggedAccess::Kind::kWrite : LoggedAccess::Kind::kRead;
    if (sigsetjmp(refused_here, 1) != 0) {
      entry.kind = LoggedAccess::Kind::kNone;
      ++shared_.refused;
      return false;
    }
    entry.begin_ns = fenced_time();
    if (writes)
      asm volatile("movq %1, %0" : "=m"(*word) : "r"(entry.value) : "memory");
    else
      asm volatile("movq %1, %0" : "=r"(entry.value) : "m"(*word) : "memory");
    entry.end_ns = fenced_time();
    ++shared_.done;
    return true;
  }

  const StressPlan& plan_;
  const unsigned thread_;
  std::uint64_t* const words_;
  Shared& shared_;
  LoggedAccess* const log_;
  sim::Random random_;
};

bool run_program(gobelins::Connection& gob, unsigned node, const StressPlan& plan, Shared& shared) {
  struct sigaction action {};
  action.sa_handler = on_bus;
  ::sigaction(SIGBUS, &action, nullptr);
  auto memory = gob.open(kContainer).map();
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < plan.threads; ++t)
    threads.emplace_back([&, t] {
      Worker(plan, node * plan.threads + t, memory.as<std::uint64_t>().data(), shared).run();
    });
  for (std::thread& thread : threads) thread.join();
  return true;
}

}  // namespace

StressLog run_stress(Nodes& nodes, const StressPlan& plan) {
  StressLog log;
  const SharedPointer shared = make_shared_log(plan);
  if (!nodes.run(0, [&](gobelins::Connection& gob) {
        gob.create(kContainer, plan.pages * kPageSize);
        return true;
      })) {
    log.failure = "cannot create the container";
    return log;
  }
  std::vector<pid_t> programs;
  for (unsigned node = 0; node < plan.nodes; ++node)
    programs.push_back(nodes.spawn(node, [&, node](gobelins::Connection& gob) {
      return run_program(gob, node, plan, *shared);
    }));
  std::uint64_t killed_ns = LoggedAccess::kNever;
  const std::uint64_t total = std::uint64_t{plan.nodes} * plan.threads * plan.accesses;
  if (plan.kill_node) {
    const std::uint64_t deadline = monotonic_ns() + std::uint64_t{kTimeoutMs} * 1'000'000;
    while (shared->done < total / 2 && monotonic_ns() < deadline)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // progress is a counter, no event
    killed_ns = monotonic_ns();
    nodes.kill_node(*plan.kill_node);
  }
  for (unsigned node = 0; node < plan.nodes; ++node)
    if (const int status = Nodes::wait_for(programs[node], kTimeoutMs); status != 0)
      log.failure += "the program on n" + std::to_string(node + 1) + " ended with " +
                     std::to_string(status) + "; ";
  log.refused = shared->refused;
  for (unsigned thread = 0; thread < plan.nodes * plan.threads; ++thread) {
    const LoggedAccess* first = shared->log_of(thread, plan);
    ThreadLog& accesses = log.threads.emplace_back(first, first + plan.accesses);
    if (plan.kill_node && thread / plan.threads == *plan.kill_node)
      for (LoggedAccess& access : accesses)
        access.timeless = access.kind == LoggedAccess::Kind::kRead && access.end_ns > killed_ns;
  }
  return log;
}

HistoryCheck check_history(const StressPlan& plan, const StressLog& log,
                           const std::vector<NodeTrace>& traces) {
  HistoryCheck check;
  check.pages = check_pages(traces);
  check.accesses = check_accesses(log.threads);
  for (std::size_t thread = 0; thread < log.threads.size(); ++thread) {
    const std::size_t node = thread / plan.threads;
    if (plan.kill_node == node) continue;  // it may look on for the moment until it is told
    const auto trace = std::ranges::find(traces, node, &NodeTrace::node);
    if (trace == traces.end()) {
      check.rights.add("n" + std::to_string(node + 1) + " left no trace");
      continue;
    }
    const auto touched = std::ranges::find(trace->records, TraceKind::kGranted, &TraceRecord::kind);
    if (touched == trace->records.end()) {
      check.rights.add("n" + std::to_string(node + 1) + " was never granted a page");
      continue;
    }
    const ContainerId container = page_of(touched->page).container;
    const auto& rights = check.pages.rights[static_cast<std::size_t>(trace - traces.begin())];
    for (const LoggedAccess& access : log.threads[thread]) {
      if (access.kind == LoggedAccess::Kind::kNone || access.end_ns == LoggedAccess::kNever)
        continue;
      const bool writes = access.kind == LoggedAccess::Kind::kWrite;
      const auto page = rights.find(key_of({container, PageIndex{access.location / plan.words}}));
      if (page != rights.end() && had_right(page->second, writes ? Access::kWrite : Access::kRead,
                                            access.begin_ns, access.end_ns))
        continue;
      check.rights.add(std::to_string(access.begin_ns) + " ns: thread " + std::to_string(thread) +
                       (writes ? " writes" : " reads") + " page " +
                       std::to_string(access.location / plan.words) + " until " +
                       std::to_string(access.end_ns) + " ns although n" + std::to_string(node + 1) +
                       " has no right to");
    }
  }
  return check;
}

}  // namespace gob::history
