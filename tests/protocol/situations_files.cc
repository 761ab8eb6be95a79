// Situations of file containers: at the home, and at the manager of a page. R wants the page, O has
// room, H is the home where this node is M.
#include "tests/protocol/situation_parts.h"

namespace gob::test {

namespace {

using enum MessageType;

const Edit kFromFile = [](Message& m) { m.device = true; };
const Edit kDirty = [](Message& m) { m.dirty = true; };
const Edit kWritten = [](Message& m) { m.written = true; };

// --- this node is S, the home; M manages the page
constexpr unsigned kM = 1;
const std::uint64_t kTheirs = page_of_manager(kM, kNodes);

CoreDriver::Options at_home() {
  CoreDriver::Options options;
  options.home = node(0);
  return options;
}
Names home_names() {
  return {[](NodeId n) { return role_name(n, "S", "M"); }, false};
}

void being_read(CoreDriver& d) { tell(d, kM, kForwardGet, kTheirs, {for_node(kO), kFromFile}); }
void read_from_file(CoreDriver& d) {
  being_read(d);
  d.swapped_in(kTheirs, true);
}
void dirty_copy(CoreDriver& d) {
  d.read(kTheirs);
  tell(d, kO, kPage, kTheirs, {payload(Payload::kCopy), kDirty});
  d.hold_expired(kTheirs);
}
void written(CoreDriver& d) {
  d.write(kTheirs);
  tell(d, kM, kGrant, kTheirs, {kFromFile, kConfirmed});
  d.swapped_in(kTheirs, true);
  d.hold_expired(kTheirs);
}
void asked_write_back(CoreDriver& d) {
  written(d);
  d.step(event::WriteBack{PageSet::of(page(kTheirs))});
}
void writing_back(CoreDriver& d) {
  asked_write_back(d);
  tell(d, kM, kPage, kTheirs, {kConfirmed});
}
void writing_out(CoreDriver& d) {
  written(d);
  d.flush(kTheirs);
  tell(d, kM, kFlushAlone, kTheirs, {kSole, kDirty});
}
void asked_discard(CoreDriver& d) {
  read_from_file(d);
  d.step(event::Discard{PageSet::of(page(kTheirs))});
}
void asked_read(CoreDriver& d) { d.read(kTheirs); }
void asked_write(CoreDriver& d) { d.write(kTheirs); }

Table home_table() {
  const auto row = [](const char* name, const Build& build) {
    return Row{name, {with_room(build)}};
  };
  return {
      "home of a file",
      {
          row("in the file", nothing),
          row("in the file, Get asked", asked_read),
          row("in the file, Grab asked", asked_write),
          row("being read", being_read),
          row("Read", read_from_file),
          row("Read dirty", dirty_copy),
          row("Write", written),
          row("Write, WriteBack asked", asked_write_back),
          row("being written back", writing_back),
          row("being written out", writing_out),
          row("Read, Discard asked", asked_discard),
          row("container removed", removed),
      },
      {
          {"ForwardGet (from file, for R)",
           kM,
           {kForwardGet},
           edits({for_node(kR), kFromFile}),
           {}},
          {"ForwardGrab (from file, for R)",
           kM,
           {kForwardGrab},
           edits({for_node(kR), kFromFile}),
           {}},
          {"Page (from file, confirm)", kM, {kPage}, edits({kFromFile, kConfirmed}), {}},
          {"Grant (from file, confirm)", kM, {kGrant}, edits({kFromFile, kConfirmed}), {}},
          {"Page (confirm)", kM, {kPage}, kConfirmed, {}},
          {"Refuse (Skipped)", kM, {kRefuse}, refusal(Refusal::kSkipped), {}},
          {"Grant (1 ack, confirm)", kM, {kGrant}, edits({acks(1), kConfirmed}), {}},
          {"Inject (copy, to file, dirty) of R",
           kR,
           {kInject},
           edits({payload(Payload::kCopy), kFromFile, kDirty}),
           {}},
          {"Invalidate (discard, for O)", kM, {kInvalidate}, edits({for_node(kO), kFromFile}), {}},
          {"Exists (dirty)", kM, {kExists}, kDirty, {}},
          {"SyncEnd", kM, {kSyncEnd}, kNothing, {}},
      },
      home_names(),
      at_home(),
      kTheirs};
}

// --- this node is M, the manager; H is the home
constexpr unsigned kH = 1;
const std::uint64_t kMine = page_of_manager(0, kNodes);

CoreDriver::Options managing() {
  CoreDriver::Options options;
  options.home = node(kH);
  return options;
}
Names manager_names() {
  return {[](NodeId n) { return role_name(n, "M", "H"); }, false};
}

void read_by(CoreDriver& d, unsigned reader) {
  tell(d, reader, kGet, kMine);
  tell(d, reader, kConfirm, kMine);
}
void written_by(CoreDriver& d, unsigned writer) {
  tell(d, writer, kGrab, kMine);
  tell(d, writer, kConfirm, kMine);
}
void without_home(CoreDriver& d) {
  d.new_view(view_of(2, kNodes, {kH}));
  d.finish_view();
}

std::vector<Row> manager_rows() {
  const auto row = [](const char* name, const Build& build) {
    return Row{name, {with_room(build)}};
  };
  return {
      row("no entry", nothing),
      row("no entry, the home is away", without_home),
      row("owner H, copy O", [](CoreDriver& d) { read_by(d, kO); }),
      row("owner R, dirty", [](CoreDriver& d) { written_by(d, kR); }),
      row("owner O, dirty", [](CoreDriver& d) { written_by(d, kO); }),
      row("owner H, dirty", [](CoreDriver& d) { written_by(d, kH); }),
      row("Get for R, from file", [](CoreDriver& d) { tell(d, kR, kGet, kMine); }),
      row("Grab for R, from file", [](CoreDriver& d) { tell(d, kR, kGrab, kMine); }),
      row("WriteBack for H, owner O",
          [](CoreDriver& d) {
            written_by(d, kO);
            tell(d, kH, kWriteBack, kMine);
          }),
      row("Discard for H, owner O",
          [](CoreDriver& d) {
            written_by(d, kO);
            tell(d, kH, kDiscard, kMine);
          }),
      row("Flush for R: last copy, dirty",
          [](CoreDriver& d) {
            written_by(d, kR);
            tell(d, kR, kFlush, kMine);
          }),
      row("Flush for H: last copy, dirty",
          [](CoreDriver& d) {
            written_by(d, kH);
            tell(d, kH, kFlush, kMine);
          }),
      row("container removed", removed),
  };
}

Table request_table() {
  return {"requests for a file",
          manager_rows(),
          {
              {"Get", kR, {kGet}, kNothing, {}},
              {"Get (ahead)", kR, {kGet}, kAhead, {}},
              {"Grab", kR, {kGrab}, kNothing, {}},
              {"Flush", kR, {kFlush}, kNothing, {}},
              {"Get of H", kH, {kGet}, kNothing, {}},
              {"WriteBack of H", kH, {kWriteBack}, kNothing, {}},
              {"Discard of H", kH, {kDiscard}, kNothing, {}},
              {"Sync (list) of H", kH, {kSync}, kSole, {}},
          },
          manager_names(),
          managing(),
          kMine};
}

Table end_table() {
  return {"ends for a file",
          manager_rows(),
          {
              {"Confirm", kR, {kConfirm}, kNothing, {}},
              {"Confirm (Io)", kR, {kConfirm}, refusal(Refusal::kIo), {}},
              {"Confirm (written) of H", kH, {kConfirm}, kWritten, {}},
              {"FlushDone (owner H)", kR, {kFlushDone}, node_is(kH), {}},
              {"FlushDone (written)", kR, {kFlushDone}, kWritten, {}},
              {"FlushDone (written) of H", kH, {kFlushDone}, kWritten, {}},
          },
          manager_names(),
          managing(),
          kMine};
}

}  // namespace

std::vector<Table> file_tables() { return {home_table(), request_table(), end_table()}; }

}  // namespace gob::test
