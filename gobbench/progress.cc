#include "gobbench/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace gob::bench {
namespace {
constexpr std::size_t kBarCells = 24;
}

Progress::Progress(std::string title, std::size_t steps)
    : title_(std::move(title)),
      steps_(std::max<std::size_t>(steps, 1)),
      visible_(::isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (visible_) std::fprintf(stderr, "\r\033[K");
}

void Progress::step(const std::string& doing) {
  if (visible_) {
    const std::size_t cells = std::min(begun_, steps_) * kBarCells / steps_;
    const std::string bar = std::string(cells, '#') + std::string(kBarCells - cells, '.');
    std::fprintf(stderr, "\r\033[K%s [%s] %zu/%zu %s", title_.c_str(), bar.c_str(), begun_ + 1,
                 steps_, doing.c_str());
  }
  ++begun_;
}

}  // namespace gob::bench
