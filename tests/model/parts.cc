#include "tests/model/parts.h"

#include <utility>

namespace gob::model {
namespace {

constexpr sim::Value kLast = 1;
constexpr sim::Value kOlder = 2;
constexpr sim::Value kFresh = 3;  // only while a step is taken
// Hints of so little room all mean that there is none (injection.cc): one stands for all of them.
constexpr std::uint32_t kNotWorthAsking = 16;

// All that a node's step depends on besides its state.
std::uint64_t code_of(const sim::WorldEvent& event, PageMask pages, PageMask ahead,
                      std::uint32_t packet) {
  return std::uint64_t{packet} << 32 | std::uint64_t{ahead & 0xf} << 28 |
         std::uint64_t{pages & 0xf} << 24 | std::uint64_t{event.index & 0xff} << 16 |
         std::uint64_t{event.from.value() & 0xfu} << 12 | std::uint64_t{event.thread & 0x7} << 9 |
         std::uint64_t{event.ok} << 8 | static_cast<std::uint64_t>(event.kind);
}

template <class F>
void for_each_bit(PageMask mask, F&& f) {
  for (; mask != 0; mask &= mask - 1) f(static_cast<unsigned>(std::countr_zero(mask)));
}

}  // namespace

Parts::Parts(const sim::WorldConfig& config, bool fold_hints)
    : config_(config), fold_hints_(fold_hints) {
  put_link({});
}

PageMask Parts::mask_of(PageSet pages) const {
  PageMask mask = 0;
  for_each_page(pages, [&](PageId id) { mask |= 1u << config_.geometry.index(id); });
  return mask;
}

NodeFacts Parts::facts_of(const sim::NodeModel& node) const {
  NodeFacts facts;
  for (unsigned page = 0; page < config_.geometry.pages(); ++page) {
    const PageMask bit = 1u << page;
    const sim::Frame& frame = node.frame(page);
    if (frame.present) facts.present |= bit;
    if (node.has_or_reads(page)) facts.in_memory |= bit;
    if (frame.rights == Access::kWrite) facts.writable |= bit;
    if (frame.rights != Access::kNone) {
      facts.readable |= bit;
      if (frame.value != 0) facts.not_zero |= bit;
      if (frame.value != kLast) facts.not_last |= bit;
    }
    if (node.keeps(page, kLast)) facts.keeps_last |= bit;
    if (node.keeps(page, kLast) || node.slot(page).value == kLast) facts.names_last |= bit;
    if (node.held(page)) facts.held |= bit;
  }
  for (unsigned t = 0; t < node.threads().size(); ++t) {
    const sim::Thread& thread = node.threads()[t];
    const auto bit = static_cast<std::uint8_t>(1u << t);
    switch (thread.state) {
      case sim::Thread::State::kIdle:
        facts.idle |= bit;
        break;
      case sim::Thread::State::kBlocked:
        facts.blocked |= mask_of(thread.pages);
        break;
      case sim::Thread::State::kWoken:
        facts.woken |= bit;
        break;
    }
  }
  facts.leaving = node.leaving();
  facts.syncing = node.any_syncing();
  facts.io = static_cast<std::uint8_t>(node.io().size());
  return facts;
}

std::uint32_t Parts::put_node(sim::NodeModel node) {
  const auto [id, is_new] = nodes_.put(std::move(node));
  if (is_new) node_facts_.push_back(facts_of(nodes_[id]));
  return id;
}

const NodeStep& Parts::step(std::uint32_t node, const sim::WorldEvent& event, std::uint32_t packet,
                            std::uint32_t oracle) {
  std::uint32_t extra = packet;
  if (event.kind == sim::WorldEvent::Kind::kView) extra = oracle;
  const PageMask pages = event.pages.empty() ? 0 : mask_of(event.pages);
  const PageMask ahead = event.ahead == 0 ? 0 : mask_of(event.pages.with(event.ahead));
  const std::uint64_t code = code_of(event, pages, ahead, extra);
  const std::uint32_t known = step_memo_(node, code);
  if (known != Memo::kUnknown) return steps_[known];
  steps_.push_back(take_step(node, event, packet, oracle));
  step_memo_(node, code) = static_cast<std::uint32_t>(steps_.size() - 1);
  return steps_.back();
}

void Parts::outdate(sim::Packet& packet, unsigned page, sim::Value from, sim::Value to) const {
  const PageId id = config_.geometry.page(page);
  const PageSet pages = packet.message.pages;
  if (packet.bytes.empty() || pages.container != id.container || !pages.contains(id.page)) return;
  sim::Value& value = packet.bytes[pages.rank(id.page)];
  if (value == from) value = to;
}

// What was the last write is older now, and the write of this step is the last.
void Parts::rename_written(PageMask wrote, sim::NodeModel& node, sim::Effects& fx) const {
  for_each_bit(wrote, [&](unsigned page) {
    node.rename(page, kLast, kOlder);
    node.rename(page, kFresh, kLast);
    for (sim::Effects::Sent& sent : fx.sent) {
      outdate(sent.packet, page, kLast, kOlder);
      outdate(sent.packet, page, kFresh, kLast);
    }
  });
}

void Parts::note_seen(const sim::WorldEvent& event, std::uint32_t packet, std::uint32_t oracle,
                      const sim::NodeModel& before, const sim::Effects& fx) {
  using Kind = sim::WorldEvent::Kind;
  if (event.kind == Kind::kDeliver) {
    const Message& message = packets_[packet].message;
    std::string name = sim::name_of(message.type);
    if (message.type == MessageType::kInjectReply) name += message.accepted ? "+" : "-";
    seen_.insert(std::move(name));
  }
  if (event.kind == Kind::kIo)
    seen_.insert(std::string(before.io()[event.index].out ? "swap-out" : "swap-in") +
                 (event.ok ? "" : "-failed"));
  if (event.kind == Kind::kView && !oracles_[oracle].view(event.index).losses.empty())
    seen_.insert("peer-loss");
  for (const sim::Effects::Refused& refused : fx.refused)
    seen_.insert(std::string("refused-") + sim::name_of(refused.refusal));
}

NodeStep Parts::take_step(std::uint32_t node, const sim::WorldEvent& event, std::uint32_t packet,
                          std::uint32_t oracle) {
  using Kind = sim::WorldEvent::Kind;
  sim::NodeModel after = nodes_[node];
  sim::Effects fx;
  switch (event.kind) {
    case Kind::kRead:
      after.begin(event.thread, event.pages, Access::kRead, event.ahead, 0, fx);
      break;
    case Kind::kWrite:
      after.begin(event.thread, event.pages, Access::kWrite, event.ahead, kFresh, fx);
      break;
    case Kind::kRetry:
      after.retry(event.thread, kFresh, fx);
      break;
    case Kind::kDeliver: {
      const sim::Packet& arrived = packets_[packet];
      after.step(event::Deliver{event.from, arrived.message}, &arrived, fx);
      break;
    }
    case Kind::kIo:
      after.finish_io(event.index, event.ok, fx);
      break;
    case Kind::kHoldExpired:
      after.expire_hold(static_cast<unsigned>(std::countr_zero(mask_of(event.pages))), fx);
      break;
    case Kind::kFlush:
      after.step(event::Flush{event.pages}, nullptr, fx);
      break;
    case Kind::kExpire:
      after.step(event::Expire{event.pages}, nullptr, fx);
      break;
    case Kind::kWriteBack:
      after.step(event::WriteBack{event.pages}, nullptr, fx);
      break;
    case Kind::kDiscard:
      after.step(event::Discard{event.pages}, nullptr, fx);
      break;
    case Kind::kSync:
      after.begin_sync(event.pages.container, event.index != 0, fx);
      break;
    case Kind::kLeave:
      after.step(event::Leave{}, nullptr, fx);
      break;
    case Kind::kView:
      after.step(event::NewView{oracles_[oracle].view(event.index)}, nullptr, fx);
      break;
    case Kind::kCrash:
    case Kind::kCut:
    case Kind::kRestart:
    case Kind::kPropose:
    case Kind::kRemove:
    case Kind::kDisconnect:
    case Kind::kFence:
      fx.fail("no step of a node");
      break;
  }
  note_seen(event, packet, oracle, nodes_[node], fx);
  NodeStep step;
  for (const sim::Effects::Done& done : fx.done) {
    const PageMask bit = 1u << done.page;
    if (done.access == Access::kWrite) {
      step.wrote |= bit;
    } else {
      step.read |= bit;
      if (done.value != 0) step.read_not_zero |= bit;
      if (done.value != kLast) step.read_not_last |= bit;
    }
  }
  for (const sim::Effects::Job& job : fx.jobs) {
    if (job.refusal != Refusal::kNone) continue;
    const PageMask bit = 1u << job.page;
    if (!job.discard) {
      seen_.insert("written-back");
      continue;
    }
    // Nobody has it: the file service writes to the file.
    seen_.insert("discarded");
    after.set_device(job.page, kFresh);
    step.wrote |= bit;
    if (after.core().pending(config_.geometry.page(job.page)) == nullptr) step.discarded |= bit;
  }
  for (const sim::Effects::Synced& sync : fx.synced) {
    seen_.insert(sync.list ? "listed" : sync.ok ? "synced" : "sync-failed");
    step.synced = sync.ok && !sync.list;
    step.listed = sync.ok && sync.list;
    step.sync_failed = !sync.ok;
    for (const PageSet& pages : after.core().file_pages(sync.container, true))
      step.list |= mask_of(pages);
  }
  rename_written(step.wrote, after, fx);
  for (sim::Effects::Sent& sent : fx.sent) {
    std::uint32_t& hint = sent.packet.message.free_frames;
    if (fold_hints_ && hint <= kNotWorthAsking) hint = 0;
    step.sent.push_back({sent.to.value(), packets_.put(std::move(sent.packet)).id});
  }
  for (const sim::Effects::Refused& refused : fx.refused) {
    const PageMask bit = 1u << refused.page;
    switch (refused.refusal) {
      case Refusal::kLost:
        step.refused_lost |= bit;
        break;
      case Refusal::kIo:
        step.refused_io |= bit;
        break;
      case Refusal::kTimedOut:
      case Refusal::kNoRoom:
      case Refusal::kLeaving:
        break;
      case Refusal::kNone:
      case Refusal::kSkipped:
      case Refusal::kRange:
      case Refusal::kRemoved:
        fx.fail(std::string("a needless refusal: ") + sim::name_of(refused.refusal));
        break;
    }
  }
  for (const unsigned page : fx.written)
    for (const sim::Effects::Job& job : fx.jobs)
      if (job.page == page && !job.discard && job.refusal == Refusal::kNone &&
          after.slot(page).value != kLast)
        step.not_in_file |= 1u << page;
  step.serving = fx.serving;
  step.left = fx.left;
  step.broken = std::move(fx.broken);
  step.node = put_node(std::move(after));
  return step;
}

std::uint32_t Parts::outdate_node(std::uint32_t node, PageMask pages) {
  if ((node_facts_[node].names_last & pages) == 0) return node;
  const std::uint32_t known = outdate_node_memo_(node, pages);
  if (known != Memo::kUnknown) return known;
  sim::NodeModel after = nodes_[node];
  for_each_bit(pages, [&](unsigned page) { after.rename(page, kLast, kOlder); });
  const std::uint32_t id = put_node(std::move(after));
  outdate_node_memo_(node, pages) = id;
  return id;
}

std::uint32_t Parts::put_link(std::vector<std::uint32_t> link) {
  LinkFacts facts;
  if (!link.empty()) {
    facts.head = link.front();
    facts.rest = put_link({link.begin() + 1, link.end()});
    facts.carries_last = link_facts_[facts.rest].carries_last;
    const sim::Packet& packet = packets_[facts.head];
    facts.carries = link_facts_[facts.rest].carries;
    if (!packet.bytes.empty()) {
      facts.carries |= mask_of(packet.message.pages);
      for_each_page(packet.message.pages, [&](PageId id) {
        if (packet.bytes[packet.message.pages.rank(id.page)] == kLast)
          facts.carries_last |= 1u << config_.geometry.index(id);
      });
    }
  }
  const auto [id, is_new] = links_.put(std::move(link));
  if (is_new) link_facts_.push_back(facts);
  return id;
}

std::uint32_t Parts::append(std::uint32_t link, std::uint32_t packet) {
  const std::uint32_t known = append_memo_(link, packet);
  if (known != Memo::kUnknown) return known;
  std::vector<std::uint32_t> longer = links_[link];
  longer.push_back(packet);
  const std::uint32_t id = put_link(std::move(longer));
  append_memo_(link, packet) = id;
  return id;
}

std::uint32_t Parts::outdate_link(std::uint32_t link, PageMask pages) {
  if ((link_facts_[link].carries_last & pages) == 0) return link;
  const std::uint32_t known = outdate_link_memo_(link, pages);
  if (known != Memo::kUnknown) return known;
  std::vector<std::uint32_t> renamed = links_[link];
  for (std::uint32_t& packet : renamed) {
    sim::Packet copy = packets_[packet];
    for_each_bit(pages, [&](unsigned page) { outdate(copy, page, kLast, kOlder); });
    packet = packets_.put(std::move(copy)).id;
  }
  const std::uint32_t id = put_link(std::move(renamed));
  outdate_link_memo_(link, pages) = id;
  return id;
}

}  // namespace gob::model
