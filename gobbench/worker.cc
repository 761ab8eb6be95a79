#include "gobbench/worker.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace gob::bench {
namespace {

constexpr std::size_t kMaxReplyBytes = std::size_t{64} << 20;
constexpr std::chrono::seconds kEndTimeout{5};

Status wait_readable(int fd, std::chrono::steady_clock::time_point deadline,
                     const std::string& who) {
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    pollfd entry{fd, POLLIN, 0};
    const int ready = left.count() <= 0 ? 0 : ::poll(&entry, 1, static_cast<int>(left.count()));
    if (ready > 0) return {};
    if (ready == 0) return make_error(ErrorCode::kTimedOut, who + " did not answer in time");
    if (errno != EINTR) return system_error("cannot wait for " + who);
  }
}

}  // namespace

Result<Worker> Worker::start(const ClusterNode& node) {
  // A socket pair rather than a pipe: writing to a dead worker is an error, not a SIGPIPE.
  std::array<int, 2> in{};
  std::array<int, 2> out{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in.data()) != 0)
    return system_error("cannot make a socket pair for a worker");
  UniqueFd to(in[0]);
  const UniqueFd worker_in(in[1]);
  if (::pipe2(out.data(), O_CLOEXEC) != 0) return system_error("cannot make a pipe for a worker");
  UniqueFd from(out[0]);
  const UniqueFd worker_out(out[1]);
  SpawnOptions options;
  options.argv = {"/proc/self/exe", "worker", "--socket", node.control_socket};
  options.stdin_fd = worker_in.get();
  options.stdout_fd = worker_out.get();
  options.netns_fd = node.netns_fd;
  options.cpu = node.cpu;
  Result<Process> process = Process::spawn(options);
  if (!process) return process.error();
  Worker worker(std::move(*process), std::move(to), std::move(from), node.name);
  // The first reply tells whether it could connect.
  if (Result<Json> connected = worker.receive(); !connected) return connected.error();
  return worker;
}

Status Worker::send(const Json& request) {
  const std::string line = request.dump() + "\n";
  for (std::size_t sent = 0; sent < line.size();) {
    const ssize_t n =
        ::send(to_worker_.get(), line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error("cannot speak to the worker on node " + node_);
    sent += static_cast<std::size_t>(n);
  }
  return {};
}

Result<Json> Worker::receive(std::chrono::milliseconds timeout) {
  const std::string who = "the worker on node " + node_;
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  std::size_t searched = 0;
  std::size_t end = 0;
  while ((end = buffer_.find('\n', searched)) == std::string::npos) {
    searched = buffer_.size();
    if (buffer_.size() > kMaxReplyBytes)
      return make_error(ErrorCode::kProtocol, who + " answered with too many bytes");
    if (Status s = wait_readable(from_worker_.get(), deadline, who); !s) return s.error();
    std::array<char, 65536> bytes{};
    const ssize_t got = ::read(from_worker_.get(), bytes.data(), bytes.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      const Status ended = process_.wait(kEndTimeout);
      return make_error(ErrorCode::kSystem,
                        who + " ended: " + (ended ? "exited with 0" : ended.error().message()));
    }
    buffer_.append(bytes.data(), static_cast<std::size_t>(got));
  }
  Json reply = Json::parse(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(end),
                           nullptr, false);
  buffer_.erase(0, end + 1);
  if (!reply.is_object()) return make_error(ErrorCode::kProtocol, who + " answered no JSON object");
  if (const auto error = reply.find("error"); error != reply.end())
    return make_error(ErrorCode::kSystem, "node " + node_ + ": " + error->get<std::string>());
  return reply;
}

Result<Json> Worker::call(const Json& request) {
  if (Status s = send(request); !s) return s.error();
  return receive();
}

Result<std::vector<Worker>> start_workers(const Cluster& cluster, unsigned count) {
  std::vector<Worker> workers;
  for (unsigned n = 0; n < count; ++n) {
    Result<Worker> worker = Worker::start(cluster.nodes()[n]);
    if (!worker) return worker.error();
    workers.push_back(std::move(*worker));
  }
  return workers;
}

Result<std::vector<Json>> call_all(std::vector<Worker>& workers,
                                   const std::vector<Json>& requests) {
  for (std::size_t i = 0; i < requests.size(); ++i)
    if (Status s = workers[i].send(requests[i]); !s) return s.error();
  std::vector<Json> replies(requests.size());
  std::vector<pollfd> waiting;
  for (std::size_t i = 0; i < requests.size(); ++i)
    waiting.push_back({workers[i].reply_fd(), POLLIN, 0});
  const auto timeout = static_cast<int>(std::chrono::milliseconds(kRequestTimeout).count());
  for (std::size_t left = requests.size(); left > 0;) {
    const int ready = ::poll(waiting.data(), waiting.size(), timeout);
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return system_error("cannot wait for the workers");
    if (ready == 0) return make_error(ErrorCode::kTimedOut, "the workers did not end in time");
    for (std::size_t i = 0; i < waiting.size(); ++i) {
      if (waiting[i].revents == 0) continue;
      Result<Json> reply = workers[i].receive();
      if (!reply) return reply.error();
      replies[i] = std::move(*reply);
      waiting[i].fd = -1;  // poll() passes over it
      --left;
    }
  }
  return replies;
}

}  // namespace gob::bench
