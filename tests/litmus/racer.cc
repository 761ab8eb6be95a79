#include "tests/litmus/racer.h"

#include <sys/resource.h>

#include <set>

#include "libgob/runtime/clock.h"
#include "tests/litmus/memory_model.h"
#include "tests/sim/random.h"

namespace gob::litmus {
namespace {

constexpr unsigned kWordsOfPage = 512;
constexpr unsigned kLongestDelayLog2 = 17;  // 131 us: about what a page takes to come

// The accesses under test. Volatile assembly keeps them single moves, in program order: the
// compiler moves no volatile assembly past another. (Relaxed atomics would leave it free to do so.)
// What the processor does with them is what is tested.
inline void store(std::uint64_t* where, std::uint64_t value) {
  asm volatile("movq %1, %0" : "=m"(*where) : "r"(value) : "memory");
}
inline std::uint64_t load(const std::uint64_t* where) {
  std::uint64_t value = 0;
  asm volatile("movq %1, %0" : "=r"(value) : "m"(*where) : "memory");
  return value;
}
inline void fence() { asm volatile("mfence" : : : "memory"); }

std::uint64_t faults_of_this_thread() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return static_cast<std::uint64_t>(usage.ru_minflt + usage.ru_majflt);
}

// In batch b the words of a location are b * 4 + value: whatever is left of other batches shows.
class Racer {
 public:
  Racer(const Race& race, unsigned thread, const std::vector<std::uint64_t*>& containers,
        Arena& arena)
      : race_(race),
        thread_(thread),
        threads_(static_cast<std::uint32_t>(race.program.threads.size())),
        code_(race.program.threads[thread]),
        containers_(containers),
        arena_(arena),
        random_(race.seed * kMaxThreads + thread),
        sequential_(sequential_outcomes(race.program)) {}

  bool run() {
    const std::uint64_t faults = faults_of_this_thread();
    for (std::uint64_t number = 1; !enough(); ++number)
      if (!run_batch(number)) return false;
    arena_.faults += faults_of_this_thread() - faults;
    return true;
  }

 private:
  // All threads see the same counts here: nobody counts before all have begun the next batch.
  [[nodiscard]] bool enough() const {
    if (arena_.runs < race_.runs) return false;
    if (arena_.runs >= race_.runs_for_weak) return true;
    for (OutcomeCode code = 0; code < kOutcomeCodes; ++code)
      if (arena_.counts[code] != 0 && !sequential_.contains(code)) return true;
    return false;
  }

  bool run_batch(std::uint64_t number) {
    const std::uint64_t wanted = std::max(race_.runs, race_.runs_for_weak) - arena_.runs;
    const Batch batch(race_.program, race_.layout, race_.seed + number,
                      static_cast<unsigned>(std::min<std::uint64_t>(wanted, kMaxRuns)));
    base_ = number * 4;
    for (unsigned i = 0; i < batch.places.size(); ++i)
      if (batch.first_writer[i] == thread_)
        for (unsigned word = 0; word < kRunWords; ++word)
          store(page(batch.places[i]) + word, base_);
    if (!meet(0)) return false;
    for (const Group& group : batch.groups) {
      touch_pages(batch, group.set);
      if (!meet(group.lead_ns)) return false;
      delay();
      const std::size_t size = group.slots.size();
      for (std::size_t i = 0; i < size; ++i) {
        const std::size_t index = group.mirrored && thread_ % 2 == 1 ? size - 1 - i : i;
        run_once(batch, group, static_cast<unsigned>(index));
      }
    }
    if (!meet(0)) return false;
    if (number % threads_ == thread_) count(batch);
    return meet(0);
  }

  bool meet(std::uint64_t lead_ns) {
    if (arena_.threads.meet(threads_, lead_ns, arena_.failed)) return true;
    arena_.fail("thread " + std::to_string(thread_) + " waited in vain for the others");
    return false;
  }

  // Leaves the pages that come next in some state; no location of a run is touched.
  void touch_pages(const Batch& batch, unsigned set) {
    for (unsigned v = 0; v < batch.variables; ++v) {
      std::uint64_t* const scratch = page(batch.place(set, v)) + scratch_word(thread_);
      switch (random_.pick(8)) {
        case 0:
          static_cast<void>(load(scratch));
          break;
        case 1:
          store(scratch, base_);
          break;
        default:
          break;
      }
    }
  }

  void delay() {
    if (random_.one_in(2)) return;
    const std::uint64_t ns = random_.below(std::uint64_t{1} << random_.pick(kLongestDelayLog2 + 1));
    for (const std::uint64_t end = monotonic_ns() + ns; monotonic_ns() < end;)
      __builtin_ia32_pause();
  }

  void run_once(const Batch& batch, const Group& group, unsigned index) {
    std::uint64_t* where[kMaxWatched];
    for (unsigned v = 0; v < batch.variables; ++v)
      where[v] = page(batch.place(group.set, v)) + batch.word(group.slots[index], v);
    std::uint64_t seen[kMaxLoads] = {};
    unsigned loads = 0;
    for (const Access& access : code_) {
      if (group.slow) delay();
      if (access.kind == Access::Kind::kStore)
        store(where[access.variable], base_ + access.value);
      else if (access.kind == Access::Kind::kLoad)
        seen[loads++] = load(where[access.variable]);
      else
        fence();
    }
    for (unsigned i = 0; i < loads; ++i)
      arena_.loaded[thread_][group.first_run + index][i] = seen[i];
  }

  void count(const Batch& batch) {
    const std::vector<unsigned> watched = race_.program.watched();
    for (const Group& group : batch.groups) {
      for (unsigned i = 0; i < group.slots.size(); ++i) {
        OutcomeCode code = 0;
        bool alien = false;
        const auto put = [&](std::uint64_t raw, unsigned place) {
          alien = alien || raw - base_ > 3;
          code |= static_cast<OutcomeCode>((raw & 3) << (2 * place));
        };
        for (unsigned t = 0; t < threads_; ++t) {
          unsigned loads = 0;
          for (const Access& access : race_.program.threads[t])
            if (access.kind == Access::Kind::kLoad)
              put(arena_.loaded[t][group.first_run + i][loads++], access.value);
        }
        for (unsigned w = 0; w < watched.size(); ++w)
          put(load(page(batch.place(group.set, watched[w])) +
                   batch.word(group.slots[i], watched[w])),
              race_.program.registers + w);
        if (alien)
          ++arena_.alien;
        else
          ++arena_.counts[code];
      }
    }
    arena_.runs += batch.runs;
  }

  [[nodiscard]] std::uint64_t* page(const Place& place) const {
    return containers_[place.container] + std::size_t{place.page} * kWordsOfPage;
  }

  const Race& race_;
  const unsigned thread_;
  const std::uint32_t threads_;
  const std::vector<Access> code_;
  const std::vector<std::uint64_t*>& containers_;
  Arena& arena_;
  sim::Random random_;
  const std::set<OutcomeCode> sequential_;
  std::uint64_t base_ = 0;
};

}  // namespace

bool run_racer(const Race& race, unsigned thread, const std::vector<std::uint64_t*>& containers,
               Arena& arena) {
  return Racer(race, thread, containers, arena).run();
}

}  // namespace gob::litmus
