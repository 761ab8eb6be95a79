// What a checker has to say: the first few violations in words, and how many there were.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gob::history {

struct Findings {
  static constexpr std::size_t kShown = 20;

  std::vector<std::string> shown;
  std::uint64_t count = 0;

  void add(std::string violation) {
    if (++count <= kShown) shown.push_back(std::move(violation));
  }
  void add(const Findings& others) {
    for (const std::string& violation : others.shown)
      if (shown.size() < kShown) shown.push_back(violation);
    count += others.count;
  }
  [[nodiscard]] bool empty() const { return count == 0; }
  [[nodiscard]] std::string text() const {
    std::string all;
    for (const std::string& violation : shown) all += violation + "\n";
    if (count > shown.size()) all += "and " + std::to_string(count - shown.size()) + " more\n";
    return all;
  }
};

}  // namespace gob::history
