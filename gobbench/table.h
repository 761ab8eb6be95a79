// Table: the rows that a measurement yields, shown as text, CSV, JSON or Markdown. Values: no
// thread affinity.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <variant>
#include <vector>

#include "libgob/base/result.h"

namespace gob::bench {

using Json = nlohmann::ordered_json;  // keys stay in the order in which they were put

struct Column {
  std::string key;      // in CSV and JSON: snake_case, unit last
  std::string heading;  // for people
  int decimals = 1;     // of real numbers, for people only
};

// Empty where a row has no such value.
using Cell = std::variant<std::monostate, std::string, std::int64_t, double>;

class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // One cell a column.
  void add(std::vector<Cell> row);
  // Rows in ascending order of their first column; those that are equal there stay in their order.
  [[nodiscard]] Table sorted() const;

  [[nodiscard]] const std::vector<Column>& columns() const { return columns_; }
  [[nodiscard]] const std::vector<std::vector<Cell>>& rows() const { return rows_; }

  // Aligned columns: words to the left, numbers to the right.
  [[nodiscard]] std::string text() const;
  // RFC 4180: a line of keys, then the rows; numbers in full precision.
  [[nodiscard]] std::string csv() const;
  // What csv() wrote, for the same columns. Fails with kInvalidArgument and the line where it is
  // something else. A number comes back as a number.
  static Result<Table> from_csv(const std::vector<Column>& columns, const std::string& text);
  // A list of objects; empty cells are null.
  [[nodiscard]] Json json() const;
  [[nodiscard]] std::string markdown() const;

 private:
  [[nodiscard]] bool numeric(std::size_t column) const;
  [[nodiscard]] std::string shown(std::size_t row, std::size_t column) const;

  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace gob::bench
