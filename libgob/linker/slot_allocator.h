// SlotAllocator: which page-sized slots of a swap file are in use. One bit a slot; grows with the
// file, an extent at a time, and fills low slots first so that the file stays short. Pure; owned by
// one thread.
#pragma once

#include <cstdint>
#include <vector>

namespace gob {

class SlotAllocator {
 public:
  using Slot = std::uint32_t;
  static constexpr unsigned kExtentSlots = 256;  // 1 MiB

  explicit SlotAllocator(std::uint64_t max_slots);

  // Appends `count` (at most 64) slots to `out`, neighbours in ascending order where such are free.
  // False if so many are not free: nothing is taken then.
  bool allocate(unsigned count, std::vector<Slot>& out);
  void release(Slot slot);

  [[nodiscard]] std::uint64_t used() const { return used_; }
  [[nodiscard]] std::uint64_t max_slots() const { return max_slots_; }

 private:
  // Takes `count` neighbours within words_[word] if they are free.
  bool take_run(std::size_t word, unsigned count, std::vector<Slot>& out);
  bool grow();

  std::uint64_t max_slots_;
  std::uint64_t used_ = 0;
  std::vector<std::uint64_t> words_;  // bit set: in use
  std::size_t lowest_free_ = 0;       // no word before it has a free slot
};

}  // namespace gob
