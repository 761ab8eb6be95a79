// LostPages: those pages of a linked segment or file whose bytes the container has not any more, as far
// as somebody has asked for them, and what is to become of them when the link ends. Any thread.
#pragma once

#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "libgob/base/ids.h"

namespace gob {

struct PageRun {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
};

class LostPages {
 public:
  // Somebody asked for the page and cannot have it, now or ever.
  void note(PageIndex page);
  [[nodiscard]] bool contains(std::uint64_t page) const;

  // Whether lost pages are to be zeros in what is linked: its user has been told, and wants it so.
  void accept_zeros(bool accepted);
  [[nodiscard]] bool zeros_accepted() const;
  // The page is zeros there now.
  void note_zeros(PageIndex page);
  // All such pages since the link was made, ascending.
  [[nodiscard]] std::vector<std::uint64_t> zeros() const;

 private:
  mutable std::mutex mutex_;
  std::set<std::uint64_t> lost_;
  std::set<std::uint64_t> zeros_;
  bool accepted_ = false;
};

// `pages` ascend.
std::vector<PageRun> runs_of(const std::vector<std::uint64_t>& pages);
// "4, 17-18"; after `at_most` runs "and N more".
std::string to_words(const std::vector<PageRun>& runs, std::size_t at_most);

}  // namespace gob
