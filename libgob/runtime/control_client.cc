#include "libgob/runtime/control_client.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <utility>

#include "libgob/runtime/control_socket.h"

namespace gob {
namespace {

// A gobd that takes nothing for so long is given up. Also bounds connect() when its queue is full.
constexpr timeval kSendTimeout{30, 0};

Error connect_error(const std::string& path, int error) {
  const std::string tried = "connecting to gobd at " + path;
  switch (error) {
    case ENOENT:
      return make_error(ErrorCode::kUnavailable,
                        tried +
                            ": no such socket. Is gobd running on this node? Start a "
                            "development cluster with \"gobctl cluster up\", or name the "
                            "socket of a running gobd (--socket, $GOB_SOCKET)",
                        error);
    case ECONNREFUSED:
      return make_error(ErrorCode::kUnavailable,
                        tried +
                            ": the socket is there but no gobd listens; it has ended. Start it "
                            "again, for example with \"gobctl cluster up\"",
                        error);
    case EACCES:
    case EPERM:
      return make_error(ErrorCode::kPermissionDenied,
                        tried +
                            ": you may not use this socket; its mode and its directory's "
                            "(see ls -l) decide who may",
                        error);
    case EAGAIN:
      return make_error(ErrorCode::kTimedOut, tried + ": gobd does not take new connections",
                        error);
    default:
      return make_error(ErrorCode::kSystem, tried, error);
  }
}

int poll_timeout(std::optional<std::chrono::steady_clock::time_point> deadline) {
  if (!deadline) return -1;
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(*deadline - std::chrono::steady_clock::now());
  return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 1 << 30));
}

}  // namespace

Result<std::unique_ptr<ControlClient>> ControlClient::connect(const std::string& path,
                                                              const std::string& client_name,
                                                              Milliseconds timeout) {
  const auto address = unix_address(path);
  if (!address.ok()) return address.error();
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return system_error("creating a socket to reach gobd");
  if (::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &kSendTimeout, sizeof kSendTimeout) !=
      0) {
    return system_error("setting the send time-out of the control socket");
  }
  int connected = -1;
  do {
    connected =
        ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address);
  } while (connected != 0 && errno == EINTR);
  if (connected != 0) return connect_error(path, errno);
  std::unique_ptr<ControlClient> client(new ControlClient(path, std::move(socket)));
  if (Status said = client->say_hello(client_name, timeout); !said.ok()) return said.error();
  return client;
}

Status ControlClient::say_hello(const std::string& client_name, Milliseconds timeout) {
  control::Request request;
  request.mutable_hello()->set_protocol_version(kControlVersion);
  request.mutable_hello()->set_client_name(client_name);
  auto answer = call(std::move(request), {}, timeout);
  if (!answer.ok()) return answer.error();
  if (!answer->reply.has_hello()) {
    return make_error(ErrorCode::kProtocol, path_ + " does not answer as a gobd does", EPROTO);
  }
  hello_ = std::move(*answer->reply.mutable_hello());
  return {};
}

Result<ControlClient::Answer> ControlClient::call(control::Request request,
                                                  std::span<const int> fds, Milliseconds timeout) {
  std::optional<Clock::time_point> deadline;
  if (timeout >= Milliseconds::zero()) deadline = Clock::now() + timeout;
  Waiter waiter;
  std::uint64_t id = 0;
  {
    const std::lock_guard lock(mutex_);
    if (broken_) return make_error(ErrorCode::kUnavailable, *broken_, ENOTCONN);
    id = next_id_++;
    waiters_.emplace(id, &waiter);
  }
  request.set_id(id);
  request.set_fds(static_cast<std::uint32_t>(fds.size()));
  if (Status sent = send(request, fds); !sent.ok()) {
    const std::lock_guard lock(mutex_);
    // gobd may have said why before it closed: what it sent is still to be read.
    const bool gone = sent.error().errno_value == EPIPE || sent.error().errno_value == ECONNRESET;
    if (!gone) {
      if (sent.error().code != ErrorCode::kInvalidArgument) {
        break_connection("the connection to gobd at " + path_ +
                         " failed: " + sent.error().message());
      }
      waiters_.erase(id);
      wake_next_reader();
      return sent.error();
    }
  }
  return await(id, waiter, deadline);
}

Status ControlClient::send(const control::Request& request, std::span<const int> fds) {
  std::string bytes;
  if (Status framed = append_frame(request, kMaxControlRequestBytes, bytes); !framed.ok()) {
    return framed;
  }
  const std::lock_guard lock(send_mutex_);
  std::string_view rest = bytes;
  while (!rest.empty()) {
    auto sent = send_some(socket_.get(), rest, fds, /*wait=*/true);
    if (!sent.ok()) return sent.error();
    if (*sent == 0) {
      return make_error(ErrorCode::kTimedOut, "gobd takes no requests", ETIMEDOUT);
    }
    rest.remove_prefix(*sent);
    fds = {};
  }
  return {};
}

Result<ControlClient::Answer> ControlClient::await(std::uint64_t id, Waiter& waiter,
                                                   std::optional<Clock::time_point> deadline) {
  std::unique_lock lock(mutex_);
  bool late = false;
  while (!waiter.answer && !broken_ && !late) {
    if (!reading_) {
      read_for_all(lock, deadline);
      give_back(lock);
    } else {
      waiter.asleep = true;
      if (deadline) {
        waiter.wake.wait_until(lock, *deadline);
      } else {
        waiter.wake.wait(lock);
      }
      waiter.asleep = false;
    }
    late = deadline && Clock::now() >= *deadline;
  }
  waiters_.erase(id);
  wake_next_reader();
  if (!waiter.answer) {
    if (broken_) return make_error(ErrorCode::kUnavailable, *broken_, ENOTCONN);
    return make_error(ErrorCode::kTimedOut, "gobd at " + path_ + " did not answer in time",
                      ETIMEDOUT);
  }
  if (waiter.answer->reply.has_error()) return error_of(waiter.answer->reply.error());
  return std::move(*waiter.answer);
}

void ControlClient::read_for_all(std::unique_lock<std::mutex>& lock,
                                 std::optional<Clock::time_point> deadline) {
  reading_ = true;
  lock.unlock();
  pollfd readable{socket_.get(), POLLIN, 0};
  const int ready = ::poll(&readable, 1, poll_timeout(deadline));
  Result<Received> received = Received{};
  if (ready > 0) received = receive_some(socket_.get(), scratch_, fds_);
  lock.lock();
  reading_ = false;
  if (!received.ok()) {
    break_connection("the connection to gobd at " + path_ +
                     " failed: " + received.error().message());
    return;
  }
  switch (received->what) {
    case Received::What::kNothingNow:
      return;
    case Received::What::kEnd:
      break_connection("gobd" +
                       (hello_.node_name().empty() ? "" : " of node " + hello_.node_name()) +
                       " at " + path_ + " has ended or closed the connection");
      return;
    case Received::What::kBytes:
      reader_.append({scratch_.data(), received->bytes});
      break;
  }
  if (Status taken = take_replies(); !taken.ok()) {
    break_connection("gobd at " + path_ + " sent what makes no sense: " + taken.error().message());
  }
}

Status ControlClient::take_replies() {
  while (true) {
    auto bytes = reader_.next();
    if (!bytes.ok()) return bytes.error();
    if (!bytes->has_value()) return {};
    auto reply = parse_reply(**bytes);
    if (!reply.ok()) return reply.error();
    auto fds = take_fds(fds_, reply->fds());
    const auto found = waiters_.find(reply->id());
    if (!fds.ok() && fds.error().code != ErrorCode::kNoSpace) return fds.error();
    // Nobody would ever end it.
    if (reply->has_map_container() && (!fds.ok() || found == waiters_.end()))
      unwanted_.push_back(reply->map_container().mapping_id());
    if (!fds.ok()) {
      // That concerns one call alone.
      set_error(make_error(ErrorCode::kNoSpace,
                           "this program has no file descriptor left for what came with gobd's "
                           "answer; close some, or raise its limit of open files (ulimit -n)",
                           EMFILE),
                *reply);
      fds = std::vector<UniqueFd>();
    }
    if (reply->id() == 0) {
      break_connection("gobd at " + path_ + " refused the connection: " + reply->error().message());
      return {};
    }
    if (found == waiters_.end()) continue;  // the answer to a call that has given up
    found->second->answer = Answer{std::move(*reply), std::move(*fds)};
    found->second->wake.notify_one();
  }
}

// Nobody waits for the replies.
void ControlClient::give_back(std::unique_lock<std::mutex>& lock) {
  while (!unwanted_.empty() && !broken_) {
    control::Request request;
    request.set_id(next_id_++);
    request.mutable_unmap_container()->set_mapping_id(unwanted_.back());
    unwanted_.pop_back();
    wake_next_reader();
    lock.unlock();
    const Status sent = send(request, {});
    lock.lock();
    if (!sent.ok())
      break_connection("the connection to gobd at " + path_ + " failed: " + sent.error().message());
  }
}

void ControlClient::shut_down() {
  const std::lock_guard lock(mutex_);
  break_connection("this program closed its connection to gobd");
}

void ControlClient::break_connection(const std::string& why) {
  if (broken_) return;
  broken_ = why;
  ::shutdown(socket_.get(), SHUT_RDWR);  // wakes whoever reads
  for (const auto& [id, waiter] : waiters_) waiter->wake.notify_one();
}

void ControlClient::wake_next_reader() {
  if (reading_) return;
  // Those awake, such as one that still sends, look for themselves before they sleep.
  for (const auto& [id, waiter] : waiters_) {
    if (waiter->asleep) return waiter->wake.notify_one();
  }
}

}  // namespace gob
