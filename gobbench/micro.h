// What the parts of the miss path cost by themselves (Google Benchmark), and what a page costs in
// memory. Runs in this process, without daemons.
#pragma once

#include "gobbench/outcome.h"
#include "libgob/base/result.h"

namespace gob::bench {

struct MicroOptions {
  double min_seconds = 0.2;   // of each benchmark
  std::string filter = ".*";  // regular expression on names
};

[[nodiscard]] Result<Outcome> run_micro(const MicroOptions& options);

// Google Benchmark keeps one list of benchmarks for the process; each file adds its own.
void register_core_benchmarks();
void register_codec_benchmarks();
void register_directory_benchmarks();
void register_frame_benchmarks();

// The largest number of bytes an entry may take, over all sizes of the table from 4096 entries to
// `most`: in the directory, and in what a node keeps of a resident page (its state, and which
// mappings show it).
[[nodiscard]] double worst_directory_bytes(std::size_t most);
[[nodiscard]] double worst_resident_bytes(std::size_t most);

}  // namespace gob::bench
