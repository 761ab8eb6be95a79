// ReadWindow: how much of files a shard asks other nodes for at once on behalf of reads. Enough
// that no network has to wait; more would only wait at the other node, in memory that it has to
// find for it, and keep whoever asks next waiting behind all of it. What is beyond stands in line.
// Pure; the shard's thread.
#pragma once

#include <bit>
#include <deque>
#include <memory>

#include "libgob/runtime/file_access.h"

namespace gob {

class ReadWindow {
 public:
  static constexpr unsigned kMostPages = 512;
  // So small a part of a read passes by the line: a program waits for it, and it is no burden.
  static constexpr unsigned kSmallPages = 8;

  // Whether the part, which lacks `pages` pages, may ask for them. If not, it stands in line.
  [[nodiscard]] bool enter(const std::shared_ptr<FilePart>& part, unsigned pages) {
    if (part->asked != 0 || pages <= kSmallPages) return true;
    if (part->in_line) return false;
    if (line_.empty() && fits(pages)) {
      take(*part, pages);
      return true;
    }
    part->in_line = true;
    line_.push_back(part);
    return false;
  }

  // The part has what it asked for, or has ended. `next` gets those whose turn it is: they may ask.
  template <class F>
  void leave(FilePart& part, F&& next) {
    asked_ -= part.asked;
    part.asked = 0;
    while (!line_.empty()) {
      FilePart& first = *line_.front();
      const bool ended = first.over || first.counted;
      const auto pages = static_cast<unsigned>(std::popcount(first.pages.mask & ~first.done));
      if (!ended && !fits(pages)) return;
      const std::shared_ptr<FilePart> kept = std::move(line_.front());
      line_.pop_front();
      kept->in_line = false;
      if (ended) continue;
      take(*kept, pages);
      next(kept);
    }
  }

  [[nodiscard]] unsigned asked() const { return asked_; }
  // Reads alone keep the network busy: nothing has to be asked for before it is read.
  [[nodiscard]] bool busy() const { return asked_ > kMostPages / 2 || !line_.empty(); }

 private:
  [[nodiscard]] bool fits(unsigned pages) const {
    return asked_ == 0 || asked_ + pages <= kMostPages;
  }
  void take(FilePart& part, unsigned pages) {
    part.asked = pages;
    asked_ += pages;
  }

  unsigned asked_ = 0;  // pages, of parts that may ask
  std::deque<std::shared_ptr<FilePart>> line_;
};

}  // namespace gob
