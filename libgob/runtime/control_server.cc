#include "libgob/runtime/control_server.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <utility>

#include "libgob/runtime/control_connection.h"
#include "libgob/runtime/control_socket.h"
#include "libgob/runtime/control_wire.h"

namespace gob {
namespace {

constexpr std::uint64_t kListenerTag = 0;
constexpr int kEventsAtOnce = 64;
constexpr int kAcceptsAtOnce = 16;
constexpr std::size_t kScratchBytes = 64 << 10;

Status watch(int epoll, int operation, int fd, std::uint32_t events, std::uint64_t tag) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = tag;
  if (::epoll_ctl(epoll, operation, fd, &event) != 0) return system_error("epoll_ctl");
  return {};
}

UniqueFd open_spare() { return UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

}  // namespace

// Outlives no server: a responder that is used after the server's end finds it gone.
class ControlServer::Sink final : public ReplySink {
 public:
  explicit Sink(ControlServer& server) : server_(server) {}
  void deliver(ClientId client, control::Reply reply, std::vector<UniqueFd> fds) override {
    server_.deliver(client, std::move(reply), std::move(fds));
  }

 private:
  ControlServer& server_;
};

Result<std::unique_ptr<ControlServer>> ControlServer::listen(ControlServerOptions options,
                                                             ControlHandler& handler) {
  auto listener = ControlListener::listen(options.path, options.mode);
  if (!listener.ok()) return listener.error();
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return system_error("creating an epoll for the control socket");
  UniqueFd spare = open_spare();
  if (!spare) return system_error("opening /dev/null");
  if (Status added = watch(epoll.get(), EPOLL_CTL_ADD, listener->fd(), EPOLLIN, kListenerTag);
      !added.ok()) {
    return added.error();
  }
  return std::unique_ptr<ControlServer>(new ControlServer(
      std::move(options), handler, std::move(*listener), std::move(epoll), std::move(spare)));
}

ControlServer::ControlServer(ControlServerOptions options, ControlHandler& handler,
                             ControlListener listener, UniqueFd epoll, UniqueFd spare)
    : options_(std::move(options)),
      handler_(handler),
      listener_(std::move(listener)),
      epoll_(std::move(epoll)),
      spare_(std::move(spare)),
      sink_(std::make_shared<Sink>(*this)),
      scratch_(kScratchBytes) {}

ControlServer::~ControlServer() {
  while (!connections_.empty()) close(ClientId{connections_.begin()->first});
}

void ControlServer::poll() {
  std::array<epoll_event, kEventsAtOnce> events{};
  const int count = ::epoll_wait(epoll_.get(), events.data(), kEventsAtOnce, 0);
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    if (event.data.u64 == kListenerTag) {
      accept_all();
      continue;
    }
    const auto found = connections_.find(event.data.u64);
    if (found == connections_.end() || found->second->broken) continue;
    serve(*found->second, event.events);
  }
  reap();
}

void ControlServer::accept_all() {
  for (int i = 0; i < kAcceptsAtOnce; ++i) {
    UniqueFd socket(::accept4(listener_.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket && (errno == EMFILE || errno == ENFILE) && spare_) {
      // Without this the connection would stay in the queue and keep the epoll readable for ever.
      spare_.reset();
      socket.reset(::accept4(listener_.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (socket) {
        refuse(std::move(socket),
               make_error(ErrorCode::kNoSpace, "gobd has no file descriptor left for you", EMFILE));
      }
      spare_ = open_spare();
      continue;
    }
    if (!socket) return;
    if (Status admitted = admit(std::move(socket)); !admitted.ok()) {
      spdlog::warn("a control connection could not be taken: {}", admitted.error().message());
    }
  }
}

Status ControlServer::admit(UniqueFd socket) {
  auto peer = peer_credentials(socket.get());
  if (!peer.ok()) return peer.error();
  const bool trusted = peer->uid == 0 || peer->uid == ::geteuid();
  const std::size_t limit =
      options_.max_connections -
      (trusted ? 0 : std::min(options_.reserved_connections, options_.max_connections));
  if (connections_.size() >= limit) {
    refuse(std::move(socket),
           make_error(ErrorCode::kNoSpace,
                      "gobd already serves " + std::to_string(connections_.size()) +
                          " connections, its limit: end some programs and try again",
                      EAGAIN));
    return {};
  }
  const ClientId id{next_client_++};
  const int fd = socket.get();
  auto connection = std::make_unique<ControlConnection>(id, std::move(socket), std::move(*peer));
  connection->interest = EPOLLIN;
  if (Status added = watch(epoll_.get(), EPOLL_CTL_ADD, fd, EPOLLIN, id.value()); !added.ok()) {
    return added;
  }
  connections_.emplace(id.value(), std::move(connection));
  return {};
}

void ControlServer::refuse(UniqueFd socket, const Error& error) {
  control::Reply reply;
  set_error(error, reply);
  std::string bytes;
  if (!append_frame(reply, kMaxControlReplyBytes, bytes).ok()) return;
  // A fresh socket takes these few bytes; if not, the client still sees the end of the connection.
  if (auto sent = send_some(socket.get(), bytes, {}, /*wait=*/false); !sent.ok()) {
    spdlog::debug("a refusal was not delivered: {}", sent.error().message());
  }
}

void ControlServer::serve(ControlConnection& connection, std::uint32_t events) {
  if ((events & EPOLLOUT) != 0) {
    if (Status flushed = connection.flush(); !flushed.ok())
      return fail(connection, flushed.error());
  }
  const bool hung_up = (events & (EPOLLHUP | EPOLLERR)) != 0;
  if (connection.closing || connection.congested()) {
    // Nothing more is read from it, but its end has to be seen.
    if (hung_up) return drop(connection);
  } else if ((events & EPOLLIN) != 0 || hung_up) {
    if (auto got = connection.read(scratch_); !got.ok()) return fail(connection, got.error());
  }
  while (!connection.broken && !connection.closing && !connection.congested()) {
    auto incoming = connection.next_request();
    if (!incoming.ok()) return fail(connection, incoming.error());
    if (!incoming->has_value()) break;
    dispatch(connection, **incoming);
  }
  if (connection.broken) return;
  if (connection.closing && !connection.has_output()) return drop(connection);
  const bool reading = !connection.closing && !connection.congested();
  set_interest(connection, (reading ? std::uint32_t{EPOLLIN} : 0u) |
                               (connection.has_output() ? std::uint32_t{EPOLLOUT} : 0u));
}

void ControlServer::dispatch(ControlConnection& connection, ControlConnection::Incoming& incoming) {
  const control::Request& request = incoming.request;
  if (!connection.greeted && !greet(connection, request)) return;
  Responder responder(sink_, connection.id(), request.id());
  ++connection.in_flight;
  if (connection.in_flight > options_.max_in_flight) {
    responder.fail(make_error(ErrorCode::kNoSpace,
                              "this program already waits for " +
                                  std::to_string(options_.max_in_flight) +
                                  " answers of gobd, the limit of one connection",
                              EAGAIN));
    return;
  }
  if (incoming.no_room) return responder.fail(*incoming.no_room);
  handler_.on_request(connection.id(), connection.peer(), request, std::move(incoming.fds),
                      std::move(responder));
}

bool ControlServer::greet(ControlConnection& connection, const control::Request& request) {
  if (request.body_case() != control::Request::kHello) {
    disconnect(
        connection.id(),
        "its first request is " + std::string(name_of(request.body_case())) + " instead of hello");
    return false;
  }
  const std::uint32_t version = request.hello().protocol_version();
  if (version != kControlVersion) {
    connection.closing = true;
    Responder responder(sink_, connection.id(), request.id());
    ++connection.in_flight;
    responder.fail(make_error(ErrorCode::kUnsupported,
                              "gobd " GOB_VERSION " speaks version " +
                                  std::to_string(kControlVersion) +
                                  " of the control protocol and this program version " +
                                  std::to_string(version) + ": install the same release of both",
                              EPROTONOSUPPORT));
    return false;
  }
  connection.greeted = true;
  return true;
}

void ControlServer::deliver(ClientId client, control::Reply reply, std::vector<UniqueFd> fds) {
  const auto found = connections_.find(client.value());
  if (found == connections_.end() || found->second->broken) return;
  ControlConnection& connection = *found->second;
  --connection.in_flight;
  if (reply.ByteSizeLong() > kMaxControlReplyBytes) {
    const std::uint64_t id = reply.id();
    reply.Clear();
    reply.set_id(id);
    set_error(make_error(ErrorCode::kNoSpace,
                         "the answer is larger than a control message may be: ask for one "
                         "container by its name",
                         EMSGSIZE),
              reply);
    fds.clear();
  }
  if (Status sent = connection.send(reply, std::move(fds)); !sent.ok()) {
    return fail(connection, sent.error());
  }
  // Only serve() takes EPOLLOUT back, because requests may have been left unread meanwhile.
  if (connection.has_output()) set_interest(connection, connection.interest | EPOLLOUT);
}

void ControlServer::set_interest(ControlConnection& connection, std::uint32_t wanted) {
  if (wanted == connection.interest) return;
  if (Status changed =
          watch(epoll_.get(), EPOLL_CTL_MOD, connection.fd(), wanted, connection.id().value());
      !changed.ok()) {
    return fail(connection, changed.error());
  }
  connection.interest = wanted;
}

void ControlServer::disconnect(ClientId client, const std::string& reason) {
  const auto found = connections_.find(client.value());
  if (found == connections_.end() || found->second->broken) return;
  spdlog::warn("{} is disconnected: {}", found->second->describe(), reason);
  drop(*found->second);
}

void ControlServer::fail(ControlConnection& connection, const Error& error) {
  // That a program ended, even in the middle of something, is no news.
  const bool ended = error.code == ErrorCode::kUnavailable || error.errno_value == EPIPE ||
                     error.errno_value == ECONNRESET;
  if (ended) return drop(connection);
  disconnect(connection.id(), error.message());
}

void ControlServer::drop(ControlConnection& connection) {
  if (std::exchange(connection.broken, true)) return;
  broken_.push_back(connection.id());
  // Outside of poll() the hang-up makes the epoll readable, so that poll() comes to close it.
  ::shutdown(connection.fd(), SHUT_RDWR);
}

void ControlServer::reap() {
  // A handler may break further connections while it cleans up after one.
  while (!broken_.empty()) {
    const std::vector<ClientId> batch = std::exchange(broken_, {});
    for (const ClientId client : batch) close(client);
  }
}

void ControlServer::close(ClientId client) {
  const auto found = connections_.find(client.value());
  if (found == connections_.end()) return;
  const bool known = found->second->greeted;
  connections_.erase(found);
  if (known) handler_.on_disconnect(client);
}

}  // namespace gob
