// The situations and messages whose meeting docs/PROTOCOL.md tabulates: each row builds a state of
// the real core through its public interface, each column is one message. Test support.
#pragma once

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "tests/protocol/core_driver.h"

namespace gob::test {

// One situation; several ways to come into it must answer alike.
struct Row {
  std::string name;
  std::vector<std::function<void(CoreDriver&)>> build;
};
// One message; several types may share a column if they are answered alike.
struct Column {
  std::string name;
  unsigned from;
  std::vector<MessageType> types;
  Edit edit;
  std::function<void(CoreDriver&)> prepare;  // after the row is built
};
struct Table {
  std::string name;
  std::vector<Row> rows;
  std::vector<Column> columns;
  Names names;
  CoreDriver::Options options;
  std::uint64_t page_index;
};

inline void PrintTo(const Table& table, std::ostream* out) { *out << table.name; }

std::vector<Table> holder_tables();  // holder, server, requester
std::vector<Table> manager_tables();
std::vector<Table> view_tables();
std::vector<Table> file_tables();

// What the core does with the column's message in the row's situation, in the notation of the
// document's legend. States met on the way are added to `seen`.
std::string cell_text(const Table& table, const Row& row, const Column& column,
                      std::vector<PageState>& seen);

}  // namespace gob::test
