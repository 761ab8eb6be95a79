// The program that figures 13 and 14 move: modified Gram-Schmidt on memory of its own, and a thread
// that looks at the clock all the time. A process of its own, `gobbench migrant`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "libgob/base/result.h"

namespace gob::bench {

struct MigrantOptions {
  std::size_t lines = 0;    // of the matrix; it begins with half of its vectors done
  std::uint64_t steps = 0;  // vectors to be done; 0: as many as `seconds` allow
  double seconds = 0;       // 0 as well: until the file FILE.stop is there
  std::string file;         // lines for whoever watches: "under way", then a MigrantReport
};

struct MigrantReport {
  std::uint64_t steps = 0;
  double run_ms = 0;
  double idle_ms = 0;          // of it, for which it did not compute
  double gap_ms = 0;           // the longest time for which its clock stood still,
  std::uint64_t gap_step = 0;  // and in which step
  std::string digest;          // of all vectors done, and of those left
  double error = 0;            // how far the last vector and those left are from orthogonal
};

inline constexpr const char* kUnderWay = "under way";

// Returns the exit code.
int run_migrant(const MigrantOptions& options);

// What the last line of its file says.
[[nodiscard]] Result<MigrantReport> parse_report(const std::string& line);

// Bytes of the matrix that the program uses from `step` to its end.
[[nodiscard]] std::uint64_t bytes_used_from(std::size_t lines, std::uint64_t step,
                                            std::uint64_t steps);

}  // namespace gob::bench
