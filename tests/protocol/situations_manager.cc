// Situations of a page manager, and of views: this node is M; R sends, O owns, H is another holder,
// D died.
#include "tests/protocol/situation_parts.h"

namespace gob::test {

namespace {

using enum MessageType;

const std::uint64_t kMine = page_of_manager(0, kNodes);

Names manager_names() {
  return {[](NodeId n) { return role_name(n, "M", "H"); }, false};
}

constexpr unsigned kH = 1;

void owned_by(CoreDriver& d, unsigned owner) { tell(d, owner, kGrab, kMine); }
void read_by(CoreDriver& d, unsigned reader) {
  tell(d, reader, kGet, kMine);
  tell(d, reader, kConfirm, kMine);
}
// View 2 without a node 4 that managed the page in view 1, or held it.
void one_died(CoreDriver& d, bool existed) {
  View view = d.core().view();
  view.epoch = Epoch{2};
  Loss loss{Epoch{2}, view.members, {node(4)}};
  if (!existed) loss.members = {node(4)};  // whatever page: node 4 managed it
  view.losses = {loss};
  d.new_view(view);
  d.finish_view(false);
  if (existed) tell(d, kH, kReport, kMine, {});
  for (unsigned peer : {kH, kR, kO}) d.deliver(peer, message(kReportEnd, PageSet{}));
}

std::vector<Row> manager_rows() {
  const auto row = [](const char* name, const Build& build) {
    return Row{name, {with_room(build)}};
  };
  const auto owner = [](unsigned n) { return [=](CoreDriver& d) { owned_by(d, n); }; };
  return {
      row("no entry", nothing),
      row("no entry, its manager died", [](CoreDriver& d) { one_died(d, false); }),
      row("lost", [](CoreDriver& d) { one_died(d, true); }),
      row("owner R", owner(kR)),
      row("owner O", owner(kO)),
      row("owner O, copy R",
          [](CoreDriver& d) {
            owned_by(d, kO);
            read_by(d, kR);
          }),
      row("owner O, copy H",
          [](CoreDriver& d) {
            owned_by(d, kO);
            read_by(d, kH);
          }),
      row("owner R, copy H",
          [](CoreDriver& d) {
            owned_by(d, kR);
            read_by(d, kH);
          }),
      row("owner O, copy M",
          [](CoreDriver& d) {
            owned_by(d, kO);
            d.give_read(kMine, kO);
          }),
      row("owner M: Write", [](CoreDriver& d) { d.give_write(kMine); }),
      row("owner M: Write held", [](CoreDriver& d) { d.write(kMine); }),
      row("Get for R",
          [](CoreDriver& d) {
            owned_by(d, kO);
            tell(d, kR, kGet, kMine);
          }),
      row("Get for R, queued Grab of H",
          [](CoreDriver& d) {
            owned_by(d, kO);
            tell(d, kR, kGet, kMine);
            tell(d, kH, kGrab, kMine);
          }),
      row("Get for H",
          [](CoreDriver& d) {
            owned_by(d, kO);
            tell(d, kH, kGet, kMine);
          }),
      row("Get for H, queued Grab of O",
          [](CoreDriver& d) {
            owned_by(d, kO);
            tell(d, kH, kGet, kMine);
            tell(d, kO, kGrab, kMine);
          }),
      row("Grab for R",
          [](CoreDriver& d) {
            owned_by(d, kO);
            tell(d, kR, kGrab, kMine);
          }),
      row("Grab for R, queued Get of H",
          [](CoreDriver& d) {
            owned_by(d, kO);
            tell(d, kR, kGrab, kMine);
            tell(d, kH, kGet, kMine);
          }),
      row("Grab for H",
          [](CoreDriver& d) {
            owned_by(d, kO);
            tell(d, kH, kGrab, kMine);
          }),
      row("Flush for R: last copy",
          [](CoreDriver& d) {
            owned_by(d, kR);
            tell(d, kR, kFlush, kMine);
          }),
      row("Flush for R: owner, copy H",
          [](CoreDriver& d) {
            owned_by(d, kR);
            read_by(d, kH);
            tell(d, kR, kFlush, kMine);
          }),
      row("Flush for R: copy of O",
          [](CoreDriver& d) {
            owned_by(d, kO);
            read_by(d, kR);
            tell(d, kR, kFlush, kMine);
          }),
      row("Flush for H",
          [](CoreDriver& d) {
            owned_by(d, kH);
            tell(d, kH, kFlush, kMine);
          }),
      row("container removed", removed),
  };
}

Table request_table() {
  return {"requests",
          manager_rows(),
          {
              {"Get", kR, {kGet}, kNothing, {}},
              {"Get (ahead)", kR, {kGet}, kAhead, {}},
              {"Grab", kR, {kGrab}, kNothing, {}},
              {"Grab (ahead)", kR, {kGrab}, kAhead, {}},
              {"Flush", kR, {kFlush}, kNothing, {}},
          },
          manager_names(),
          {},
          kMine};
}

Table end_table() {
  return {"ends",
          manager_rows(),
          {
              {"Confirm", kR, {kConfirm}, kNothing, {}},
              {"Confirm (Io)", kR, {kConfirm}, refusal(Refusal::kIo), {}},
              {"FlushDone (owner R)", kR, {kFlushDone}, node_is(kR), {}},
              {"FlushDone (owner O)", kR, {kFlushDone}, node_is(kO), {}},
              {"FlushDone", kR, {kFlushDone}, kNothing, {}},
          },
          manager_names(),
          {},
          kMine};
}

// --- views: this node is M in epoch 2 of a cluster that has left epoch 1; R sends.
void draining(CoreDriver& d) { d.new_view(view_of(2, kNodes)); }
void draining_marked(CoreDriver& d) {
  draining(d);
  d.deliver(kR, message(kMarker, PageSet{}));
}
void rebuilding(CoreDriver& d) {
  draining(d);
  d.finish_view(false);
}
void last_missing(CoreDriver& d) {
  draining(d);
  for (unsigned peer : {kH, kO}) d.deliver(peer, message(kMarker, PageSet{}));
}
void last_end_missing(CoreDriver& d) {
  rebuilding(d);
  for (unsigned peer : {kH, kO}) d.deliver(peer, message(kReportEnd, PageSet{}));
}
void serving(CoreDriver& d) {
  draining(d);
  d.finish_view();
}
void evicted(CoreDriver& d) { d.new_view(view_of(2, kNodes, {0})); }
void departed(CoreDriver& d) {
  View view = view_of(2, kNodes);
  std::erase(view.members, node(0));
  view.departing = {node(0)};
  d.new_view(view);
  d.finish_view(false);
}

// The same rows for messages of one epoch, with the hints of epoch 1 in place.
Table view_table(const char* name, std::uint64_t message_epoch) {
  const auto row = [](const char* row_name, const Build& build) {
    return Row{row_name, {[=](CoreDriver& d) {
                 d.deliver(kR, message(kReportEnd, PageSet{}));
                 build(d);
                 if (d.core().phase() == Core::Phase::kServing)
                   d.deliver(kR, message(kReportEnd, PageSet{}));
               }}};
  };
  const Edit at = epoch(message_epoch);
  const auto with = [&](const Edit& edit) { return edits({edit, at}); };
  return {name,
          {row("draining", draining), row("draining, R's Marker here", draining_marked),
           row("draining, only R's Marker missing", last_missing), row("rebuilding", rebuilding),
           row("rebuilding, only R's ReportEnd missing", last_end_missing), row("serving", serving),
           row("departed", departed), row("evicted", evicted)},
          {
              {"Get, Grab, Flush", kR, {kGet, kGrab, kFlush}, at, {}},
              {"Page, Grant (copy)", kR, {kPage, kGrant}, with(payload(Payload::kCopy)), {}},
              {"Inject (copy)", kR, {kInject}, with(payload(Payload::kCopy)), {}},
              {"other messages about pages",
               kR,
               {kForwardGet, kForwardGrab, kInvalidate, kInvalidateAck, kConfirm, kRefuse,
                kFlushDiscard, kFlushAlone, kInjectReply, kFlushDone},
               with(for_node(kR)),
               {}},
              {"Marker", kR, {kMarker}, at, {}},
              {"Report (existed)", kR, {kReport}, at, {}},
              {"Report (sole)",
               kR,
               {kReport},
               with([](Message& m) { m.holding = Holding::kSole; }),
               {}},
              {"ReportEnd", kR, {kReportEnd}, at, {}},
          },
          manager_names(),
          {},
          kMine};
}

}  // namespace

std::vector<Table> manager_tables() { return {request_table(), end_table()}; }

std::vector<Table> view_tables() {
  std::vector<Table> tables = {view_table("older epoch", 1)};
  // Messages of this epoch: about pages only while they are not served by the tables above.
  Table now = view_table("this epoch", 2);
  std::erase_if(now.rows, [](const Row& row) { return row.name == "serving"; });
  std::erase_if(now.columns, [](const Column& column) { return column.types.size() > 3; });
  tables.push_back(now);
  Table served = view_table("this epoch, serving", 2);
  std::erase_if(served.rows, [](const Row& row) { return row.name != "serving"; });
  std::erase_if(served.columns, [](const Column& column) {
    return column.types.front() < MessageType::kMarker;  // the tables of requests and answers
  });
  tables.push_back(served);
  tables.push_back(view_table("later epoch", 3));
  return tables;
}

}  // namespace gob::test
