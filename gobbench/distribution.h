// Which worker computes which lines of a matrix. Values.
#pragma once

#include <algorithm>
#include <cstddef>

namespace gob::bench {

// Block-cyclic: blocks of `block` neighbouring lines go round the workers. With block 1 it is
// cyclic.
class Distribution {
 public:
  Distribution(std::size_t lines, unsigned workers, std::size_t block)
      : lines_(lines), workers_(std::max(workers, 1u)), block_(std::max<std::size_t>(block, 1)) {}

  static Distribution cyclic(std::size_t lines, unsigned workers) { return {lines, workers, 1}; }

  [[nodiscard]] unsigned owner(std::size_t line) const {
    return static_cast<unsigned>(line / block_ % workers_);
  }
  // Calls f(first, end) for each block of `worker` between lines `from` and `to`, ascending.
  template <class F>
  void for_each_block(unsigned worker, std::size_t from, std::size_t to, F&& f) const {
    const std::size_t end = std::min(to, lines_);
    for (std::size_t b = worker; b * block_ < end; b += workers_) {
      const std::size_t first = std::max(b * block_, from);
      const std::size_t last = std::min((b + 1) * block_, end);
      if (first < last) f(first, last);
    }
  }
  // The same, line by line.
  template <class F>
  void for_each_line(unsigned worker, std::size_t from, std::size_t to, F&& f) const {
    for_each_block(worker, from, to, [&](std::size_t first, std::size_t last) {
      for (std::size_t line = first; line < last; ++line) f(line);
    });
  }

  [[nodiscard]] std::size_t lines() const { return lines_; }
  [[nodiscard]] unsigned workers() const { return workers_; }
  [[nodiscard]] std::size_t block() const { return block_; }

 private:
  std::size_t lines_;
  unsigned workers_;
  std::size_t block_;
};

}  // namespace gob::bench
