// Litmus programs: a few threads of a few accesses each, and what one run of them may end with.
// Values, no thread affinity.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gob::litmus {

inline constexpr unsigned kMaxThreads = 4;
inline constexpr unsigned kMaxLoads = 2;    // of one thread
inline constexpr unsigned kMaxWatched = 6;  // digits of an outcome

struct Access {
  enum class Kind : std::uint8_t { kStore, kLoad, kFence };
  Kind kind = Kind::kFence;
  std::uint8_t variable = 0;
  std::uint8_t value = 0;  // a store's: 1 to 3; the register of a load
};

// What a run ends with, in one number: a digit of base 4 for each register, then for each variable
// that is stored to more than once, its final value. Every variable is 0 at first.
using OutcomeCode = std::uint32_t;
inline constexpr OutcomeCode kOutcomeCodes = 1u << (2 * kMaxWatched);

struct Program {
  std::string name;
  std::string text;  // as it was parsed
  std::vector<std::vector<Access>> threads;
  unsigned variables = 0;
  unsigned registers = 0;

  // Variables whose final value is part of the outcome.
  [[nodiscard]] std::vector<unsigned> watched() const;
  // "r0=1 r1=0 x=2".
  [[nodiscard]] std::string describe(OutcomeCode outcome) const;
  // With a full fence between every two accesses of a thread.
  [[nodiscard]] Program fenced() const;
};

// "x=1 r0=y | y=1 r1=x": threads between bars; variables are x, y, z; registers r0, r1, ...
// Throws std::invalid_argument: programs are written by programmers.
[[nodiscard]] Program parse_program(const std::string& name, const std::string& text);

// The programs of the suite, by their names in the literature.
[[nodiscard]] const std::vector<Program>& catalogue();

}  // namespace gob::litmus
