// PageTable<V>: open-addressing map from PageKey to a small trivially copyable value, for the
// directory and the frame table: one entry for a page that exists, nothing for one that does not.
// Linear probing with backward-shift deletion; grows by half, so a slot pair of 16 bytes costs at
// most 16 / (7/8 / 1.5) = 27.5 bytes an entry once it holds more than a few. Single-threaded value
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
    const std::size_t i = locate(key);
    return i == kNone ? nullptr : &slots_[i].value;
  }
  [[nodiscard]] V* find(PageKey key) {
    const std::size_t i = locate(key);
    return i == kNone ? nullptr : &slots_[i].value;
  }

  // Finds or inserts a default value. The reference holds until the next insertion or erasure.
  V& operator[](PageKey key) {
    const std::size_t found = locate(key);
    if (found != kNone) return slots_[found].value;
    if ((size_ + 1) * 8 > slots_.size() * 7) grow();
    ++size_;
    std::size_t i = home(key);
    while (slots_[i].key != kEmpty) i = next(i);
    slots_[i] = {key, V{}};
    return slots_[i].value;
  }

  bool erase(PageKey key) {
    std::size_t hole = locate(key);
    if (hole == kNone) return false;
    --size_;
    for (std::size_t i = next(hole); slots_[i].key != kEmpty; i = next(i)) {
      // An entry may move back into the hole if that does not take it before its home slot.
      if (distance(home(slots_[i].key), i) >= distance(hole, i)) {
        slots_[hole] = slots_[i];
        hole = i;
      }
    }
    slots_[hole] = Slot{};
    return true;
  }

  void clear() {
    slots_.clear();
    slots_.shrink_to_fit();
    size_ = 0;
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
  static constexpr std::size_t kNone = ~std::size_t{0};

  // Eight neighbouring pages start in eight neighbouring slots, so that a run touches few lines.
  [[nodiscard]] std::size_t home(PageKey key) const {
    const auto hash = static_cast<unsigned __int128>(mix64(key >> 3));
    const auto base = static_cast<std::size_t>((hash * slots_.size()) >> 64);
    const std::size_t slot = base + (key & 7);
    return slot < slots_.size() ? slot : slot - slots_.size();  // there are 8 at least
  }
  [[nodiscard]] std::size_t next(std::size_t i) const { return i + 1 == slots_.size() ? 0 : i + 1; }
  [[nodiscard]] std::size_t distance(std::size_t from, std::size_t to) const {
    return to >= from ? to - from : to + slots_.size() - from;
  }
  [[nodiscard]] std::size_t locate(PageKey key) const {
    if (size_ == 0) return kNone;
    for (std::size_t i = home(key); slots_[i].key != kEmpty; i = next(i))
      if (slots_[i].key == key) return i;
    return kNone;
  }
  void grow() {
    std::vector<Slot> old = std::exchange(slots_, {});
    slots_.reserve(old.size() < 8 ? 8 : old.size() + old.size() / 2);
    slots_.resize(slots_.capacity());
    for (const Slot& slot : old) {
      if (slot.key == kEmpty) continue;
      std::size_t i = home(slot.key);
      while (slots_[i].key != kEmpty) i = next(i);
      slots_[i] = slot;
    }
  }

  std::vector<Slot> slots_;
  std::size_t size_ = 0;
};

}  // namespace gob
