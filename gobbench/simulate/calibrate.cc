#include "gobbench/simulate/calibrate.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <latch>
#include <new>
#include <optional>
#include <span>
#include <thread>

#include "gobbench/computing.h"
#include "gobbench/core_pair.h"
#include "gobbench/raw_tcp.h"
#include "gobbench/worker.h"
#include "libgob/linker/bare_fault.h"
#include "libgob/linker/cache_sweep.h"
#include "libgob/linker/stream_detector.h"

namespace gob::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr unsigned kRounds = 2000;

// As much as the second-level cache of a core holds.
std::size_t swept_bytes() {
  const long bytes = ::sysconf(_SC_LEVEL2_CACHE_SIZE);
  return bytes > 0 ? static_cast<std::size_t>(bytes) : std::size_t{1} << 20;
}

double since_ns(Clock::time_point begin) {
  return static_cast<double>(std::chrono::nanoseconds(Clock::now() - begin).count());
}

double median_us(std::vector<std::uint64_t> ns) {
  std::nth_element(ns.begin(), ns.begin() + static_cast<std::ptrdiff_t>(ns.size() / 2), ns.end());
  return static_cast<double>(ns[ns.size() / 2]) * 1e-3;
}

// Microseconds of one event in a core: a read miss is three of them on two nodes.
double core_step_us(std::span<double> swept) {
  constexpr std::uint64_t kMisses = 1024;
  CorePair pair;
  for (std::uint64_t page = 0; page < kMisses; ++page)
    pair.touch(1, PageIndex{page}, Access::kWrite);
  std::vector<std::uint64_t> ns;
  for (std::uint64_t page = 0; page < kMisses; ++page) {
    sweep_cache(swept);
    const auto begin = Clock::now();
    pair.touch(0, PageIndex{page}, Access::kRead);
    ns.push_back(static_cast<std::uint64_t>(since_ns(begin)));
  }
  return median_us(std::move(ns)) / 3;
}

// A program's barrier with nobody else, there and back.
Result<double> lone_barrier_us(const Session& session, std::size_t sweep_bytes) {
  ClusterOptions wanted;
  wanted.nodes = 1;
  wanted.pin = true;
  Result<Cluster> cluster = session.cluster(wanted);
  if (!cluster) return cluster.error();
  Result<Worker> worker = Worker::start(cluster->nodes().front());
  if (!worker) return worker.error();
  const Result<Json> reply = worker->call({{"do", "barrier"},
                                           {"barrier", unique_name("alone")},
                                           {"count", 1},
                                           {"rounds", kRounds},
                                           {"sweep_bytes", sweep_bytes}});
  if (!reply) return reply.error();
  return reply->at("ns").get<double>() * 1e-3 / kRounds;
}

// How long the parts of one worker take.
struct Phases {
  double first_ns = 0;   // Jacobi: copying; MGS: all
  double second_ns = 0;  // Jacobi: computing
};

// Zeros on pages of their own, as a container's frames are.
class PagedDoubles {
 public:
  explicit PagedDoubles(std::size_t count)
      : bytes_(std::max<std::size_t>(count, 1) * sizeof(double)),
        start_(::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0)) {
    if (start_ == MAP_FAILED) throw std::bad_alloc();
  }
  PagedDoubles(const PagedDoubles&) = delete;
  PagedDoubles& operator=(const PagedDoubles&) = delete;
  ~PagedDoubles() { ::munmap(start_, bytes_); }
  [[nodiscard]] double* data() const { return static_cast<double*>(start_); }

 private:
  std::size_t bytes_;
  void* start_;
};

Phases run_share(const Problem& problem, unsigned workers, unsigned worker, std::latch& ready) {
  const std::size_t count = problem.size * problem.stride;
  const PagedDoubles own(count);
  const PagedDoubles temporary(problem.has_temporary() ? count : 0);
  const Matrix matrix{own.data(), problem.size, problem.stride};
  Phases phases;
  bool second = false;
  bool began = false;
  auto last = Clock::now();
  // Called where workers meet: after the preparation, then after each phase.
  const Barrier meet = [&] {
    if (!began) {
      ready.arrive_and_wait();
      began = true;
    } else if (problem.algorithm == Algorithm::kJacobi) {
      (second ? phases.second_ns : phases.first_ns) += since_ns(last);
      second = !second;
    } else {
      phases.first_ns += since_ns(last);
    }
    last = Clock::now();
  };
  solve(problem, matrix, {temporary.data(), problem.size, problem.stride}, workers, worker, meet);
  return phases;
}

// Elements that all workers handle in each phase.
ElementCosts costs_of(const Problem& problem, const Phases& sum) {
  const auto n = static_cast<double>(problem.size);
  ElementCosts costs;
  if (problem.algorithm == Algorithm::kJacobi) {
    costs.jacobi_copy = sum.first_ns / (n * n * problem.iterations);
    costs.jacobi_compute = sum.second_ns / ((n - 2) * n * problem.iterations);
  } else {
    // A vector is normalised once and corrects all after it.
    costs.mgs_correct = sum.first_ns / (n * n + n * n * (n - 1) / 2);
    costs.mgs_normalise = costs.mgs_correct;
  }
  return costs;
}

}  // namespace

Result<ElementCosts> measure_elements(const Problem& problem, unsigned workers) {
  const std::vector<unsigned> cpus = usable_cpus();
  if (cpus.size() < workers)
    return make_error(ErrorCode::kUnsupported, "this needs " + std::to_string(workers) +
                                                   " cores, and there are " +
                                                   std::to_string(cpus.size()));
  std::latch ready(workers);
  std::vector<Phases> phases(workers);
  std::vector<std::thread> threads;
  for (unsigned w = 0; w < workers; ++w)
    threads.emplace_back([&, w] {
      const PinnedThread pinned(cpus[w]);
      phases[w] = run_share(problem, workers, w, ready);
    });
  for (std::thread& thread : threads) thread.join();
  Phases sum;
  for (const Phases& each : phases) {
    sum.first_ns += each.first_ns;
    sum.second_ns += each.second_ns;
  }
  return costs_of(problem, sum);
}

Result<Preset> calibrate(const Session& session, Beside beside) {
  std::vector<double> memory(beside == Beside::kPrograms ? swept_bytes() / sizeof(double) : 0);
  const std::span<double> swept(memory);
  const std::vector<unsigned> cpus = usable_cpus();
  TcpPlaces places;
  places.client_cpu = cpus.front();
  places.server_cpu = cpus.back();
  const auto exchange = [&](std::size_t out, std::size_t back) {
    return tcp_exchange(places, out, back, kRounds, swept);
  };
  const Result<TcpExchange> words = exchange(64, 64);
  if (!words) return words.error();
  const Result<TcpExchange> pages = exchange(8, kPageSize);
  if (!pages) return pages.error();
  const PinnedThread pinned(cpus.front());
  // From here on the other core computes: it may share more than memory with this one.
  std::optional<Computing> other_node;
  std::optional<TcpExchange> busy;
  if (beside == Beside::kPrograms) {
    Result<Computing> started = Computing::start(cpus.back(), swept.size_bytes());
    if (!started) return started.error();
    other_node.emplace(std::move(*started));
    const Result<TcpExchange> measured = exchange(64, 64);
    if (!measured) return measured.error();
    busy = *measured;
  }
  const Result<TcpCalls> calls = tcp_calls(64, kRounds, swept);
  if (!calls) return calls.error();
  const Result<std::vector<std::uint64_t>> faults =
      measure_bare_fault(kRounds, FaultWait::kBlocking, swept);
  if (!faults) return faults.error();
  const Result<FrameCosts> frames = measure_frames(swept);
  if (!frames) return frames.error();
  const Result<double> barrier = lone_barrier_us(session, swept.size_bytes());
  if (!barrier) return barrier.error();

  Preset preset{"this machine", "two nodes on this machine, a core each", {}, {}};
  const auto set = [&](const char* name, double value, const std::string& source) {
    for (const Parameter& parameter : timing_parameters())
      if (std::string(parameter.name) == name)
        preset.timing.*(parameter.member) = std::max(value, 0.0);
    preset.sources[name] = source;
  };
  const double one_way_us = words->round_us / 2;
  const double calls_us = calls->send_us + calls->receive_us;
  const double fault_us = median_us(*faults);
  const std::string elements = "not used: elements are measured for each problem";
  set("cores", 1, "a node's gobd and program are kept to one core");
  for (const char* name : {"flop_ns", "divide_ns", "memory_byte_ns", "cache_mib"})
    set(name, 0, elements);
  set("fault_us", (fault_us - frames->map_us) / 2,
      "measured: half of a bare userfaultfd fault without its kernel call");
  set("resume_us", (fault_us - frames->map_us) / 2, "the other half");
  set("call_us", *barrier / 2, "measured: half of a barrier of one program alone");
  set("wake_us", one_way_us - calls_us,
      "measured: half a raw TCP exchange of 64 bytes, without its two calls");
  if (busy) {
    set("wake_busy_us", busy->round_us - one_way_us - calls_us,
        "measured: the same to a core on which another thread computes, without the way back");
    set("kick_us", busy->send_us - calls->send_us,
        "measured: send() to that core against send() to a socket nobody waits at");
  } else {
    set("wake_busy_us", 0, "not used: nobody computes");
    set("kick_us", 0, "not used: nobody computes");
  }
  set("receive_us", calls->receive_us, "measured: recv() of what is there");
  set("send_us", calls->send_us, "measured: send() to a socket nobody waits at");
  set("byte_ns", (pages->round_us - words->round_us) * 1e3 / (kPageSize + 8 - 128) / 2,
      "measured: raw TCP with 4 KiB back against 64 bytes back, half for each end");
  set("step_us", core_step_us(swept), "measured: a third of the cores' part of a read miss");
  static_cast<FrameCosts&>(preset.timing) = *frames;
  for (const char* name : {"map", "protect", "unmap", "load"}) {
    preset.sources[std::string(name) + "_us"] =
        "measured: the kernel call on a mapped memfd, one page";
    preset.sources[std::string(name) + "_page_us"] = "measured: the same on runs of 64";
  }
  set("link_us", 0, "loopback has none: it is in wake_us");
  set("gigabits_a_second", 0, "loopback has no limit but the processor");
  set("hold_us", 100, "gobd's default");
  set("read_ahead_pages", session.read_ahead ? StreamDetector::kMaxWindow : 0,
      "gobd's default, or --no-read-ahead");
  return preset;
}

}  // namespace gob::bench
