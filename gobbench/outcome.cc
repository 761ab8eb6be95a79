#include "gobbench/outcome.h"

#include <array>
#include <cstdio>

namespace gob::bench {

std::string Target::text() const {
  const char* sign = better == Better::kSmaller ? "<=" : ">=";
  const auto number = [](double value) {
    std::array<char, 32> digits{};
    std::snprintf(digits.data(), digits.size(), "%.2f", value);
    return std::string(digits.data());
  };
  std::string line = (met() ? "met:    " : "MISSED: ") + what + " " + number(measured) +
                     ", must be " + sign + " " + number(must);
  if (goal)
    line += ", goal " + std::string(sign) + " " + number(*goal) +
            (reaches(*goal) ? " (reached)" : " (not reached)");
  return line;
}

Json Target::json() const {
  Json object{{"what", what}, {"measured", measured}, {"must", must}};
  object["goal"] = goal ? Json(*goal) : Json();
  object["better"] = better == Better::kSmaller ? "smaller" : "larger";
  object["met"] = met();
  return object;
}

}  // namespace gob::bench
