// The directory's cost in time and memory.
#include <benchmark/benchmark.h>

#include <algorithm>

#include "gobbench/micro.h"
#include "gobbench/page_pattern.h"
#include "libgob/base/page_table.h"
#include "libgob/protocol/directory.h"
#include "libgob/protocol/page_state.h"

namespace gob::bench {
namespace {

constexpr std::size_t kEntries = std::size_t{1} << 18;
constexpr std::size_t kFewest = 4096;

PageKey key(std::uint64_t page) { return key_of({ContainerId{1}, PageIndex{page}}); }

void insert(benchmark::State& state) {
  while (state.KeepRunningBatch(static_cast<benchmark::IterationCount>(kEntries))) {
    PageTable<DirectoryEntry> table;
    for (std::uint64_t page = 0; page < kEntries; ++page) table[key(page)].set_owner(NodeId{1});
    benchmark::DoNotOptimize(table);
  }
}

void find_random(benchmark::State& state) {
  PageTable<DirectoryEntry> table;
  for (std::uint64_t page = 0; page < kEntries; ++page) table[key(page)].set_owner(NodeId{1});
  const auto order = page_order(kEntries, true, 1);
  std::size_t next = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(table.find(key(order[next])));
    next = next + 1 == order.size() ? 0 : next + 1;
  }
}

// Largest memory over entries, while tables of all these types grow together.
template <class... Values>
double worst_bytes(std::size_t most) {
  std::tuple<PageTable<Values>...> tables;
  double worst = 0;
  for (std::uint64_t page = 0; page < most; ++page) {
    std::apply([&](auto&... table) { ((void)table[key(page)], ...); }, tables);
    if (page + 1 < kFewest) continue;
    const std::size_t bytes =
        std::apply([](const auto&... table) { return (table.memory_bytes() + ...); }, tables);
    worst = std::max(worst, static_cast<double>(bytes) / static_cast<double>(page + 1));
  }
  return worst;
}

}  // namespace

void register_directory_benchmarks() {
  benchmark::RegisterBenchmark("directory: insert", insert)->UseRealTime();
  benchmark::RegisterBenchmark("directory: find, random", find_random)->UseRealTime();
}

double worst_directory_bytes(std::size_t most) { return worst_bytes<DirectoryEntry>(most); }

double worst_resident_bytes(std::size_t most) { return worst_bytes<LocalPage, std::uint8_t>(most); }

}  // namespace gob::bench
