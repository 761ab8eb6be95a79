// The protocol core's own cost of a touch or a miss.
#include <benchmark/benchmark.h>

#include <memory>

#include "gobbench/core_pair.h"
#include "gobbench/micro.h"

namespace gob::bench {
namespace {

constexpr std::uint64_t kBatch = 4096;  // pages between pauses of the clock

// Prepares `kBatch` fresh pages with the clock stopped, then makes the access to each of them from
// node 0. `chosen` says which pages to take.
template <class Choose, class Prepare>
void measure(benchmark::State& state, Access access, Choose chosen, Prepare prepare) {
  std::vector<PageIndex> pages;
  const View view = CorePair().core(0).view();
  for (std::uint64_t page = 0; pages.size() < kBatch; ++page)
    if (chosen(view, page)) pages.push_back(PageIndex{page});
  while (state.KeepRunningBatch(static_cast<benchmark::IterationCount>(kBatch))) {
    state.PauseTiming();
    auto pair = std::make_unique<CorePair>();
    for (const PageIndex page : pages) prepare(*pair, page);
    state.ResumeTiming();
    for (const PageIndex page : pages) pair->touch(0, page, access);
    state.PauseTiming();
    for (const PageIndex page : pages)
      if (!pair->has(0, page, access)) state.SkipWithError("an access was not granted");
    pair.reset();
    state.ResumeTiming();
  }
}

bool any(const View&, std::uint64_t) { return true; }
bool managed_here(const View& view, std::uint64_t page) {
  return view.manager(CorePair::kContainer, page / kStripePages) == NodeId{0};
}

void local_first_touch(benchmark::State& state) {
  measure(state, Access::kWrite, managed_here, [](CorePair&, PageIndex) {});
}
void read_miss(benchmark::State& state) {
  measure(state, Access::kRead, any,
          [](CorePair& pair, PageIndex page) { pair.touch(1, page, Access::kWrite); });
}
void write_miss(benchmark::State& state) {
  measure(state, Access::kWrite, any,
          [](CorePair& pair, PageIndex page) { pair.touch(1, page, Access::kWrite); });
}
void upgrade(benchmark::State& state) {
  measure(state, Access::kWrite, any, [](CorePair& pair, PageIndex page) {
    pair.touch(1, page, Access::kWrite);
    pair.touch(0, page, Access::kRead);
  });
}

}  // namespace

void register_core_benchmarks() {
  benchmark::RegisterBenchmark("core: first touch at the manager", local_first_touch)
      ->UseRealTime();
  benchmark::RegisterBenchmark("core: read miss, both nodes", read_miss)->UseRealTime();
  benchmark::RegisterBenchmark("core: write miss, both nodes", write_miss)->UseRealTime();
  benchmark::RegisterBenchmark("core: upgrade, both nodes", upgrade)->UseRealTime();
}

}  // namespace gob::bench
