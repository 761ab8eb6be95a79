#include "libgob/linker/slot_allocator.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace gob {
namespace {

constexpr std::size_t kWordBits = 64;
constexpr std::size_t kMaxSearch = 1024;  // words looked at for neighbours, before the file grows

}  // namespace

SlotAllocator::SlotAllocator(std::uint64_t max_slots)
    : max_slots_(std::min<std::uint64_t>(max_slots, std::numeric_limits<Slot>::max())) {}

bool SlotAllocator::take_run(std::size_t word, unsigned count, std::vector<Slot>& out) {
  // Bit i of `starts` survives if the `length` slots from i on are free.
  std::uint64_t starts = ~words_[word];
  for (unsigned length = 1; length < count && starts != 0;) {
    const unsigned step = std::min(length, count - length);
    starts &= starts >> step;
    length += step;
  }
  if (starts == 0) return false;
  const auto first = static_cast<unsigned>(std::countr_zero(starts));
  words_[word] |= (~std::uint64_t{0} >> (kWordBits - count)) << first;
  for (unsigned i = 0; i < count; ++i)
    out.push_back(static_cast<Slot>(word * kWordBits + first + i));
  used_ += count;
  return true;
}

bool SlotAllocator::grow() {
  const std::uint64_t slots = words_.size() * kWordBits;
  if (slots >= max_slots_) return false;
  words_.resize(words_.size() + kExtentSlots / kWordBits, 0);
  // Slots past the end are in use for ever.
  for (std::uint64_t slot = max_slots_; slot < words_.size() * kWordBits; ++slot)
    words_[slot / kWordBits] |= std::uint64_t{1} << (slot % kWordBits);
  return true;
}

bool SlotAllocator::allocate(unsigned count, std::vector<Slot>& out) {
  if (count == 0) return true;
  if (count > kWordBits || max_slots_ - used_ < count) return false;
  while (lowest_free_ < words_.size() && words_[lowest_free_] == ~std::uint64_t{0}) ++lowest_free_;
  const std::size_t until = std::min(words_.size(), lowest_free_ + kMaxSearch);
  for (std::size_t word = lowest_free_; word < until; ++word)
    if (take_run(word, count, out)) return true;
  while (true) {
    const std::size_t fresh = words_.size();
    if (!grow()) break;
    for (std::size_t word = fresh; word < words_.size(); ++word)
      if (take_run(word, count, out)) return true;
  }
  // No neighbours are left: single slots, wherever they are.
  for (std::size_t word = lowest_free_; count > 0; ++word)
    while (count > 0 && take_run(word, 1, out)) --count;
  return true;
}

void SlotAllocator::release(Slot slot) {
  words_[slot / kWordBits] &= ~(std::uint64_t{1} << (slot % kWordBits));
  lowest_free_ = std::min<std::size_t>(lowest_free_, slot / kWordBits);
  --used_;
}

}  // namespace gob
