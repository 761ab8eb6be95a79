// From a step of the core to the text of a table's cell.
#include <gtest/gtest.h>

#include "tests/protocol/situations.h"

namespace gob::test {

namespace {

void add_part(std::string& text, const std::string& separator, const std::string& part) {
  if (!text.empty()) text += separator;
  text += part;
}

void add_change(std::string& changes, const std::string& before, const std::string& after,
                const char* nothing) {
  if (before != after) add_part(changes, ", ", after.empty() ? nothing : after);
}

// "actions → what is different now"
std::string outcome(const std::string& actions, const Situation& before, const Situation& after,
                    bool content_changed) {
  std::string done = actions == "-" ? "" : actions;
  if (after.deferred > before.deferred) add_part(done, "; ", "defer");
  std::string changes;
  add_change(changes, before.page, after.page, "");
  add_change(changes, before.request, after.request, "no request");
  add_change(changes, before.entry, after.entry, "no entry");
  add_change(changes, before.transaction, after.transaction, "idle");
  if (done.empty() && changes.empty()) return content_changed ? "note" : "—";
  if (changes.empty()) return done;
  if (done.empty()) return "→ " + changes;
  return done + " → " + changes;
}

std::string cell_of(const Table& table, const std::function<void(CoreDriver&)>& build,
                    const Column& column, MessageType type, std::vector<PageState>& seen) {
  CoreDriver d(table.options);
  d.names = table.names;
  build(d);
  if (column.prepare) column.prepare(d);
  const PageId id = page(table.page_index);
  seen.push_back(d.core().local(id).state);
  const Core before = d.core();
  const Situation situation = situation_of(before, id, table.names);
  const bool about_pages = type != MessageType::kMarker && type != MessageType::kReportEnd;
  const Message m =
      message(type, about_pages ? PageSet::of(id) : PageSet{}, [&](Message& message_to_edit) {
        if (column.edit) column.edit(message_to_edit);
      });
  const std::string actions = d.deliver(column.from, m);
  return outcome(actions, situation, situation_of(d.core(), id, table.names),
                 !(d.core() == before));
}

}  // namespace

std::string cell_text(const Table& table, const Row& row, const Column& column,
                      std::vector<PageState>& seen) {
  std::string text;
  for (const auto& build : row.build) {
    for (const MessageType type : column.types) {
      const std::string one = cell_of(table, build, column, type, seen);
      if (!text.empty()) {
        EXPECT_EQ(one, text) << "'" << row.name << "' does not answer " << type_name(type)
                             << " as the others of its row or column";
      }
      text = one;
    }
  }
  return text;
}

}  // namespace gob::test
