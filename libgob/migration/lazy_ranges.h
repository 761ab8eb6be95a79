// LazyRanges: which pages of one address space have not arrived yet, and where in the migration's
// containers each of them is. Follows what the program does to its memory meanwhile. A value; no
// thread affinity.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

namespace gob::migration {

class LazyRanges {
 public:
  struct Run {
    std::uint64_t address = 0;
    std::uint64_t page = 0;   // number in the containers, of the page at `address`
    std::uint64_t pages = 0;  // contiguous in both
    bool operator==(const Run&) const = default;
  };

  // Pages to come, numbered from `page`; they overlap no others.
  void add(std::uint64_t address, std::uint64_t page, std::uint64_t pages);
  // The page at `address` (page aligned) and what follows it, at most `most` pages.
  [[nodiscard]] std::optional<Run> find(std::uint64_t address, std::uint64_t most) const;
  // The first pages that are still out at or after `address`, else the first of all.
  [[nodiscard]] std::optional<Run> next(std::uint64_t address, std::uint64_t most) const;
  // [start, end) arrived, was unmapped, or was given up by the program (madvise).
  void drop(std::uint64_t start, std::uint64_t end);
  // mremap: what was to come at `from` comes at `to`.
  void move(std::uint64_t from, std::uint64_t to, std::uint64_t bytes);

  // All that is out, by address.
  [[nodiscard]] std::vector<Run> runs() const;
  [[nodiscard]] bool empty() const { return ranges_.empty(); }
  [[nodiscard]] std::uint64_t pages() const;

 private:
  struct Part {
    std::uint64_t end = 0;
    std::uint64_t page = 0;
  };
  std::map<std::uint64_t, Part> ranges_;  // by start
};

}  // namespace gob::migration
