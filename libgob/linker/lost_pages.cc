#include "libgob/linker/lost_pages.h"

namespace gob {

void LostPages::note(PageIndex page) {
  const std::lock_guard lock(mutex_);
  lost_.insert(page.value());
}

bool LostPages::contains(std::uint64_t page) const {
  const std::lock_guard lock(mutex_);
  return lost_.contains(page);
}

void LostPages::accept_zeros(bool accepted) {
  const std::lock_guard lock(mutex_);
  accepted_ = accepted;
}

bool LostPages::zeros_accepted() const {
  const std::lock_guard lock(mutex_);
  return accepted_;
}

void LostPages::note_zeros(PageIndex page) {
  const std::lock_guard lock(mutex_);
  zeros_.insert(page.value());
}

std::vector<std::uint64_t> LostPages::zeros() const {
  const std::lock_guard lock(mutex_);
  return {zeros_.begin(), zeros_.end()};
}

std::vector<PageRun> runs_of(const std::vector<std::uint64_t>& pages) {
  std::vector<PageRun> runs;
  for (const std::uint64_t page : pages) {
    if (!runs.empty() && runs.back().first + runs.back().count == page)
      ++runs.back().count;
    else
      runs.push_back({page, 1});
  }
  return runs;
}

std::string to_words(const std::vector<PageRun>& runs, std::size_t at_most) {
  std::string words;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (i == at_most) return words + " and " + std::to_string(runs.size() - i) + " more runs";
    if (i != 0) words += ", ";
    words += std::to_string(runs[i].first);
    if (runs[i].count > 1) words += "-" + std::to_string(runs[i].first + runs[i].count - 1);
  }
  return words;
}

}  // namespace gob
