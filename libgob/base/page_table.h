// PageTable<V>: open-addressing map from PageKey to a small trivially copyable value, for the
// directory and the frame table: one entry for a page that exists, nothing for one that does not.
// Linear probing in the order of home slots (Robin Hood), so that what is not there is soon known
// not to be, with backward-shift deletion; grows by half, so a slot pair of 16 bytes costs at
// most 16 / (4/5 / 1.5) = 30 bytes an entry once it holds more than a few. Single-threaded value
// type: copyable, comparable and hashable by content, whatever the order of insertion.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
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
  [[nodiscard]] std::size_t memory_bytes() const { return slots_.capacity() * sizeof(Slot); }

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
    ++size_;
    return insert_at(place.slot, {key, V{}}).value;
  }

  bool erase(PageKey key) {
    const Place place = look_up(key);
    if (!place.found) return false;
    --size_;
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
  std::size_t size_ = 0;
  mutable std::size_t last_ = 0;  // where the last key was found; no content
};

}  // namespace gob
