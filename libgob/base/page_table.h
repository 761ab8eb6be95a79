// PageTable<V>: open-addressing map from PageKey to a small trivially copyable value, for the
// directory and the frame table: one entry for a page that exists, nothing for one that does not.
// Linear probing in the order of home slots (Robin Hood), so that what is not there is soon known
// not to be, with backward-shift deletion; grows by half, so a slot pair of 16 bytes costs at
// most 16 / (4/5 / 1.5) = 30 bytes an entry once it holds more than a few, and each container some
// 60 bytes once. Single-threaded value
// type: copyable, comparable and hashable by content, whatever the order of insertion.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "libgob/base/ids.h"

namespace gob {

constexpr std::uint64_t mix64(std::uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9ull;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

template <class V>
class PageTable {
  static_assert(std::is_trivially_copyable_v<V>);

 public:
  struct Slot {
    PageKey key = kEmpty;
    V value{};
  };

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::size_t memory_bytes() const {
    return slots_.capacity() * sizeof(Slot) + extents_.size() * kExtentBytes;
  }

  [[nodiscard]] const V* find(PageKey key) const {
    const Place place = look_up(key);
    return place.found ? &slots_[place.slot].value : nullptr;
  }
  [[nodiscard]] V* find(PageKey key) {
    const Place place = look_up(key);
    return place.found ? &slots_[place.slot].value : nullptr;
  }

  // Finds or inserts a default value. The reference holds until the next insertion or erasure.
  V& operator[](PageKey key) {
    Place place = look_up(key);
    if (place.found) return slots_[place.slot].value;
    while ((size_ + 1) * 5 > slots_.size() * 4 || full(place.slot)) {
      grow();
      place = look_up(key);
    }
    note(key);
    ++size_;
    return insert_at(place.slot, {key, V{}}).value;
  }

  bool erase(PageKey key) {
    const Place place = look_up(key);
    if (!place.found) return false;
    --size_;
    if (const auto extent = extents_.find(container_of(key)); --extent->second.entries == 0)
      extents_.erase(extent);
    // What follows moves back until something is at its home.
    std::size_t hole = place.slot;
    for (std::size_t i = next(hole); slots_[i].key != kEmpty && home(slots_[i].key) != i;
         i = next(i)) {
      slots_[hole] = slots_[i];
      hole = i;
    }
    slots_[hole] = Slot{};
    return true;
  }

  void clear() {
    slots_.clear();
    slots_.shrink_to_fit();
    extents_.clear();
    size_ = 0;
    last_ = 0;
  }

  // Calls f(key, value&) for each entry, in no particular order; f must not insert or erase.
  template <class F>
  void for_each(F&& f) const {
    for (const Slot& slot : slots_)
      if (slot.key != kEmpty) f(slot.key, slot.value);
  }
  template <class F>
  void for_each(F&& f) {
    for (Slot& slot : slots_)
      if (slot.key != kEmpty) f(slot.key, slot.value);
  }

  // Of one container, in no particular order: at a cost that has to do with its pages, not with
  // those of others, unless it has few that lie far apart.
  [[nodiscard]] std::vector<PageKey> keys_of(ContainerId id) const {
    std::vector<PageKey> keys;
    const auto found = extents_.find(id.value());
    if (found == extents_.end()) return keys;
    const Extent& extent = found->second;
    keys.reserve(extent.entries);
    if (extent.last - extent.first < slots_.size()) {
      for (PageKey key = extent.first; keys.size() < extent.entries; ++key)
        if (look_up(key).found) keys.push_back(key);
    } else {
      for (std::size_t i = 0; keys.size() < extent.entries; ++i)
        if (slots_[i].key != kEmpty && container_of(slots_[i].key) == id.value())
          keys.push_back(slots_[i].key);
    }
    return keys;
  }

  // Slots for a clock hand: slot(i) is empty (key == kEmpty) or an entry.
  static constexpr PageKey kEmpty = ~PageKey{0};
  [[nodiscard]] std::size_t slot_count() const { return slots_.size(); }
  [[nodiscard]] Slot& slot(std::size_t i) { return slots_[i]; }

  friend bool operator==(const PageTable& a, const PageTable& b) {
    if (a.size_ != b.size_) return false;
    bool equal = true;
    a.for_each([&](PageKey key, const V& value) {
      const V* other = b.find(key);
      if (other == nullptr || !(*other == value)) equal = false;
    });
    return equal;
  }

 private:
  // The entries of a container: how many, and between which keys they lie, if not nearer.
  struct Extent {
    std::size_t entries = 0;
    PageKey first = kEmpty;
    PageKey last = 0;
  };
  static constexpr std::size_t kExtentBytes = sizeof(Extent) + 4 * sizeof(void*);  // about
  // Where a key is, or would be.
  struct Place {
    std::size_t slot = 0;
    bool found = false;
  };

  // Slots lie in rows of eight, one for each of eight neighbouring pages, so that a run touches few
  // lines. A page whose place is taken goes to the same column of a later row: neighbours do not
  // push each other away. Which column is whose differs from row to row, lest every eighth page
  // fill one of them.
  static constexpr std::size_t kRow = 8;
  [[nodiscard]] std::size_t home(PageKey key) const {
    const std::uint64_t mixed = mix64(key / kRow);
    const auto row = static_cast<std::size_t>(
        (static_cast<unsigned __int128>(mixed) * (slots_.size() / kRow)) >> 64);
    return row * kRow + (key ^ mixed) % kRow;
  }
  [[nodiscard]] std::size_t next(std::size_t i) const {
    return i + kRow < slots_.size() ? i + kRow : i + kRow - slots_.size();
  }
  // In the same column, in slots.
  [[nodiscard]] std::size_t distance(std::size_t from, std::size_t to) const {
    return to >= from ? to - from : to + slots_.size() - from;
  }
  static std::uint32_t container_of(PageKey key) { return page_of(key).container.value(); }
  void note(PageKey key) {
    Extent& extent = extents_[container_of(key)];
    ++extent.entries;
    extent.first = std::min(extent.first, key);
    extent.last = std::max(extent.last, key);
  }
  [[nodiscard]] Place look_up(PageKey key) const {
    if (size_ == 0) return {slots_.empty() ? 0 : home(key), false};
    // Who speaks of a page does so more than once, and then of its neighbour.
    const PageKey last = slots_[last_].key;
    if (last == key) return {last_, true};
    if (last / kRow == key / kRow) {
      const std::size_t near = last_ ^ ((last ^ key) % kRow);
      if (slots_[near].key == key) return {last_ = near, true};
    }
    std::size_t i = home(key);
    for (std::size_t far = 0; far < slots_.size(); i = next(i), far += kRow) {
      const PageKey there = slots_[i].key;
      if (there == key) return {last_ = i, true};
      // An entry that is nearer to its home would have made room.
      if (there == kEmpty || distance(home(there), i) < far) break;
    }
    return {i, false};
  }
  // The column of a place where a key would be.
  [[nodiscard]] bool full(std::size_t slot) const {
    std::size_t i = slot;
    do {
      if (slots_[i].key == kEmpty) return false;
      i = next(i);
    } while (i != slot);
    return true;
  }
  // Makes room at a place where the entry belongs, in a column that is not full.
  Slot& insert_at(std::size_t slot, Slot entry) {
    for (std::size_t i = slot; entry.key != kEmpty; i = next(i)) std::swap(entry, slots_[i]);
    return slots_[slot];
  }
  void grow() {
    std::vector<Slot> old = std::exchange(slots_, {});
    std::size_t rows = old.size() / kRow;
    for (bool fits = false; !fits;) {
      rows += rows / 2 + 1;
      slots_.assign(rows * kRow, Slot{});
      last_ = 0;
      fits = true;
      for (const Slot& slot : old) {
        if (slot.key == kEmpty) continue;
        const std::size_t place = look_up(slot.key).slot;
        fits = !full(place);
        if (!fits) break;
        insert_at(place, slot);
      }
    }
  }

  std::vector<Slot> slots_;
  std::unordered_map<std::uint32_t, Extent> extents_;  // by container
  std::size_t size_ = 0;
  mutable std::size_t last_ = 0;  // where the last key was found; no content
};

}  // namespace gob
