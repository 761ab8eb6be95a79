// StreamDetector: recognises programs that go through memory in order, from the pages they fault
// on, and says which pages to ask for ahead. Pure: no clock, no kernel. One for each mapping, owned
// by the thread that drains its faults.
//
// Pages mapped ahead of need do not fault, so one page of each run that is asked for is kept
// unmapped: the marker. Touching it is a cheap fault that says the stream goes on, while most of
// the run is still before the program; then the next run is asked for. Runs grow with each success.
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
    std::array<Run, 2> runs;
    unsigned count = 0;  // of runs
  };

  // Nothing is ever asked for outside [first, first + pages) of the container, nor more than
  // `max_window` pages at once, of which 0 turns the detector off. At most kStripePages counts.
  StreamDetector(ContainerId container, PageIndex first, std::uint64_t pages, unsigned max_window);

  // A program of the mapping faulted on `page`. The page itself is never part of the advice.
  Advice on_fault(PageIndex page, Access access);

 private:
  static constexpr unsigned kStreams = 8;      // at once; the one that rested longest makes room
  static constexpr unsigned kFirstWindow = 4;  // pages of the first run

  struct Stream {
    std::uint64_t begin = 0;   // the program is here or further
    std::uint64_t end = 0;     // first page neither touched nor asked for
    std::uint64_t marker = 0;  // a fault here or later: ask for the next run
    std::uint64_t used = 0;    // when, in faults; 0: free
    unsigned window = 0;       // pages of the last run; 0: a single fault, no stream yet
    Access access = Access::kNone;
  };

  Stream& find(std::uint64_t page, Access access);
  // Asks for the run that begins at `from`. `ahead`: the program is still a run behind it.
  Advice ask(Stream& stream, std::uint64_t from, bool ahead);
  [[nodiscard]] std::uint64_t end_of_run(std::uint64_t from, unsigned window) const;

  ContainerId container_;
  std::uint64_t limit_;  // first page that must not be asked for
  unsigned max_window_;
  std::uint64_t faults_ = 0;
  std::array<Stream, kStreams> streams_;
};

}  // namespace gob
