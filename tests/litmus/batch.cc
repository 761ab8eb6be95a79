#include "tests/litmus/batch.h"

#include <algorithm>
#include <numeric>

#include "tests/litmus/arena.h"
#include "tests/sim/random.h"

namespace gob::litmus {
namespace {

constexpr unsigned kLongestGroupLog2 = 5;
constexpr unsigned kLongestSlowGroupLog2 = 2;
constexpr std::uint64_t kShortLeadNs = 2'000;  // all are awake
constexpr std::uint64_t kLongLeadNs = 60'000;  // some have to wake up

template <class T>
void shuffle(std::vector<T>& items, sim::Random& random) {
  for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[random.below(i)]);
}

}  // namespace

std::string to_words(Layout layout) {
  switch (layout) {
    case Layout::kOnePage:
      return "one page";
    case Layout::kPages:
      return "two pages";
    case Layout::kContainers:
      return "two containers";
  }
  return "";
}

Batch::Batch(const Program& program, Layout wanted, std::uint64_t seed, unsigned limit)
    : variables(program.variables), layout(wanted) {
  sim::Random random(seed);
  std::vector<unsigned> pages(kContainerPages);
  std::iota(pages.begin(), pages.end(), 0u);
  shuffle(pages, random);
  for (unsigned set = 0; set < kSets; ++set) {
    for (unsigned v = 0; v < variables; ++v) {
      const bool own_page = v == 0 || layout != Layout::kOnePage;
      places.push_back(own_page ? Place{layout == Layout::kContainers ? v : 0, pages.back()}
                                : places.back());
      if (own_page) pages.pop_back();
      first_writer.push_back(own_page ? random.pick(static_cast<unsigned>(program.threads.size()))
                                      : first_writer.back());
    }
  }

  const unsigned slots = layout == Layout::kOnePage ? kRunWords / variables : kRunWords;
  std::vector<std::vector<std::uint16_t>> free(kSets);
  for (auto& set : free) {
    set.resize(slots);
    std::iota(set.begin(), set.end(), std::uint16_t{0});
    shuffle(set, random);
  }
  limit = std::min({limit, kSets * slots, kMaxRuns});
  while (runs < limit) {
    Group group;
    do {
      group.set = random.pick(kSets);
    } while (free[group.set].empty());
    group.slow = random.one_in(4);
    auto& from = free[group.set];
    const unsigned longest = group.slow ? kLongestSlowGroupLog2 : kLongestGroupLog2;
    const auto size = std::min<std::size_t>(
        {std::size_t{1} << random.pick(longest + 1), from.size(), limit - runs});
    group.first_run = runs;
    group.slots.assign(from.end() - static_cast<std::ptrdiff_t>(size), from.end());
    from.resize(from.size() - size);
    group.lead_ns = random.one_in(3) ? kLongLeadNs : kShortLeadNs;
    group.mirrored = random.one_in(4);
    runs += static_cast<unsigned>(size);
    groups.push_back(std::move(group));
  }
}

}  // namespace gob::litmus
