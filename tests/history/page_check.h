// Checks daemons' traces page by page: one writer or many readers at any time; bytes that come are
// the bytes that the last writer left; every access that waited was granted or refused. Also tells
// which node could do what when, for the programs' side of the check.
#pragma once

#include <map>
#include <vector>

#include "libgob/protocol/event.h"
#include "tests/history/findings.h"
#include "tests/history/trace_file.h"

namespace gob::history {

// What a node's programs may do with a page from `time_ns` on, until the next.
struct RightFrom {
  std::uint64_t time_ns;
  Access right;
};

struct PageCheck {
  Findings findings;
  std::uint64_t records = 0;
  std::uint64_t pages = 0;
  std::uint64_t grants = 0;
  std::uint64_t writers = 0;  // times that a page got a writer
  std::uint64_t moves = 0;    // times that bytes came to a node and were compared
  // By index of the trace, then by page, ascending in time. A right that a killed daemon's programs
  // had ends when the others leave it behind.
  std::vector<std::map<PageKey, std::vector<RightFrom>>> rights;
};

[[nodiscard]] PageCheck check_pages(const std::vector<NodeTrace>& traces);

// Whether `right` was to be had at some moment of [begin_ns, end_ns].
[[nodiscard]] bool had_right(const std::vector<RightFrom>& rights, Access right,
                             std::uint64_t begin_ns, std::uint64_t end_ns);

}  // namespace gob::history
