// Situations of a holder, server and requester: this node is S, the page's manager is M, R wants
// the page, O has it and has room.
#include "tests/protocol/situation_parts.h"

namespace gob::test {

namespace {

using enum MessageType;

constexpr unsigned kM = 1;
const std::uint64_t kTheirs = page_of_manager(kM, kNodes);

Names holder_names() {
  return {[](NodeId n) { return role_name(n, "S", "M"); }, false};
}

// --- states of the page at S
void read_held(CoreDriver& d) {
  d.read(kTheirs);
  tell(d, kO, kPage, kTheirs, {payload(Payload::kCopy)});
}
void read_here(CoreDriver& d) { d.give_read(kTheirs, kO); }
void read_flushing(CoreDriver& d) {
  read_here(d);
  d.flush(kTheirs);
}
void write_held(CoreDriver& d) {
  d.write(kTheirs);
  tell(d, kM, kGrant, kTheirs, {payload(Payload::kZero)});
}
void write_here(CoreDriver& d) { d.give_write(kTheirs); }
void write_flushing(CoreDriver& d) {
  write_here(d);
  d.flush(kTheirs);
}
void invalid_flushing(CoreDriver& d) {
  write_flushing(d);
  tell(d, kM, kForwardGrab, kTheirs, {for_node(kO)});
}
void stored(CoreDriver& d) {
  d.write(kTheirs);
  tell(d, kO, kGrant, kTheirs, {payload(Payload::kMove), acks(1), kConfirmed});
}
void injecting(CoreDriver& d) {
  write_here(d);
  say_room(d);
  d.flush(kTheirs);
  tell(d, kM, kFlushAlone, kTheirs, {kSole});
}
void swapping_out(CoreDriver& d) {
  write_flushing(d);
  tell(d, kM, kFlushAlone, kTheirs, {kSole});
}
void swapped(CoreDriver& d) {
  swapping_out(d);
  d.swapped_out(kTheirs, true);
}
void swapping_in(CoreDriver& d) {
  swapped(d);
  d.read(kTheirs);
}

std::vector<Row> holder_rows() {
  return {
      {"Invalid", {with_room(nothing)}},
      {"Invalid flushing", {with_room(invalid_flushing)}},
      {"Read", {with_room(read_here)}},
      {"Read held", {with_room(read_held)}},
      {"Read flushing", {with_room(read_flushing)}},
      {"Write", {with_room(write_here)}},
      {"Write held", {with_room(write_held)}},
      {"Write flushing", {with_room(write_flushing)}},
      {"Stored", {with_room(stored)}},
      {"Injecting", {with_room(injecting)}},
      {"SwappingOut", {with_room(swapping_out)}},
      {"Swapped", {with_room(swapped)}},
      {"SwappingIn", {with_room(swapping_in)}},
      {"container removed", {with_room(removed)}},
  };
}

Table serve_table() {
  return {
      "serve",
      holder_rows(),
      {
          {"ForwardGet (for R)", kM, {kForwardGet}, for_node(kR), {}},
          {"ForwardGrab (1 ack, for R)", kM, {kForwardGrab}, edits({for_node(kR), acks(1)}), {}},
          {"Invalidate (for R)", kM, {kInvalidate}, for_node(kR), {}},
          {"Inject (copy) of R", kR, {kInject}, payload(Payload::kCopy), {}},
      },
      holder_names(),
      {},
      kTheirs};
}

Table flush_table() {
  const auto nobody_has_room = [](CoreDriver& d) { d.deliver(kO, message(kReportEnd, PageSet{})); };
  return {"flush",
          holder_rows(),
          {
              {"FlushDiscard", kM, {kFlushDiscard}, kNothing, {}},
              {"FlushDiscard (confirm)", kM, {kFlushDiscard}, kConfirmed, {}},
              {"FlushAlone (sole), O has room", kM, {kFlushAlone}, kSole, {}},
              {"FlushAlone (sole), nobody has room", kM, {kFlushAlone}, kSole, nobody_has_room},
              {"InjectReply (accepted) of O", kO, {kInjectReply}, edits({kAccepted, kHasRoom}), {}},
              {"InjectReply (refused) of O", kO, {kInjectReply}, kHasRoom, {}},
          },
          holder_names(),
          {},
          kTheirs};
}

// --- what S has asked for
void get_and_injected(CoreDriver& d) {
  d.read(kTheirs);
  tell(d, kO, kInject, kTheirs, {payload(Payload::kCopy)});
}
void grab_parked(CoreDriver& d) {
  read_flushing(d);
  d.write(kTheirs);
}
void get_ahead(CoreDriver& d) {
  d.read(kTheirs);
  d.expire(kTheirs);
}
void get_then_writer(CoreDriver& d) {
  d.read(kTheirs);
  d.write(kTheirs);
}
void grab_asked(CoreDriver& d) { d.write(kTheirs); }
void upgrade_asked(CoreDriver& d) {
  read_here(d);
  d.write(kTheirs);
}
void upgrade_overtaken(CoreDriver& d) {
  upgrade_asked(d);
  tell(d, kM, kInvalidate, kTheirs, {for_node(kR)});
}
void ack_early(CoreDriver& d) {
  grab_asked(d);
  tell(d, kR, kInvalidateAck, kTheirs);
}
void upgrade_granted(CoreDriver& d) {
  upgrade_asked(d);
  tell(d, kM, kGrant, kTheirs, {acks(1), kConfirmed});
}
void refused_with_acks(CoreDriver& d) {
  grab_asked(d);
  tell(d, kO, kRefuse, kTheirs, {refusal(Refusal::kIo), node_is(kO), acks(1), kConfirmed});
}

std::vector<Row> requester_rows() {
  return {
      {"nothing asked, in any state",
       {with_room(nothing), with_room(read_here), with_room(read_held), with_room(read_flushing),
        with_room(write_here), with_room(write_flushing), with_room(invalid_flushing),
        with_room(injecting), with_room(swapping_out), with_room(swapped)}},
      {"parked: Grab behind a flush", {with_room(grab_parked)}},
      {"parked: Get behind a swap-in", {with_room(swapping_in)}},
      {"asked Get", {with_room([](CoreDriver& d) { d.read(kTheirs); })}},
      {"asked Get ahead of need, or expired", {with_room(get_ahead)}},
      {"asked Get, a writer came meanwhile", {with_room(get_then_writer)}},
      {"asked Get, injected meanwhile: Read", {with_room(get_and_injected)}},
      {"asked Grab", {with_room(grab_asked), with_room(upgrade_overtaken)}},
      {"asked Grab, Read here: upgrade", {with_room(upgrade_asked)}},
      {"asked Grab, 1 ack early", {with_room(ack_early)}},
      {"granted, 1 ack missing: Stored", {with_room(stored)}},
      {"granted, 1 ack missing: Read", {with_room(upgrade_granted)}},
      {"refused, 1 ack missing", {with_room(refused_with_acks)}},
      {"container removed", {with_room(removed)}},
  };
}

Table answer_table() {
  return {"answers",
          requester_rows(),
          {
              {"Page (copy, confirm)",
               kO,
               {kPage},
               edits({payload(Payload::kCopy), kConfirmed, kHasRoom}),
               {}},
              {"Page", kM, {kPage}, kNothing, {}},
              {"Grant (move, confirm)",
               kO,
               {kGrant},
               edits({payload(Payload::kMove), kConfirmed, kHasRoom}),
               {}},
              {"Grant (zero)", kM, {kGrant}, payload(Payload::kZero), {}},
          },
          holder_names(),
          {},
          kTheirs};
}

Table completion_table() {
  return {
      "completions",
      requester_rows(),
      {
          {"Grant (move, 1 ack, confirm)",
           kO,
           {kGrant},
           edits({payload(Payload::kMove), acks(1), kConfirmed, kHasRoom}),
           {}},
          {"Grant (1 ack, confirm)", kM, {kGrant}, edits({acks(1), kConfirmed}), {}},
          {"InvalidateAck", kR, {kInvalidateAck}, for_node(0), {}},
          {"Refuse (Io, confirm)",
           kO,
           {kRefuse},
           edits({refusal(Refusal::kIo), node_is(kO), kConfirmed, kHasRoom}),
           {}},
          {"Refuse (Skipped)", kM, {kRefuse}, edits({refusal(Refusal::kSkipped), node_is(kM)}), {}},
      },
      holder_names(),
      {},
      kTheirs};
}

}  // namespace

std::vector<Table> holder_tables() {
  return {serve_table(), flush_table(), answer_table(), completion_table()};
}

}  // namespace gob::test
