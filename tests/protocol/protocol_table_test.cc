// docs/PROTOCOL.md against the real core: every cell of its tables is built and delivered. A cell
// that is missing or different fails with the table as the code makes it, ready to be put in its
// place.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "tests/protocol/situations.h"

namespace gob::test {
namespace {

using Cells = std::vector<std::string>;

std::string trimmed(const std::string& text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

Cells cells_of(const std::string& line) {
  Cells cells;
  std::istringstream parts(line.substr(line.find('|') + 1));
  for (std::string cell; std::getline(parts, cell, '|');) cells.push_back(trimmed(cell));
  return cells;
}

// The table that follows the line "<!-- table: NAME -->": header first, without the ruler.
std::vector<Cells> table_in_document(const std::string& name) {
  std::ifstream document(GOB_PROTOCOL_DOCUMENT);
  EXPECT_TRUE(document) << "cannot read " << GOB_PROTOCOL_DOCUMENT;
  std::vector<Cells> table;
  bool inside = false;
  for (std::string line; std::getline(document, line);) {
    if (line == "<!-- table: " + name + " -->") {
      inside = true;
    } else if (inside && line.starts_with("|")) {
      if (!line.starts_with("|-")) table.push_back(cells_of(line));
    } else if (inside && !table.empty()) {
      break;
    }
  }
  return table;
}

std::string text_of(const std::vector<Cells>& table) {
  std::string text;
  for (std::size_t i = 0; i < table.size(); ++i) {
    for (const std::string& cell : table[i]) text += "| " + cell + " ";
    text += "|\n";
    if (i != 0) continue;
    for (std::size_t c = 0; c < table[0].size(); ++c) text += "|---";
    text += "|\n";
  }
  return text;
}

std::vector<Cells> table_of_the_core(const Table& table) {
  std::vector<PageState> seen;
  std::vector<Cells> made = {{""}};
  for (const Column& column : table.columns) made[0].push_back(column.name);
  for (const Row& row : table.rows) {
    Cells cells = {row.name};
    for (const Column& column : table.columns) cells.push_back(cell_text(table, row, column, seen));
    made.push_back(cells);
  }
  return made;
}

std::vector<Table> all_tables() {
  std::vector<Table> all;
  for (auto make : {holder_tables, manager_tables, view_tables, file_tables})
    for (const Table& table : make()) all.push_back(table);
  return all;
}

class ProtocolTable : public ::testing::TestWithParam<Table> {};

// What is different, cell by cell; empty if nothing is.
std::string differences(const std::vector<Cells>& written, const std::vector<Cells>& made) {
  std::string text;
  for (std::size_t r = 0; r < std::max(made.size(), written.size()); ++r) {
    if (r >= written.size()) {
      text += "the document lacks the row '" + made[r][0] + "'\n";
    } else if (r >= made.size()) {
      text += "the document has the row '" + written[r][0] + "' too many\n";
    } else if (written[r].size() != made[r].size()) {
      text += "the row '" + written[r][0] + "' has another number of cells\n";
    } else {
      for (std::size_t c = 0; c < made[r].size(); ++c) {
        if (written[r][c] == made[r][c]) continue;
        text += "row '" + made[r][0] + "', column '" + made[0][c] + "': the document says '" +
                written[r][c] + "', the core does '" + made[r][c] + "'\n";
      }
    }
  }
  return text;
}

TEST_P(ProtocolTable, InTheDocumentIsWhatTheCoreDoes) {
  const std::vector<Cells> made = table_of_the_core(GetParam());
  const std::string different = differences(table_in_document(GetParam().name), made);
  EXPECT_TRUE(different.empty()) << different << "The core's table '" << GetParam().name << "':\n"
                                 << text_of(made);
}

INSTANTIATE_TEST_SUITE_P(All, ProtocolTable, ::testing::ValuesIn(all_tables()),
                         [](const auto& table) {
                           std::string name = table.param.name;
                           std::erase(name, ',');
                           std::ranges::replace(name, ' ', '_');
                           return name;
                         });

TEST(ProtocolTables, CoverEveryMessageAndEveryState) {
  std::map<MessageType, int> messages;
  std::vector<PageState> seen;
  for (const Table& table : all_tables()) {
    for (const Column& column : table.columns)
      for (MessageType type : column.types) ++messages[type];
    for (const Row& row : table.rows) cell_text(table, row, table.columns.front(), seen);
  }
  for (auto type = MessageType::kGet; type <= kLastMessageType;
       type = static_cast<MessageType>(static_cast<int>(type) + 1))
    EXPECT_GT(messages[type], 0) << type_name(type) << " is in no table";
  for (auto state = PageState::kInvalid; state <= PageState::kSwappingIn;
       state = static_cast<PageState>(static_cast<int>(state) + 1))
    EXPECT_NE(std::ranges::count(seen, state), 0) << state_name(state) << " is in no table";
}

}  // namespace
}  // namespace gob::test
