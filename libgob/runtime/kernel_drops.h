// KernelDrops: pages that the kernel of this node was told to forget and has not yet. Looking at
// those of 64 pages costs as much as there is under way for them. Value type of one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "libgob/base/page_set.h"

namespace gob {

class KernelDrops {
 public:
  struct Drop {
    PageSet pages;              // fewer when the kernel asks for some anew
    std::size_t runs_left = 0;  // notifications
    std::function<void()> then;
  };

  [[nodiscard]] bool empty() const { return drops_.empty(); }
  std::uint64_t add(const PageSet& pages, std::function<void()> then) {
    drops_[next_] = {pages, 0, std::move(then)};
    stripes_[{pages.container, pages.stripe}].insert(next_);
    return next_++;
  }
  // nullptr: it is over.
  [[nodiscard]] Drop* find(std::uint64_t number) {
    const auto found = drops_.find(number);
    return found == drops_.end() ? nullptr : &found->second;
  }
  void erase(std::uint64_t number) {
    const auto found = drops_.find(number);
    const auto stripe = stripes_.find({found->second.pages.container, found->second.pages.stripe});
    stripe->second.erase(number);
    if (stripe->second.empty()) stripes_.erase(stripe);
    drops_.erase(found);
  }
  // Which of these pages.
  [[nodiscard]] std::uint64_t among(const PageSet& pages) const {
    std::uint64_t mask = 0;
    const auto stripe = stripes_.find({pages.container, pages.stripe});
    if (stripe == stripes_.end()) return 0;
    for (const std::uint64_t number : stripe->second) mask |= drops_.at(number).pages.mask;
    return mask & pages.mask;
  }
  // Pages that the kernel has forgotten. Returns what to do where none is left.
  [[nodiscard]] std::vector<std::function<void()>> forgotten(const PageSet& pages) {
    std::vector<std::function<void()>> over;
    const auto stripe = stripes_.find({pages.container, pages.stripe});
    if (stripe == stripes_.end()) return over;
    for (const std::uint64_t number : stripe->second) {
      Drop& drop = drops_.at(number);
      drop.pages.mask &= ~pages.mask;
      if (drop.pages.empty() && drop.then) over.push_back(std::exchange(drop.then, nullptr));
    }
    return over;
  }

 private:
  std::uint64_t next_ = 0;
  std::map<std::uint64_t, Drop> drops_;
  std::map<std::pair<ContainerId, std::uint64_t>, std::set<std::uint64_t>> stripes_;
};

}  // namespace gob
