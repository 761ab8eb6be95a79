// What moving page frames costs: bytes in, bytes out, frames taken away.
#include <benchmark/benchmark.h>

#include <functional>
#include <optional>
#include <vector>

#include "gobbench/micro.h"
#include "libgob/container/frame_pool.h"

namespace gob::bench {
namespace {

constexpr unsigned kPages = 1024;

struct Bench {
  FramePool pool;
  PagePipe pipe;
  std::vector<std::byte> buffer = std::vector<std::byte>(kPages * kPageSize, std::byte{1});

  static std::optional<Bench> make(benchmark::State& state) {
    Result<FramePool> pool = FramePool::create("gobbench", kPages);
    Result<PagePipe> pipe = PagePipe::create();
    if (pool && pipe) return Bench{std::move(*pool), std::move(*pipe)};
    state.SkipWithError((pool ? pipe.error() : pool.error()).message().c_str());
    return std::nullopt;
  }
};

using Move = std::function<Status(Bench&, PageIndex, unsigned)>;

// Applies `move` to all pages in runs of state.range(0); time is for one run. With `fresh`, every
// page has a frame again each time the clock starts.
void measure(benchmark::State& state, const Move& move, bool fresh) {
  const auto run = static_cast<unsigned>(state.range(0));
  std::optional<Bench> bench = Bench::make(state);
  if (!bench) return;
  const auto check = [&](const Status& status) {
    if (!status) state.SkipWithError(status.error().message().c_str());
    return status.ok();
  };
  if (!check(bench->pool.store(PageIndex{0}, kPages, bench->buffer.data()))) return;
  while (state.KeepRunningBatch(static_cast<benchmark::IterationCount>(kPages / run))) {
    if (fresh) {
      state.PauseTiming();
      if (!check(bench->pool.store(PageIndex{0}, kPages, bench->buffer.data()))) return;
      state.ResumeTiming();
    }
    for (unsigned first = 0; first < kPages; first += run)
      if (!check(move(*bench, PageIndex{first}, run))) return;
  }
}

void add(const char* name, const Move& move, bool fresh) {
  for (const unsigned run : {1u, 64u}) {
    const std::string full =
        std::string("frames: ") + name + (run == 1 ? ", a page" : ", 64 pages");
    benchmark::RegisterBenchmark(full.c_str(), measure, move, fresh)
        ->Args({static_cast<std::int64_t>(run)})
        ->UseRealTime();
  }
}

}  // namespace

void register_frame_benchmarks() {
  add(
      "store",
      [](Bench& b, PageIndex first, unsigned n) { return b.pool.store(first, n, b.buffer.data()); },
      false);
  add(
      "load",
      [](Bench& b, PageIndex first, unsigned n) { return b.pool.load(first, n, b.buffer.data()); },
      false);
  add(
      "take",
      [](Bench& b, PageIndex first, unsigned n) {
        return b.pool.take(first, n, b.buffer.data(), b.pipe);
      },
      true);
  add(
      "punch", [](Bench& b, PageIndex first, unsigned n) { return b.pool.punch(first, n); }, true);
}

}  // namespace gob::bench
