// Text for people: colours where they are wanted, tables, and bytes of others made harmless.
// Values and pure functions: no thread affinity.
#pragma once

#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace gob::ctl {

// Colours on a terminal only, and not when NO_COLOR is set or the terminal has none.
bool colours_wanted(int fd);

class Paint {
 public:
  explicit Paint(bool on) : on_(on) {}
  [[nodiscard]] std::string bold(std::string_view text) const { return wrap("1", text); }
  [[nodiscard]] std::string dim(std::string_view text) const { return wrap("2", text); }
  [[nodiscard]] std::string good(std::string_view text) const { return wrap("32", text); }
  [[nodiscard]] std::string bad(std::string_view text) const { return wrap("31", text); }
  [[nodiscard]] bool on() const { return on_; }

 private:
  [[nodiscard]] std::string wrap(const char* code, std::string_view text) const;
  bool on_;
};

// The bytes as text that cannot steer a terminal: control characters and what is not UTF-8 become
// \xNN.
std::string printable(std::string_view bytes);

// Columns that line up; numbers to the right. Cells hold printable text without colours.
class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  enum class Tone { kPlain, kDim, kGood, kBad };
  // As many cells as there are columns. `tone`: of the whole line, where colours are wanted.
  void add(std::vector<std::string> cells, Tone tone = Tone::kPlain) {
    rows_.push_back(std::move(cells));
    tones_.push_back(tone);
  }
  void print(std::ostream& out, const Paint& paint, std::string_view indent = "") const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
  std::vector<Tone> tones_;  // of the rows
};

// 950 ns, 12.3 us, 4.56 ms, 7.8 s.
std::string format_duration(std::uint64_t ns);
// 12 s, 3 min, 5 h, 2 days: since when something runs.
std::string format_age(std::uint64_t ms);
// 0640 → rw-r-----
std::string format_mode(std::uint32_t mode);
// Names of a user and a group where the system knows them, else the numbers.
std::string format_owner(std::uint32_t uid, std::uint32_t gid);

}  // namespace gob::ctl
