#include "gobbench/table.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace gob::bench {
namespace {

// Shortest digits that read back as the same number.
std::string precise(double value) {
  if (!std::isfinite(value)) return "";
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return {text.data(), end};
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

// Characters of UTF-8 text, each taken to be one column wide.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

bool is_number(const Cell& cell) {
  return std::holds_alternative<std::int64_t>(cell) || std::holds_alternative<double>(cell);
}

// A quoted field is a word whatever it holds.
Cell cell_of(const std::string& text, bool quoted) {
  if (quoted) return text;
  if (text.empty()) return {};
  const char* end = text.data() + text.size();
  std::int64_t whole = 0;
  if (const auto read = std::from_chars(text.data(), end, whole);
      read.ec == std::errc() && read.ptr == end)
    return whole;
  double real = 0;
  if (const auto read = std::from_chars(text.data(), end, real);
      read.ec == std::errc() && read.ptr == end && std::isfinite(real))
    return real;
  return text;
}

// Takes the next line of RFC 4180 text; false if a quote is left open.
bool take_line(const std::string& text, std::size_t& at, std::vector<Cell>& out) {
  out.clear();
  std::string field;
  bool quoted = false;
  bool open = false;
  for (;; ++at) {
    const bool ended = at == text.size();
    if (ended && open) return false;
    const char c = ended ? '\n' : text[at];
    if (open) {
      if (c != '"')
        field += c;
      else if (at + 1 < text.size() && text[at + 1] == '"')
        field += text[++at];
      else
        open = false;
    } else if (c == '"') {
      quoted = open = true;
    } else if (c == ',' || c == '\n') {
      out.push_back(cell_of(field, quoted));
      field.clear();
      quoted = false;
      if (c == '\n') break;
    } else if (c != '\r') {
      field += c;
    }
  }
  if (at < text.size()) ++at;
  return true;
}

}  // namespace

void Table::add(std::vector<Cell> row) {
  assert(row.size() == columns_.size());
  rows_.push_back(std::move(row));
}

Table Table::sorted() const {
  Table table = *this;
  std::stable_sort(table.rows_.begin(), table.rows_.end(),
                   [](const auto& a, const auto& b) { return a[0] < b[0]; });
  return table;
}

std::string Table::shown(std::size_t row, std::size_t column) const {
  const Cell& cell = rows_[row][column];
  if (const auto* text = std::get_if<std::string>(&cell)) return *text;
  if (const auto* whole = std::get_if<std::int64_t>(&cell)) return std::to_string(*whole);
  if (const auto* real = std::get_if<double>(&cell); real != nullptr && std::isfinite(*real)) {
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "%.*f", columns_[column].decimals, *real);
    return text.data();
  }
  return "-";
}

bool Table::numeric(std::size_t column) const {
  return std::any_of(rows_.begin(), rows_.end(),
                     [&](const auto& row) { return is_number(row[column]); });
}

std::string Table::text() const {
  std::vector<std::size_t> widths;
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    std::size_t width = width_of(columns_[c].heading);
    for (std::size_t r = 0; r < rows_.size(); ++r) width = std::max(width, width_of(shown(r, c)));
    widths.push_back(width);
  }
  std::string out;
  const auto put = [&](const std::string& word, std::size_t c) {
    const std::string space(widths[c] - width_of(word), ' ');
    const bool last = c + 1 == columns_.size();
    if (numeric(c)) {
      out += space + word;
    } else {
      out += last ? word : word + space;
    }
    out += last ? "\n" : "  ";
  };
  for (std::size_t c = 0; c < columns_.size(); ++c) put(columns_[c].heading, c);
  for (std::size_t r = 0; r < rows_.size(); ++r)
    for (std::size_t c = 0; c < columns_.size(); ++c) put(shown(r, c), c);
  return out;
}

std::string Table::csv() const {
  std::string out;
  for (std::size_t c = 0; c < columns_.size(); ++c)
    out += (c == 0 ? "" : ",") + csv_field(columns_[c].key);
  out += '\n';
  for (const auto& row : rows_) {
    for (std::size_t c = 0; c < row.size(); ++c) {
      if (c != 0) out += ',';
      if (const auto* text = std::get_if<std::string>(&row[c])) out += csv_field(*text);
      if (const auto* whole = std::get_if<std::int64_t>(&row[c])) out += std::to_string(*whole);
      if (const auto* real = std::get_if<double>(&row[c])) out += precise(*real);
    }
    out += '\n';
  }
  return out;
}

Result<Table> Table::from_csv(const std::vector<Column>& columns, const std::string& text) {
  const auto wrong = [](std::size_t line, const std::string& why) {
    return make_error(ErrorCode::kInvalidArgument,
                      "line " + std::to_string(line) + " of the table: " + why);
  };
  Table table(columns);
  std::vector<Cell> cells;
  std::size_t at = 0;
  for (std::size_t line = 1; at < text.size(); ++line) {
    if (!take_line(text, at, cells)) return wrong(line, "a quote is left open");
    if (cells.size() != columns.size())
      return wrong(line, "it has " + std::to_string(cells.size()) + " fields instead of " +
                             std::to_string(columns.size()));
    if (line > 1) {
      table.add(cells);
      continue;
    }
    for (std::size_t c = 0; c < columns.size(); ++c)
      if (cells[c] != Cell(columns[c].key))
        return wrong(line, "it has another column in place of " + columns[c].key);
  }
  return table;
}

Json Table::json() const {
  Json list = Json::array();
  for (const auto& row : rows_) {
    Json object = Json::object();
    for (std::size_t c = 0; c < row.size(); ++c) {
      Json& value = object[columns_[c].key];
      if (const auto* text = std::get_if<std::string>(&row[c])) value = *text;
      if (const auto* whole = std::get_if<std::int64_t>(&row[c])) value = *whole;
      if (const auto* real = std::get_if<double>(&row[c])) value = *real;
    }
    list.push_back(std::move(object));
  }
  return list;
}

std::string Table::markdown() const {
  std::string head;
  std::string rule;
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    head += "| " + columns_[c].heading + " ";
    rule += numeric(c) ? "|---:" : "|---";
  }
  std::string out = head + "|\n" + rule + "|\n";
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    for (std::size_t c = 0; c < columns_.size(); ++c) out += "| " + shown(r, c) + " ";
    out += "|\n";
  }
  return out;
}

}  // namespace gob::bench
