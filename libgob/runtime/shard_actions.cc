// The core's actions, performed in order, and the messages that cause them.
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>

#include "libgob/runtime/shard.h"
#include "libgob/runtime/words.h"
#include "libgob/wire/page_header.h"

namespace gob {

void Shard::step(const Event& event) {
  if (stepping_) {
    next_events_.push_back(event);  // the actions of the present event come first
    return;
  }
  stepping_ = true;
  fresh_ = PageSet{};
  actions_.clear();
  core_.step(event, actions_);
  for (const Action& action : actions_) perform(action);
  stepping_ = false;
  if (next_events_.empty()) return settle_files();
  const Event next = std::move(next_events_.front());
  next_events_.pop_front();
  step(next);
}

// The event brought the bytes of pages with it.
void Shard::step_with(const PageBytes& payload, const Event& event) {
  payload_ = payload;
  step(event);
  payload_ = PageBytes{};
  fresh_ = PageSet{};
}

void Shard::perform(const Action& action) {
  std::visit(
      [&](const auto& a) {
        using A = std::decay_t<decltype(a)>;
        if constexpr (requires { perform_one(a); }) {
          perform_one(a);
        } else if constexpr (std::is_same_v<A, action::Downgrade>) {
          must(linker_.downgrade(a.pages));
          trace_taken(TraceKind::kProtected, a.pages);
          count_downgraded(a.pages);
        } else if constexpr (std::is_same_v<A, action::Invalidate>) {
          fresh_ = PageSet{};
          must(linker_.invalidate(a.pages));
          trace_taken(TraceKind::kGone, a.pages);
          left_node(a.pages);
        } else if constexpr (std::is_same_v<A, action::FreeSwap>) {
          if (io_linker_ != nullptr) io_linker_->free_page(a.pages);
        } else if constexpr (std::is_same_v<A, action::Hold>) {
          holds_.push_back({now_ns_ + std::uint64_t{config_.hold_us} * 1000, a.pages});
        } else if constexpr (std::is_same_v<A, action::Left>) {
          listener_.on_left(config_.index, a.stranded);
        } else {
          static_assert(std::is_same_v<A, action::Serving>);
          listener_.on_serving(config_.index, a.epoch);
        }
      },
      action);
}

void Shard::perform_one(const action::Send& send) {
  const Message& message = send.message;
  std::size_t bytes = 0;
  if (carries_bytes(message)) {
    bytes = wire::payload_bytes(message);
    if (message.payload == Payload::kMove) fresh_ = PageSet{};
    must(message.payload == Payload::kMove ? linker_.take(message.pages, staging_.data())
                                           : linker_.load(message.pages, staging_.data()));
    if (failed_) return;  // bytes that may be wrong do not leave this node
    if (trace_ != nullptr) {
      if (message.payload == Payload::kMove) trace_->note(TraceKind::kGone, message.pages);
      trace_->note_bytes(TraceKind::kRead, message.pages, message.pages, staging_.data());
    }
    if (message.payload == Payload::kMove) left_node(message.pages);
  }
  if (hold_back(send.to, message, {staging_.data(), bytes})) return;
  transmit(send.to, message, staging_.data(), bytes);
}

void Shard::transmit(NodeId to, const Message& message, std::byte* payload, std::size_t bytes) {
  std::array<std::byte, wire::kPageHeaderBytes> header;
  wire::encode(message, header);
  count_sent(message);
  const iovec part{payload, bytes};
  const std::span<const iovec> parts(&part, bytes == 0 ? 0 : 1);
  // A peer that is not up is about to leave the view, and the request to be asked anew.
  static_cast<void>(channel_->send(to, header, parts));
}

void Shard::perform_one(const action::Install& install) {
  if (trace_ != nullptr) {
    if (install.zero)
      trace_->note(TraceKind::kZeroed, install.pages);
    else
      trace_->note_bytes(TraceKind::kStored, install.pages, payload_.layout, payload_.base);
  }
  PageSet now = install.pages;
  if (install.access == Access::kWrite) {
    const PageSet later = now.with(wait_for_kernel(now));
    now.mask &= ~later.mask;
    if (!later.empty())
      must(install.zero ? linker_.install_zero(later, Access::kNone)
                        : linker_.install(later, payload_, Access::kNone));
  }
  if (!now.empty()) {
    if (install.access != Access::kNone) trace_granted(now, install.access);
    must(install.zero ? linker_.install_zero(now, install.access)
                      : linker_.install(now, payload_, install.access));
  }
  if (install.access == Access::kRead && !install.zero)
    fresh_ = now.with(now.mask | fresh_.mask);
  else
    fresh_ = PageSet{};
  if (install.access == Access::kNone) return;
  note_resolved(now);
  revisit(install.pages);
}

void Shard::perform_one(const action::Map& map) {
  PageSet now = map.pages;
  if (map.access == Access::kWrite) fresh_ = PageSet{};
  if (map.access == Access::kWrite) now.mask &= ~wait_for_kernel(now);
  if (!now.empty()) {
    trace_granted(now, map.access);
    must(linker_.map(now, map.access));
  }
  note_resolved(now);
  revisit(map.pages);
}

void Shard::perform_one(const action::SwapOut& swap) {
  ContainerCounters& counters = counters_[swap.pages.container];
  counters.swap_out += swap.pages.size();
  must(linker_.load(swap.pages, staging_.data()));
  if (failed_) return;
  if (trace_ != nullptr)
    trace_->note_bytes(TraceKind::kRead, swap.pages, swap.pages, staging_.data());
  if (files_.contains(swap.pages.container)) return write_to_file(swap.pages, FileWrite::kLeaves);
  const Status queued = io_linker_->flush_page(swap.pages, staging_.data());
  if (queued) return;
  // While the disk is busy it is tried again.
  if (queued.error().code != ErrorCode::kUnavailable)
    spdlog::warn("container {} stripe {}: {}", swap.pages.container.value(), swap.pages.stripe,
                 queued.error().message());
  step(event::SwappedOut{swap.pages, false});
}

void Shard::perform_one(const action::SwapIn& swap) {
  counters_[swap.pages.container].swap_in += swap.pages.size();
  if (const auto awaited = awaited_files_.find(swap.pages.container);
      awaited != awaited_files_.end())
    return awaited->second.push_back(swap.pages);
  IoLinker* linker = io_linker_.get();
  if (files_.contains(swap.pages.container)) linker = file_linker_.get();
  const Status queued =
      linker == nullptr ? make_error(ErrorCode::kNotFound, "no file is open on this node", ENOENT)
                        : linker->first_touch(swap.pages);
  if (queued) return;
  spdlog::warn("container {} stripe {}: {}", swap.pages.container.value(), swap.pages.stripe,
               queued.error().message());
  step(event::SwappedIn{swap.pages, false});
}

void Shard::perform_one(const action::DropContainer& drop) {
  if (const Status status = linker_.drop_container(drop.id); !status)
    spdlog::warn("container {}: {}", drop.id.value(), status.error().message());
  if (trace_ != nullptr) trace_->dropped(drop.id);
  if (io_linker_ != nullptr) io_linker_->free_container(drop.id);
  if (file_linker_ != nullptr) file_linker_->free_container(drop.id);
  std::erase_if(waited_,
                [&](const auto& item) { return page_of(item.first).container == drop.id; });
}

// A home whose life has ended takes along what no other node has: its next one knows nothing of it.
bool Shard::lost_for_good(const action::Refuse& refuse) const {
  if (refuse.refusal != Refusal::kIo) return refuse.refusal == Refusal::kLost;
  const auto file = files_.find(refuse.pages.container);
  if (file == files_.end()) return false;
  const View& view = core_.view();
  return !view.contains(file->second.home) ||
         std::ranges::any_of(view.losses, [&](const Loss& loss) {
           return file->second.created < loss.epoch &&
                  std::ranges::count(loss.dead, file->second.home) != 0;
         });
}

void Shard::perform_one(const action::Refuse& refuse) {
  if (const auto counted = counters_.find(refuse.pages.container); counted != counters_.end())
    counted->second.refused += refuse.pages.size();
  must(linker_.refuse(refuse.pages, lost_for_good(refuse)));
  trace_taken(TraceKind::kRefused, refuse.pages);
  refuse_parts(refuse.pages, refuse.refusal, refuse.node);
  for_each_page(refuse.pages, [&](PageId page) {
    waited_.erase(key_of(page));
    spdlog::warn("container {} page {}: access refused, {} (node {})", page.container.value(),
                 page.page.value(), to_words(refuse.refusal), name_of(refuse.node));
  });
}

void Shard::perform_one(const action::Violation& violation) {
  const std::string why = fmt::format(
      "message {} for container {} stripe {} breaks a rule: {}", to_words(violation.message.type),
      violation.message.pages.container.value(), violation.message.pages.stripe, violation.rule);
  if (violation.from == config_.core.self) return fatal(make_error(ErrorCode::kProtocol, why));
  spdlog::error("node {}: {}; dropped", name_of(violation.from), why);
  for_each_page(violation.message.pages, [&](PageId page) {
    spdlog::error("page {}: {}", page.page.value(), core_.describe(page));
  });
  channel_->drop(violation.from, DownReason::kProtocol, why);
}

// The I/O linker finished some of what it was asked.
void Shard::finish_io() {
  completions_.clear();
  io_linker_->poll(completions_);
  for (const IoCompletion& done : completions_) {
    if (!done.status)
      spdlog::error("container {} stripe {}: {}", done.pages.container.value(), done.pages.stripe,
                    done.status.error().message());
    if (!counters_.contains(done.pages.container)) continue;  // removed meanwhile
    if (done.kind == IoCompletion::Kind::kFlushed) {
      if (done.status) {
        must(linker_.invalidate(done.pages));
        trace_taken(TraceKind::kGone, done.pages);
      }
      step(event::SwappedOut{done.pages, done.status.ok()});
    } else {
      if (done.status) {
        if (trace_ != nullptr)
          trace_->note_bytes(TraceKind::kStored, done.pages, done.pages, done.bytes);
        must(linker_.install(done.pages, PageBytes{done.pages, done.bytes}, Access::kNone));
      }
      step(event::SwappedIn{done.pages, done.status.ok()});
    }
  }
}

std::string Shard::name_of(NodeId node) const {
  return node.value() < node_names_.size() ? node_names_[node.value()] : "unknown";
}

void Shard::on_up(NodeId peer, std::uint64_t incarnation) {
  listener_.on_peer_up(config_.index, peer, incarnation);
}

void Shard::on_down(NodeId peer, DownReason reason, const std::string& detail) {
  // What was held back for this life of the peer is not for its next one.
  held_messages_.forget(peer);
  listener_.on_peer_down(config_.index, peer, reason, detail);
}

void Shard::on_message(NodeId from, std::span<const std::byte> header,
                       std::span<const std::byte> payload) {
  const Result<Message> decoded = wire::decode(header);
  if (!decoded) return channel_->drop(from, DownReason::kProtocol, decoded.error().message());
  const Message& message = *decoded;
  if (payload.size() != wire::payload_bytes(message))
    return channel_->drop(
        from, DownReason::kProtocol,
        fmt::format("{} with a payload of {} bytes instead of {}", to_words(message.type),
                    payload.size(), wire::payload_bytes(message)));
  // A container that was made a moment ago: this node has acknowledged it, but its control thread's
  // word still waits for this thread. (Who sends bytes of a page has asked, or heard of it,
  // before.)
  if (!count_received(message) && payload.empty()) {
    mailbox_.run();
    static_cast<void>(count_received(message));
  }
  free_frames_[from] = message.free_frames;
  const bool frames = message.type != MessageType::kInject || has_frames(message.pages.container);
  step_with(PageBytes{message.pages, payload.data()}, event::Deliver{from, message, frames});
}

void Shard::count_sent(const Message& message) {
  const auto found = counters_.find(message.pages.container);
  if (found == counters_.end()) return;
  ContainerCounters& counters = found->second;
  ++counters.messages_out;
  counters.bytes_out += wire::payload_bytes(message);
  if (message.type == MessageType::kInvalidate) counters.invalidations_out += message.pages.size();
  if (message.type == MessageType::kInject) counters.injections_out += message.pages.size();
  if (message.payload != Payload::kMove) return;
  for_each_page(message.pages, [&](PageId page) { counters.bounces.add(page.page); });
  note_taken(message.pages);
}

// Another node's read took the right to write away; a page on its way to swap or to another node's
// memory is no bouncing page.
void Shard::count_downgraded(PageSet pages) {
  const auto found = counters_.find(pages.container);
  if (found == counters_.end()) return;
  for_each_page(pages, [&](PageId page) {
    if (!core_.local(page).flushing) found->second.bounces.add(page.page);
  });
}

bool Shard::count_received(const Message& message) {
  const auto found = counters_.find(message.pages.container);
  if (found == counters_.end()) return false;
  ContainerCounters& counters = found->second;
  ++counters.messages_in;
  counters.bytes_in += wire::payload_bytes(message);
  if (message.type == MessageType::kInject) counters.injections_in += message.pages.size();
  if (message.type != MessageType::kInvalidate) return true;
  counters.invalidations_in += message.pages.size();
  for_each_page(message.pages, [&](PageId page) { counters.bounces.add(page.page); });
  note_taken(message.pages);
  return true;
}

}  // namespace gob
