// StreamDetector: recognises programs that go through memory in order, from the pages they fault
// on, and says which pages to ask for ahead. Pure: no clock, no kernel. One for each mapping, owned
// by the thread that drains its faults.
//
// Pages mapped ahead of need do not fault, so the first page of each run that is asked for is kept
// unmapped: the marker. Touching it is a cheap fault that says the stream goes on, while the run
// and those behind it are still before the program; then more is asked for. Runs grow with each
// success to whole stripes, then several of them are under way at once.
//
// Asking ahead takes pages from nodes that may be using them. on_taken tells of pages that other
// nodes took back before the program got there: each time it takes twice as many faults in a row
// before the next stream of that kind is believed in, and each success halves that again.
#pragma once

#include <array>
#include <cstdint>

#include "libgob/base/ids.h"
#include "libgob/base/page_set.h"
#include "libgob/protocol/event.h"

namespace gob {

class StreamDetector {
 public:
  // Pages of one stripe to ask for ahead, and those of them that MapLinker::expect must keep
  // unmapped.
  struct Run {
    PageSet pages;
    std::uint64_t unmapped = 0;
  };
  struct Advice {
    std::array<Run, 4> runs;
    unsigned count = 0;  // of runs
  };

  static constexpr unsigned kMaxWindow = 4 * kStripePages;

  // Nothing is ever asked for outside [first, first + pages) of the container, nor more than about
  // `max_window` pages ahead of the program, of which 0 turns the detector off and at most
  // kMaxWindow counts.
  StreamDetector(ContainerId container, PageIndex first, std::uint64_t pages, unsigned max_window);

  // A program of the mapping faulted on `page`. The page itself is never part of the advice.
  Advice on_fault(PageIndex page, Access access);
  // Another node took the page away from this one.
  void on_taken(PageIndex page);

 private:
  static constexpr unsigned kStreams = 8;      // at once; the one that rested longest makes room
  static constexpr unsigned kFirstWindow = 4;  // pages of the first run
  static constexpr unsigned kMinPatience = 2;  // faults in a row that make a stream
  static constexpr unsigned kMaxPatience = 32;

  struct Stream {
    std::uint64_t begin = 0;   // the program is here or further
    std::uint64_t end = 0;     // first page neither touched nor asked for
    std::uint64_t marker = 0;  // a fault here or later: ask for more
    std::uint64_t used = 0;    // when, in faults; 0: free
    unsigned in_a_row = 0;     // faults, before anything was asked for
    unsigned window = 0;       // pages of the last run; 0: nothing was asked for yet
    Access access = Access::kNone;
  };

  Stream& find(std::uint64_t page, Access access);
  // Asks for what follows stream.end. `ahead`: the program is still a run behind it.
  Advice ask(Stream& stream, bool ahead);
  // Adds [from, end) in parts of one stripe each; `marker` is kept unmapped.
  void add(Advice& advice, std::uint64_t from, std::uint64_t end, std::uint64_t marker) const;
  [[nodiscard]] std::uint64_t end_of_run(std::uint64_t from, unsigned window) const;
  unsigned& patience(Access access) { return patience_[access == Access::kWrite ? 1 : 0]; }

  ContainerId container_;
  std::uint64_t limit_;  // first page that must not be asked for
  unsigned max_window_;
  std::uint64_t faults_ = 0;
  std::array<unsigned, 2> patience_ = {kMinPatience, kMinPatience};  // with reads, with writes
  std::array<Stream, kStreams> streams_;
};

}  // namespace gob
