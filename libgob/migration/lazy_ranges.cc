#include "libgob/migration/lazy_ranges.h"

#include <algorithm>

#include "libgob/base/ids.h"

namespace gob::migration {

void LazyRanges::add(std::uint64_t address, std::uint64_t page, std::uint64_t pages) {
  if (pages != 0) ranges_[address] = {address + pages * kPageSize, page};
}

std::optional<LazyRanges::Run> LazyRanges::find(std::uint64_t address, std::uint64_t most) const {
  auto it = ranges_.upper_bound(address);
  if (it == ranges_.begin()) return std::nullopt;
  --it;
  if (address >= it->second.end) return std::nullopt;
  return Run{address, it->second.page + (address - it->first) / kPageSize,
             std::min(most, (it->second.end - address) / kPageSize)};
}

std::optional<LazyRanges::Run> LazyRanges::next(std::uint64_t address, std::uint64_t most) const {
  if (ranges_.empty()) return std::nullopt;
  if (auto here = find(address, most)) return here;
  auto it = ranges_.lower_bound(address);
  if (it == ranges_.end()) it = ranges_.begin();
  return find(it->first, most);
}

void LazyRanges::drop(std::uint64_t start, std::uint64_t end) {
  auto it = ranges_.upper_bound(start);
  if (it != ranges_.begin()) --it;
  while (it != ranges_.end() && it->first < end) {
    const std::uint64_t first = it->first;
    const Part part = it->second;
    if (part.end <= start) {
      ++it;
      continue;
    }
    it = ranges_.erase(it);
    if (first < start) ranges_[first] = {start, part.page};
    if (part.end > end) ranges_[end] = {part.end, part.page + (end - first) / kPageSize};
  }
}

void LazyRanges::move(std::uint64_t from, std::uint64_t to, std::uint64_t bytes) {
  std::vector<Run> moved;
  for (const auto& [start, part] : ranges_) {
    const std::uint64_t first = std::max(start, from);
    const std::uint64_t last = std::min(part.end, from + bytes);
    if (first >= last) continue;
    moved.push_back(
        {first - from + to, part.page + (first - start) / kPageSize, (last - first) / kPageSize});
  }
  drop(from, from + bytes);
  drop(to, to + bytes);
  for (const Run& run : moved) add(run.address, run.page, run.pages);
}

std::vector<LazyRanges::Run> LazyRanges::runs() const {
  std::vector<Run> all;
  for (const auto& [start, part] : ranges_)
    all.push_back({start, part.page, (part.end - start) / kPageSize});
  return all;
}

std::uint64_t LazyRanges::pages() const {
  std::uint64_t sum = 0;
  for (const auto& [start, part] : ranges_) sum += (part.end - start) / kPageSize;
  return sum;
}

}  // namespace gob::migration
