// How a file is read to measure a file system: in what order, how much at a time, how many reads at
// once. Values and pure functions; what files hold is that of page_pattern.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "libgob/base/result.h"

namespace gob::bench {

struct ReadPlan {
  std::uint64_t file_bytes = 0;     // whole pages
  std::uint64_t request_bytes = 0;  // of one read, in whole pages; the last may get less
  unsigned depth = 1;               // reads under way at once
  bool random = false;              // each part once, in an order that `seed` gives
  std::uint64_t seed = 0;
};

// Where each read begins.
[[nodiscard]] std::vector<std::uint64_t> read_offsets(const ReadPlan& plan);

// Whether `bytes`, from `offset` of the file, are those of the pattern: the first and the last word
// of each page, so that checking costs little beside reading.
[[nodiscard]] bool right_bytes(std::span<const std::byte> bytes, std::uint64_t offset);

// A new file full of the pattern, on disk when it returns. `at_once`: bytes of one write(2), by
// which the kernel chooses how large the pieces are in which it keeps the file in its cache.
inline constexpr std::uint64_t kWriteBytes = std::uint64_t{1} << 20;
[[nodiscard]] Status write_pattern_file(const std::string& path, std::uint64_t bytes,
                                        std::uint64_t at_once = kWriteBytes);

// Reads a file as planned with pread, a thread for each read under way, each with a descriptor of
// its own. Seconds from the first read to the last answer. Fails on wrong bytes.
[[nodiscard]] Result<double> read_file(const std::string& path, const ReadPlan& plan);

// Lets go of what the kernel's cache holds of a file. kUnsupported where the file system is in
// memory anyway.
[[nodiscard]] Status drop_from_cache(const std::string& path);

}  // namespace gob::bench
