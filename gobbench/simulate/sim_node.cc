#include "gobbench/simulate/sim_node.h"

#include <span>
#include <utility>

#include "libgob/runtime/peer_codec.h"
#include "libgob/wire/frame.h"

namespace gob::bench {
namespace {

// Whether the message speaks to the manager of its pages.
bool to_manager(MessageType type) {
  return type == MessageType::kGet || type == MessageType::kGrab || type == MessageType::kFlush ||
         type == MessageType::kConfirm || type == MessageType::kFlushDone;
}

}  // namespace

SimNode::SimNode(const CoreConfig& config, const Timing& timing)
    : timing_(timing), core_(config), sync_(config.self), memory_(timing) {}

void SimNode::add_container(const ContainerInfo& info) {
  streams_.try_emplace(info.id, info.id, PageIndex{0}, info.pages,
                       static_cast<unsigned>(timing_.read_ahead_pages));
  actions_.clear();
  core_.step(event::AddContainer{info}, actions_);
}

// As Shard::drain_mapping() with one shard.
void SimNode::on_fault(PageId page, Access access, Round& round) {
  ++counters_.faults;
  const StreamDetector::Advice advice = streams_.at(page.container).on_fault(page.page, access);
  const PageSet wanted = PageSet::of(page);
  const auto runs = std::span(advice.runs).first(advice.count);
  StreamDetector::Run joined{wanted.with(0), 0};
  for (const StreamDetector::Run& run : runs)
    if (run.pages.stripe == wanted.stripe) joined = run;
  memory_.expect(joined.pages, joined.unmapped);
  memory_.wait_for(wanted);
  round.work_us(timing_.step_us);
  step(event::Touch{wanted, access, joined.pages.mask}, round);
  for (const StreamDetector::Run& run : runs) {
    if (run.pages.stripe == wanted.stripe) continue;
    memory_.expect(run.pages, run.unmapped);
    round.work_us(timing_.step_us);
    step(event::Touch{run.pages.with(0), access, run.pages.mask}, round);
  }
}

void SimNode::on_packet(const Packet& packet, Round& round) {
  round.work_us(timing_.receive_us + static_cast<double>(packet.bytes) * timing_.byte_ns * 1e-3);
  for (const Message& message : packet.messages) {
    if (to_manager(message.type)) ++counters_.manager_messages;
    if (carries_bytes(message)) counters_.pages_in += message.pages.size();
    if (message.type == MessageType::kInvalidate) note_taken(message.pages);
    round.work_us(timing_.step_us);
    step(event::Deliver{packet.from, message}, round);
  }
}

// As Shard::note_taken(): another node took the pages away.
void SimNode::note_taken(PageSet pages) {
  const auto streams = streams_.find(pages.container);
  if (streams == streams_.end()) return;
  for_each_page(pages, [&](PageId page) { streams->second.on_taken(page.page); });
}

void SimNode::expire_holds(Round& round) {
  while (!holds_.empty() && holds_.front().deadline <= round.now()) {
    const PageSet pages = holds_.front().pages;
    holds_.pop_front();
    step(event::HoldExpired{pages}, round);
  }
}

SimTime SimNode::hold_deadline() const {
  return core_.has_deferred() && !holds_.empty() ? holds_.front().deadline : 0;
}

std::optional<SimTime> SimNode::take_wake_up() { return std::exchange(wake_up_, std::nullopt); }

void SimNode::step(const Event& event, Round& round) {
  actions_.clear();
  core_.step(event, actions_);
  for (const Action& action : actions_) perform(action, round);
}

void SimNode::grant(PageSet pages, Access access, bool stores, Round& round) {
  const bool waited = memory_.waits();
  round.work(memory_.grant(pages, access, stores));
  if (waited && !memory_.waits()) wake_up_ = round.now();
}

void SimNode::perform(const Action& action, Round& round) {
  std::visit(
      [&](const auto& a) {
        using A = std::decay_t<decltype(a)>;
        if constexpr (std::is_same_v<A, action::Send>) {
          ++counters_.messages_out;
          if (a.message.payload == Payload::kMove) {
            note_taken(a.message.pages);
            round.work(memory_.unmap(a.message.pages));
          }
          if (carries_bytes(a.message)) round.work(memory_.load(a.message.pages));
          round.send(a.to, a.message);
        } else if constexpr (std::is_same_v<A, action::Install>) {
          grant(a.pages, a.access, true, round);
        } else if constexpr (std::is_same_v<A, action::Map>) {
          grant(a.pages, a.access, false, round);
        } else if constexpr (std::is_same_v<A, action::Downgrade>) {
          round.work(memory_.protect(a.pages));
        } else if constexpr (std::is_same_v<A, action::Invalidate>) {
          round.work(memory_.unmap(a.pages));
        } else if constexpr (std::is_same_v<A, action::Hold>) {
          holds_.push_back({round.now() + to_ns(timing_.hold_us), a.pages});
        } else if constexpr (std::is_same_v<A, action::Serving>) {
          serving_since_ = round.now();
        } else if constexpr (std::is_same_v<A, action::Violation>) {
          failure_ = std::string("the core blames a peer: ") + a.rule;
        } else if constexpr (std::is_same_v<A, action::Refuse>) {
          failure_ = "the core refuses an access";
        } else {
          // Swapping, leaving and removing containers are not simulated here (tests/sim does).
          failure_ = "the core asks for what this simulation does not model";
        }
      },
      action);
}

bool SimNode::on_barrier(const std::string& name, std::uint32_t count, Round& round) {
  SyncService::Request request;
  request.kind = SyncKind::kBarrier;
  request.client = 1;
  request.name = name;
  request.count = count;
  SyncService::Out out;
  round.work_us(timing_.step_us);
  sync_.request(request, out);
  return perform(out, round);
}

bool SimNode::on_control_packet(const Packet& packet, Round& round) {
  round.work_us(timing_.receive_us + static_cast<double>(packet.bytes) * timing_.byte_ns * 1e-3);
  SyncService::Out out;
  for (const SyncMessage& message : packet.sync) {
    round.work_us(timing_.step_us);
    sync_.deliver(packet.from, message, out);
  }
  return perform(out, round);
}

bool SimNode::install_sync_view(const View& view, Round& round) {
  SyncService::Out out;
  sync_.install_view(view, out);
  return perform(out, round);
}

bool SimNode::perform(const SyncService::Out& out, Round& round) {
  for (const auto& [to, message] : out.messages)
    round.send(to, message, wire::kPrefixBytes + encode_peer_message(message).size());
  for (const SyncService::Answer& answer : out.answers)
    if (answer.result != SyncResult::kOk && answer.result != SyncResult::kOkLast)
      failure_ = "a barrier did not open";
  return !out.answers.empty();
}

}  // namespace gob::bench
