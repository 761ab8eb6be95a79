// Sizes as people write them: 64M, 1.5G, 4096, 1TiB.
#pragma once

#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include "libgob/base/result.h"

namespace gob {

// Bytes, in powers of 1024: suffix none or B, K, M, G, T, P, each also as KB or KiB.
inline Result<std::uint64_t> parse_size(std::string_view text) {
  const auto bad = [&](const char* why) {
    return make_error(ErrorCode::kInvalidArgument,
                      "cannot take '" + std::string(text) + "' as a size: " + why +
                          "; write a number with an optional K, M, G, T or P, such as 64M");
  };
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || !std::isfinite(number)) return bad("it does not start with a number");
  if (number < 0) return bad("it is negative");
  std::string_view suffix(end, static_cast<std::size_t>(text.data() + text.size() - end));
  constexpr std::string_view kUnits = "KMGTP";
  double factor = 1;
  if (!suffix.empty() && suffix != "B") {
    const auto unit =
        kUnits.find(static_cast<char>(std::toupper(static_cast<unsigned char>(suffix.front()))));
    const std::string_view rest = suffix.substr(1);
    if (unit == std::string_view::npos || !(rest.empty() || rest == "B" || rest == "iB"))
      return bad("the unit is unknown");
    factor = std::pow(1024.0, static_cast<double>(unit + 1));
  }
  const double bytes = number * factor;
  if (bytes >= 9.2e18) return bad("it is too large");
  return static_cast<std::uint64_t>(bytes);
}

inline std::string format_size(std::uint64_t bytes) {
  constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  std::array<char, 32> text{};
  const bool whole = value == std::floor(value);
  std::snprintf(text.data(), text.size(), whole ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return text.data();
}

}  // namespace gob
