#include "libgob/transport/tcp_setup.h"

#include <pthread.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

namespace gob {
namespace {

constexpr std::uint64_t kMailboxId = 0;
constexpr std::uint64_t kListenerId = 1;
constexpr std::uint64_t kDeviceId = 2;
constexpr std::uint64_t kFirstHalfId = 3;
constexpr int kEventsPerTurn = 64;
constexpr std::size_t kMaxWarned = 256;
constexpr auto kDescriptorPause = std::chrono::milliseconds(200);

}  // namespace

Result<std::unique_ptr<TcpSetup>> TcpSetup::start(const TcpConfig& config, UniqueFd listener,
                                                  LinkGates gates,
                                                  std::shared_ptr<SetupMailbox> mailbox,
                                                  std::shared_ptr<StatusBoard> board,
                                                  std::shared_ptr<VerbsDevice> device) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return system_error("TCP set-up: cannot make an epoll set");
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kMailboxId;
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, mailbox->fd(), &event) != 0) {
    return system_error("TCP set-up: cannot watch its mailbox");
  }
  event.data.u64 = kDeviceId;
  if (device != nullptr) {
    for (const int fd : {device->event_fd(), device->removal_fd()}) {
      if (fd >= 0 && ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
        return system_error("TCP set-up: cannot watch the RDMA device");
      }
    }
  }
  std::unique_ptr<TcpSetup> setup(new TcpSetup(config, std::move(listener), std::move(gates),
                                               std::move(mailbox), std::move(board),
                                               std::move(epoll), std::move(device)));
  // The logger exists before any thread that uses it.
  spdlog::default_logger_raw();
  // Signals are for the threads that expect them.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  Status started;
  try {
    setup->thread_ = std::thread(&TcpSetup::run, setup.get());
  } catch (const std::system_error& error) {
    started =
        make_error(ErrorCode::kSystem, "TCP set-up: cannot start its thread", error.code().value());
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!started) return started.error();
  ::pthread_setname_np(setup->thread_.native_handle(), "gob-setup");
  return setup;
}

TcpSetup::TcpSetup(const TcpConfig& config, UniqueFd listener, LinkGates gates,
                   std::shared_ptr<SetupMailbox> mailbox, std::shared_ptr<StatusBoard> board,
                   UniqueFd epoll, std::shared_ptr<VerbsDevice> device)
    : config_(config),
      rules_{.self = config.self,
             .nodes = config.nodes.size(),
             .shards = static_cast<std::uint8_t>(config.shards),
             .cluster = cluster_hash(config.cluster),
             .incarnation = config.incarnation,
             .needs_verbs = config.verbs == VerbsUse::kRequired},
      gates_(std::move(gates)),
      mailbox_(std::move(mailbox)),
      board_(std::move(board)),
      epoll_(std::move(epoll)),
      listener_(std::move(listener)),
      device_(std::move(device)),
      next_half_(kFirstHalfId) {
  for (const PeerAddress& address : config_.nodes) {
    Peer& peer = peers_.emplace_back();
    peer.address = address;
    peer.name = "node " + std::to_string(address.node.value()) + " (" + address.host + ":" +
                std::to_string(address.port) + ")";
    peer.next_try = Clock::now();
  }
}

TcpSetup::~TcpSetup() {
  if (!thread_.joinable()) return;
  mailbox_->post(StopSetup{});
  thread_.join();
}

void TcpSetup::run() {
  std::array<epoll_event, kEventsPerTurn> events;
  watch_listener(true);
  for (;;) {
    const int ready = ::epoll_wait(epoll_.get(), events.data(), kEventsPerTurn, wait_ms());
    for (int i = 0; i < ready; ++i) {
      const std::uint64_t id = events[static_cast<std::size_t>(i)].data.u64;
      if (id == kMailboxId) {
        if (!obey()) return;
      } else if (id == kListenerId) {
        accept_some();
      } else if (id == kDeviceId) {
        look_at_device();
      } else {
        on_half(id);
      }
    }
    // After the events, so that whatever arrived in time counts even if this thread ran late.
    if (ready < kEventsPerTurn) check_deadlines();
  }
}

bool TcpSetup::obey() {
  const auto known = [&](NodeId node) { return node.value() < peers_.size(); };
  for (const SetupCommand& command : mailbox_->take()) {
    if (std::holds_alternative<StopSetup>(command)) return false;
    if (const auto* lost = std::get_if<LinkBreak>(&command)) {
      if (known(lost->peer)) on_break(*lost);
    } else if (const auto* disconnect = std::get_if<Disconnect>(&command)) {
      if (!known(disconnect->peer)) continue;
      const std::uint64_t current = peers_[disconnect->peer.value()].current;
      on_break({disconnect->peer, current, DownReason::kLocal, disconnect->detail});
    } else if (const auto* allow = std::get_if<Allow>(&command)) {
      if (!known(allow->peer)) continue;
      Peer& peer = peers_[allow->peer.value()];
      peer.refused.clear();
      peer.backoff = {};
      peer.next_try = Clock::now();
    }
  }
  return true;
}

void TcpSetup::look_at_device() {
  if (device_ == nullptr || !device_->look()) return;
  for (const int fd : {device_->event_fd(), device_->removal_fd()}) {
    if (fd >= 0) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  }
  device_.reset();
  // Each channel lets go of it at its next poll.
  for (const auto& [number, gate] : gates_) gate->wake();
}

int TcpSetup::wait_ms() const {
  auto next = Clock::time_point::max();
  for (const auto& [id, half] : halves_) next = std::min(next, half.deadline);
  for (const Peer& peer : peers_) {
    if (peer.pending != 0) next = std::min(next, peer.pending_deadline);
    const bool idle = peer.current == 0 && peer.pending == 0 && !peer.trying;
    if (idle && !is_self(peer)) next = std::min(next, peer.next_try);
  }
  if (accept_again_ != Clock::time_point{}) next = std::min(next, accept_again_);
  if (next == Clock::time_point::max()) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 3600000));
}

void TcpSetup::check_deadlines() {
  const auto now = Clock::now();
  std::vector<HalfId> late;
  for (const auto& [id, half] : halves_) {
    if (half.deadline <= now) late.push_back(id);
  }
  for (const HalfId id : late) {
    const auto found = halves_.find(id);
    if (found == halves_.end()) continue;
    if (found->second.stage == Half::Stage::kConnecting) {
      Peer& peer = peers_[found->second.peer.value()];
      remove_half(id);
      connect_failed(peer, {ETIMEDOUT, false});
    } else {
      give_up(id, "no hello within " + std::to_string(config_.handshake_timeout.count()) + " ms");
    }
  }
  for (Peer& peer : peers_) {
    if (is_self(peer)) continue;
    if (peer.pending != 0 && peer.pending_deadline <= now) {
      spdlog::warn("{}: only {} of {} connections within {} ms; starting over", peer.name,
                   peer.ready.size(), gates_.size(), config_.handshake_timeout.count());
      abandon(peer);
      next_round(peer);
    }
    if (peer.current == 0 && peer.pending == 0 && !peer.trying && peer.next_try <= now) {
      try_peer(peer);
    }
  }
  if (accept_again_ != Clock::time_point{} && accept_again_ <= now) {
    accept_again_ = {};
    watch_listener(true);
  }
}

void TcpSetup::watch_listener(bool on) {
  if (listening_ == on) return;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kListenerId;
  const int operation = on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL;
  if (::epoll_ctl(epoll_.get(), operation, listener_.get(), &event) != 0) {
    spdlog::error("peer port: cannot {} it: {}", on ? "watch" : "pause", std::strerror(errno));
    if (on) accept_again_ = Clock::now() + kDescriptorPause;
    return;
  }
  listening_ = on;
}

void TcpSetup::accept_some() {
  while (half_open_ < config_.max_half_open) {
    Half half;
    half.address.bytes = sizeof half.address.storage;
    half.socket.reset(::accept4(listener_.get(), reinterpret_cast<sockaddr*>(&half.address.storage),
                                &half.address.bytes, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!half.socket) {
      if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return;
      spdlog::error("peer port: cannot accept a connection: {}; trying again in {} ms",
                    std::strerror(errno), kDescriptorPause.count());
      watch_listener(false);
      accept_again_ = Clock::now() + kDescriptorPause;
      return;
    }
    if (auto set = set_link_options(half.socket.get(), config_.stall_timeout); !set) {
      spdlog::warn("{}: {}", host_of(half.address), set.error().message());
      continue;
    }
    half.deadline = Clock::now() + config_.handshake_timeout;
    add_half(std::move(half), EPOLLIN);
  }
  // Full: the rest wait in the kernel's bounded queue until one of these is done.
  watch_listener(false);
}

TcpSetup::Half* TcpSetup::add_half(Half half, std::uint32_t events) {
  const HalfId id = next_half_++;
  epoll_event event{};
  event.events = events;
  event.data.u64 = id;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, half.socket.get(), &event) != 0) {
    spdlog::error("{}: cannot watch a connection: {}", to_string(half.address),
                  std::strerror(errno));
    return nullptr;
  }
  if (!half.ours) ++half_open_;
  return &halves_.emplace(id, std::move(half)).first->second;
}

void TcpSetup::remove_half(HalfId id) {
  const auto found = halves_.find(id);
  if (found == halves_.end()) return;
  if (!found->second.ours) --half_open_;
  halves_.erase(found);
  if (accept_again_ == Clock::time_point{}) watch_listener(true);
}

void TcpSetup::warn_once(const std::string& key, const std::string& text) {
  if (warned_.contains(key)) return;
  if (warned_.size() >= kMaxWarned) warned_.clear();
  warned_.insert(key);
  spdlog::warn("{}", text);
}

}  // namespace gob
