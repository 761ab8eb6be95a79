// Completions of the RDMA links, and how to wait for them.
//
// To be told of a completion costs two system calls and a wake-up, many times what a message takes.
// So after traffic the channel stays busy: fd() stays readable and its owner polls again and again.
// How long is learned: up to verbs_poll while the next completion came within that time, half as
// long after every time that it did not, down to not at all.
#include <sched.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "libgob/transport/tcp_channel.h"
#include "libgob/transport/tcp_channel_limits.h"
#include "libgob/transport/verbs_link.h"
#include "libgob/wire/frame.h"

namespace gob {
namespace {

constexpr std::size_t kCompletionsAtOnce = 64;
constexpr std::size_t kCompletionsPerPoll = 1024;
constexpr std::chrono::microseconds kLeastPatience{10};
constexpr unsigned kTurnsToYield = 16;  // some microseconds

}  // namespace

Status TcpChannel::open_queue() {
  if (queue_ != nullptr) return {};
  if (device_ == nullptr || device_->lost()) {
    return make_error(ErrorCode::kUnavailable, "the RDMA device is gone");
  }
  auto opened = VerbsQueue::open(device_, config_.nodes);
  if (!opened) return opened.error();
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = nullptr;  // no link
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, (*opened)->fd(), &event) != 0) {
    return system_error("peer channel: cannot watch RDMA completions");
  }
  queue_ = std::move(*opened);
  return {};
}

// Takes what the device has done. True if there was something.
bool TcpChannel::collect() {
  if (queue_ == nullptr) return false;
  std::array<ibv_wc, kCompletionsAtOnce> completions;
  std::vector<Link*> touched;
  std::size_t total = 0;
  int count = 0;
  do {
    count = queue_->poll(completions);
    for (int i = 0; i < count; ++i) {
      const ibv_wc& completion = completions[static_cast<std::size_t>(i)];
      const auto found = by_verbs_id_.find(VerbsLink::id_of(completion));
      if (found == by_verbs_id_.end()) continue;  // of a link that is gone
      Link* link = found->second;
      link->verbs->on_completion(completion);
      if (touched.empty() || touched.back() != link) touched.push_back(link);
    }
    total += count > 0 ? static_cast<std::size_t>(count) : 0;
  } while (count == static_cast<int>(completions.size()) && total < kCompletionsPerPoll);
  if (total > 0 && queue_->armed()) queue_->take_notification();
  if (count < 0) {
    for (Link* link : std::vector<Link*>(active_)) fall_back(*link, "completions cannot be read");
    return true;
  }
  for (Link* link : touched) {
    if (link->broken || link->verbs == nullptr) continue;
    link->verbs->refill();
    if (link->verbs->has_input() && !link->has_chunks) {
      link->has_chunks = true;
      chunked_.push_back(link);
    }
    advance(*link);
  }
  return total > 0;
}

// Sends what waits, as far as there is room.
void TcpChannel::advance(Link& link) {
  if (link.out_way != Way::kVerbs || link.broken) return;
  VerbsLink& verbs = *link.verbs;
  while (!link.out.empty() && !verbs.failed()) {
    const std::span<const std::byte> bytes = link.out.front();
    const std::size_t frame = wire::decode_prefix(bytes.first<wire::kPrefixBytes>()).frame_bytes();
    const iovec part{const_cast<std::byte*>(bytes.data()), frame};
    if (!verbs.put({&part, 1}, frame)) break;
    link.out.consume(frame);
    if (verbs.sent().open_bytes() >= kHoldBackBytes) verbs.post();
  }
  if (verbs.unposted() && !link.held_back) {
    verbs.post();
    note_traffic();
  }
  verbs.acknowledge();  // in case the send queue was full when it was due
  if (verbs.failed()) fall_back(link, verbs.failure());
}

// Something was sent or has come: an answer or the next message may follow soon.
void TcpChannel::note_traffic() {
  last_traffic_ = Clock::now();
  if (patience_.count() > 0) be_busy(true);
}

void TcpChannel::be_busy(bool on) {
  if (busy_ == on) return;
  busy_ = on;
  std::uint64_t value = 1;
  // Neither can block nor fail: an eventfd of our own that counts to one.
  if (on) {
    [[maybe_unused]] const auto written = ::write(busy_event_.get(), &value, sizeof value);
  } else {
    [[maybe_unused]] const auto read = ::read(busy_event_.get(), &value, sizeof value);
  }
}

// The end of a turn: stay busy, or have the device tell when there is more.
void TcpChannel::rest(bool found) {
  if (queue_ == nullptr) return;
  if (on_verbs_ == 0) {
    if (queue_->armed()) queue_->take_notification();  // or fd() stays readable for it
    return be_busy(false);
  }
  const auto now = Clock::now();
  if (found) {
    if (now - last_traffic_ <= config_.verbs_poll) patience_ = config_.verbs_poll;
    last_traffic_ = now;
  }
  if (patience_.count() > 0 && now - last_traffic_ < patience_) {
    // Now and then whoever has something to do goes first: programs, and the kernel's threads that
    // are the device where it is made of software.
    if (!found && ++idle_turns_ % kTurnsToYield == 0) ::sched_yield();
    return be_busy(true);
  }
  if (busy_) {
    patience_ /= 2;
    if (patience_ < kLeastPatience) patience_ = patience_.zero();
    be_busy(false);
  }
  if (queue_->armed()) {
    if (!found) queue_->take_notification();
    if (queue_->armed()) return;
  }
  if (const Status armed = queue_->arm(); !armed) {
    for (Link* link : std::vector<Link*>(active_)) fall_back(*link, armed.error().message());
    return;
  }
  // What came before the device was asked may have passed unnoticed.
  if (collect()) gate_->wake();
}

}  // namespace gob
