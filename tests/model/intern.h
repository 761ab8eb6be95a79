// Interner<T>: gives equal values one small number, so that a state of many parts is a few words
// and comparing states is exact. Values must have hash (through Hasher) and ==. Single-threaded.
#pragma once

#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "libgob/base/page_table.h"

namespace gob::model {

template <class T, class Hasher>
class Interner {
 public:
  struct Outcome {
    std::uint32_t id;
    bool is_new;
  };

  Outcome put(T value) {
    if ((items_.size() + 1) * 2 > slots_.size()) grow();
    const std::uint64_t hash = Hasher{}(value);
    std::size_t i = hash & (slots_.size() - 1);
    for (; slots_[i] != kEmpty; i = (i + 1) & (slots_.size() - 1)) {
      const std::uint32_t id = slots_[i];
      if (hashes_[id] == hash && items_[id] == value) return {id, false};
    }
    const auto id = static_cast<std::uint32_t>(items_.size());
    slots_[i] = id;
    hashes_.push_back(hash);
    items_.push_back(std::move(value));
    return {id, true};
  }
  [[nodiscard]] const T& operator[](std::uint32_t id) const { return items_[id]; }
  [[nodiscard]] std::size_t size() const { return items_.size(); }

 private:
  static constexpr std::uint32_t kEmpty = ~0u;

  void grow() {
    slots_.assign(slots_.empty() ? 1024 : slots_.size() * 2, kEmpty);
    for (std::uint32_t id = 0; id < hashes_.size(); ++id) {
      std::size_t i = hashes_[id] & (slots_.size() - 1);
      while (slots_[i] != kEmpty) i = (i + 1) & (slots_.size() - 1);
      slots_[i] = id;
    }
  }

  std::deque<T> items_;
  std::vector<std::uint64_t> hashes_;
  std::vector<std::uint32_t> slots_;
};

// Memo: (id, operation) -> id of the result, open addressing.
class Memo {
 public:
  static constexpr std::uint32_t kUnknown = ~0u;

  // The place for the result; kUnknown if it is not known yet. Holds until the next call.
  std::uint32_t& operator()(std::uint32_t id, std::uint64_t operation) {
    if ((size_ + 1) * 2 > slots_.size()) grow();
    std::size_t i = place(id, operation);
    if (slots_[i].result == kUnknown && !slots_[i].used) {
      slots_[i] = {operation, id, kUnknown, true};
      ++size_;
    }
    return slots_[i].result;
  }

 private:
  struct Slot {
    std::uint64_t operation = 0;
    std::uint32_t id = 0;
    std::uint32_t result = kUnknown;
    bool used = false;
  };

  [[nodiscard]] std::size_t place(std::uint32_t id, std::uint64_t operation) const {
    std::size_t i = mix64(operation * 0x9e3779b97f4a7c15ull + id) & (slots_.size() - 1);
    while (slots_[i].used && (slots_[i].id != id || slots_[i].operation != operation))
      i = (i + 1) & (slots_.size() - 1);
    return i;
  }
  void grow() {
    std::vector<Slot> old = std::exchange(slots_, {});
    slots_.resize(old.empty() ? 1024 : old.size() * 2);
    for (const Slot& slot : old)
      if (slot.used) slots_[place(slot.id, slot.operation)] = slot;
  }

  std::vector<Slot> slots_;
  std::size_t size_ = 0;
};

}  // namespace gob::model
