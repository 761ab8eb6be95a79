// A control server on a thread of its own, and a handler that tests script. The handler runs on
// that thread; tests hand it functions before or post them to it.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <deque>
#include <filesystem>
#include <functional>
#include <future>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "libgob/runtime/control_client.h"
#include "libgob/runtime/control_server.h"
#include "libgob/runtime/control_socket.h"

namespace gob::test {

class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "gob-control-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// As long as it lives, this process gets no file descriptor more: a new one has the lowest number
// that is free, which must be below the limit.
class NoRoom {
 public:
  NoRoom() {
    const UniqueFd lowest(::dup(0));
    EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &before_), 0);
    const rlimit none{static_cast<rlim_t>(lowest.get()), before_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  }
  ~NoRoom() { EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &before_), 0); }
  NoRoom(const NoRoom&) = delete;
  NoRoom& operator=(const NoRoom&) = delete;

 private:
  rlimit before_{};
};

// Answers hello; parks requests for Barrier until release(); echoes the name of an opened
// container; gives list_containers `listed` entries; map_container returns the read end of a pipe.
class ScriptedHandler : public ControlHandler {
 public:
  void on_request(ClientId client, const PeerCredentials& peer, const control::Request& request,
                  std::vector<UniqueFd> fds, Responder responder) override {
    last_peer = peer;
    ++requests;
    control::Reply reply;
    switch (request.body_case()) {
      case control::Request::kHello:
        reply.mutable_hello()->set_protocol_version(kControlVersion);
        reply.mutable_hello()->set_node_name("alpha");
        return responder.reply(std::move(reply));
      case control::Request::kBarrier:
        parked.push_back({client, std::move(responder)});
        return;
      case control::Request::kOpenContainer:
        reply.mutable_container()->mutable_container()->set_name(request.open_container().name());
        return responder.reply(std::move(reply));
      case control::Request::kListContainers:
        for (std::size_t i = 0; i < listed; ++i) {
          reply.mutable_list_containers()->add_containers()->set_name(std::string(100, 'n'));
        }
        return responder.reply(std::move(reply));
      case control::Request::kMappingReady: {
        // Says whether the descriptor works: writes into it.
        if (fds.size() != 1 || ::write(fds[0].get(), "!", 1) != 1) {
          return responder.fail(make_error(ErrorCode::kInvalidArgument, "no usable descriptor"));
        }
        return responder.done();
      }
      case control::Request::kMapContainer: {
        int ends[2] = {-1, -1};
        if (::pipe2(ends, O_CLOEXEC) != 0) return responder.fail(system_error("pipe"));
        UniqueFd write_end(ends[1]);
        (void)!::write(write_end.get(), "frames", 6);
        std::vector<UniqueFd> out;
        out.emplace_back(ends[0]);
        reply.mutable_map_container()->set_mapping_id(7);
        return responder.reply(std::move(reply), std::move(out));
      }
      case control::Request::kRemoveContainer:
        return responder.fail(
            make_error(ErrorCode::kPermissionDenied, "removing \"x\" is for its owner", EPERM));
      case control::Request::kUnmapContainer:
        return;  // forgets the responder
      default:
        return responder.fail(make_error(ErrorCode::kUnsupported, "unknown request"));
    }
  }
  void on_disconnect(ClientId client) override {
    std::erase_if(parked, [&](const auto& waiting) { return waiting.first == client; });
    disconnected.push_back(client);
  }

  PeerCredentials last_peer;
  std::size_t requests = 0;
  std::size_t listed = 3;
  std::vector<std::pair<ClientId, Responder>> parked;
  std::vector<ClientId> disconnected;
};

class ServerThread {
 public:
  explicit ServerThread(ControlServerOptions options) : wake_(::eventfd(0, EFD_CLOEXEC)) {
    auto server = ControlServer::listen(std::move(options), handler_);
    if (!server.ok()) {
      ADD_FAILURE() << server.error().message();
      return;
    }
    server_ = std::move(*server);
    thread_ = std::thread([this] { run(); });
  }
  ~ServerThread() { stop(); }

  void stop() {
    if (!thread_.joinable()) return;
    on_server([this] { stop_ = true; });
    thread_.join();
    server_.reset();
  }

  // Runs `f` on the server's thread and returns what it returns.
  template <class F>
  auto on_server(F f) -> decltype(f()) {
    std::packaged_task<decltype(f())()> task(std::move(f));
    auto result = task.get_future();
    {
      const std::lock_guard lock(mutex_);
      tasks_.emplace_back([&task] { task(); });
    }
    ::eventfd_write(wake_.get(), 1);
    return result.get();
  }

  // Waits until `condition`, evaluated on the server's thread after each poll(), holds.
  bool wait_until(const std::function<bool()>& condition) {
    std::promise<void> reached;
    auto future = reached.get_future();
    on_server([&] { conditions_.push_back({condition, &reached}); });
    const bool ok = future.wait_for(std::chrono::seconds(20)) == std::future_status::ready;
    if (!ok) on_server([&] { conditions_.clear(); });
    return ok;
  }

  ScriptedHandler& handler() { return handler_; }  // on the server's thread
  ControlServer& server() { return *server_; }     // on the server's thread

 private:
  void run() {
    while (!stop_) {
      pollfd fds[2] = {{server_->fd(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
      ::poll(fds, 2, -1);
      if (fds[1].revents != 0) {
        eventfd_t ignored = 0;
        ::eventfd_read(wake_.get(), &ignored);
        std::deque<std::function<void()>> tasks;
        {
          const std::lock_guard lock(mutex_);
          tasks.swap(tasks_);
        }
        for (auto& task : tasks) task();
      }
      server_->poll();
      std::erase_if(conditions_, [](auto& waiting) {
        if (!waiting.first()) return false;
        waiting.second->set_value();
        return true;
      });
    }
  }

  ScriptedHandler handler_;
  std::unique_ptr<ControlServer> server_;
  UniqueFd wake_;
  std::mutex mutex_;
  std::deque<std::function<void()>> tasks_;
  std::vector<std::pair<std::function<bool()>, std::promise<void>*>> conditions_;
  bool stop_ = false;
  std::thread thread_;
};

// A bare connection, for saying what ControlClient never would.
inline UniqueFd raw_connection(const std::string& path) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto address = unix_address(path);
  EXPECT_TRUE(address.ok());
  EXPECT_EQ(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address),
            0);
  return socket;
}

inline std::string framed(const control::Request& request) {
  std::string bytes;
  EXPECT_TRUE(append_frame(request, kMaxControlReplyBytes, bytes).ok());
  return bytes;
}

inline control::Request hello_request() {
  control::Request request;
  request.set_id(1);
  request.mutable_hello()->set_protocol_version(kControlVersion);
  return request;
}

// Blocks until the other side closes; what it sent before is returned.
inline std::string read_to_end(int socket) {
  std::string all;
  char buffer[4096];
  for (ssize_t got = 0; (got = ::recv(socket, buffer, sizeof buffer, 0)) > 0;) {
    all.append(buffer, static_cast<std::size_t>(got));
  }
  return all;
}

// Reads until `count` replies have come or the connection ends.
inline std::vector<control::Reply> read_replies(int socket, std::size_t count) {
  FrameReader reader(kMaxControlReplyBytes);
  std::vector<control::Reply> replies;
  std::vector<char> buffer(64 << 10);
  while (replies.size() < count) {
    auto next = reader.next();
    EXPECT_TRUE(next.ok());
    if (!next.ok()) break;
    if (next->has_value()) {
      auto reply = parse_reply(**next);
      EXPECT_TRUE(reply.ok());
      if (reply.ok()) replies.push_back(std::move(*reply));
      continue;
    }
    const ssize_t got = ::recv(socket, buffer.data(), buffer.size(), 0);
    if (got <= 0) break;
    reader.append({buffer.data(), static_cast<std::size_t>(got)});
  }
  return replies;
}

}  // namespace gob::test
