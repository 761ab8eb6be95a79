// Figures 11 and 12 of the paper: bandwidth of reading a file in order or at random, by its size:
// from the local disk, from file servers, from the memory of another node.
#pragma once

#include <cstdint>
#include <vector>

#include "gobbench/outcome.h"
#include "gobbench/session.h"

namespace gob::bench {

struct FileFigureOptions {
  bool random = false;  // figure 12; else figure 11
  std::vector<std::uint64_t> file_bytes = {1u << 20, 8u << 20, 64u << 20, 256u << 20};
  std::vector<std::uint64_t> request_bytes = {4096, 1u << 20};
  std::vector<unsigned> depths = {1, 16};
  std::vector<std::uint64_t> bits_per_second = {0, 1'000'000'000};  // 0: as fast as it goes
  unsigned runs = 3;                                                // the median counts
};

// On private nodes with mounts, in network namespaces joined by veth pairs; needs root. Servers
// that are not installed are left out, and the notes say so. Fails on wrong bytes.
[[nodiscard]] Result<Outcome> run_file_figure(const Session& session,
                                              const FileFigureOptions& options);

}  // namespace gob::bench
