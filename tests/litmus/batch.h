// Batch: the plan of a few thousand runs that share pages. Every thread computes the same plan from
// the same seed. A run has a location of its own for each variable, in one of kSets sets of pages;
// runs come in groups, between which pages are touched at random and the threads meet: so runs meet
// pages in all states, some in pages that are on their way, some in pages that everybody holds.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/litmus/program.h"

namespace gob::litmus {

enum class Layout : std::uint8_t { kOnePage, kPages, kContainers };
[[nodiscard]] std::string to_words(Layout layout);

inline constexpr unsigned kSets = 4;
inline constexpr unsigned kRunWords = 448;  // of a page; scratch words for the threads follow
inline constexpr unsigned kWordsOfLine = 8;
inline constexpr unsigned kContainerPages = 256;  // four stripes: managers on several nodes

// The word of thread t in any page that is no location of any run.
constexpr unsigned scratch_word(unsigned thread) { return kRunWords + thread * kWordsOfLine; }

struct Place {
  unsigned container;
  unsigned page;
};

struct Group {
  unsigned set;
  unsigned first_run;                // number of its first run in the batch
  std::vector<std::uint16_t> slots;  // of its runs
  std::uint64_t lead_ns;
  bool mirrored;  // threads of odd number take the runs in reverse order
  bool slow;      // pauses between accesses: pages come and go inside a run
};

struct Batch {
  // `limit`: at most so many runs.
  Batch(const Program& program, Layout layout, std::uint64_t seed, unsigned limit);

  // Where variable v of runs in `set` is.
  [[nodiscard]] const Place& place(unsigned set, unsigned v) const {
    return places[set * variables + v];
  }
  [[nodiscard]] unsigned word(unsigned slot, unsigned v) const {
    return layout == Layout::kOnePage ? slot * variables + v : slot;
  }

  unsigned variables;
  Layout layout;
  unsigned runs = 0;
  std::vector<Place> places;
  std::vector<unsigned> first_writer;  // of each place: the thread that gives it its first values
  std::vector<Group> groups;
};

}  // namespace gob::litmus
