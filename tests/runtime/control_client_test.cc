#include "libgob/runtime/control_client.h"

#include <sys/stat.h>

#include <atomic>

#include "tests/runtime/control_fixture.h"

namespace gob {
namespace {

using std::chrono::milliseconds;
using test::ServerThread;
using test::TempDir;

control::Request barrier_request(const std::string& name) {
  control::Request request;
  request.mutable_barrier()->set_name(name);
  return request;
}
control::Request open_request(const std::string& name) {
  control::Request request;
  request.mutable_open_container()->set_name(name);
  return request;
}

class ControlClientTest : public ::testing::Test {
 protected:
  ControlServerOptions options() {
    ControlServerOptions options;
    options.path = path_;
    return options;
  }
  std::unique_ptr<ControlClient> connect() {
    auto client = ControlClient::connect(path_, "test");
    EXPECT_TRUE(client.ok()) << client.error().message();
    return client.ok() ? std::move(*client) : nullptr;
  }
  const TempDir dir_;
  const std::string path_ = dir_.file("gobd.sock");
};

TEST_F(ControlClientTest, WithoutAServerItSaysWhatToDo) {
  auto client = ControlClient::connect(path_, "test");
  ASSERT_FALSE(client.ok());
  EXPECT_EQ(client.error().errno_value, ENOENT);
  EXPECT_NE(client.error().message().find("gobctl cluster up"), std::string::npos);
  EXPECT_NE(client.error().message().find(path_), std::string::npos);
}

TEST_F(ControlClientTest, ADeadServersSocketIsToldFromAMissingOne) {
  {
    const auto address = unix_address(path_);
    UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address), 0);
  }
  auto client = ControlClient::connect(path_, "test");
  ASSERT_FALSE(client.ok());
  EXPECT_EQ(client.error().errno_value, ECONNREFUSED);
  EXPECT_NE(client.error().message().find("no gobd listens"), std::string::npos);
}

TEST_F(ControlClientTest, RepliesBringTheirDescriptorsAndRequestsToo) {
  ServerThread server(options());
  auto client = connect();
  EXPECT_EQ(client->hello().node_name(), "alpha");
  control::Request map;
  map.mutable_map_container()->set_container_id(1);
  auto answer = client->call(map);
  ASSERT_TRUE(answer.ok()) << answer.error().message();
  EXPECT_EQ(answer->reply.map_container().mapping_id(), 7u);
  ASSERT_EQ(answer->fds.size(), 1u);
  char text[6] = {};
  ASSERT_EQ(::read(answer->fds[0].get(), text, sizeof text), 6);
  EXPECT_EQ(std::string(text, 6), "frames");

  int ends[2] = {-1, -1};
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  control::Request ready;
  ready.mutable_mapping_ready()->set_mapping_id(7);
  const int fds[] = {write_end.get()};
  ASSERT_TRUE(client->call(ready, fds).ok());
  ASSERT_EQ(::read(read_end.get(), text, 1), 1);
  EXPECT_EQ(text[0], '!');
}

TEST_F(ControlClientTest, ErrorsOfTheServerComeBackAsGiven) {
  ServerThread server(options());
  auto client = connect();
  control::Request remove;
  remove.mutable_remove_container()->set_name("x");
  auto answer = client->call(remove);
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().code, ErrorCode::kPermissionDenied);
  EXPECT_EQ(answer.error().errno_value, EPERM);
  EXPECT_EQ(answer.error().context, "removing \"x\" is for its owner");
}

TEST_F(ControlClientTest, ManyThreadsCallAtOnceWhileOthersWait) {
  ServerThread server(options());
  auto client = connect();
  constexpr int kWaiting = 8;
  constexpr int kBusy = 4;
  constexpr int kRounds = 500;
  std::atomic<int> released = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kWaiting; ++i) {
    threads.emplace_back([&] {
      EXPECT_TRUE(client->call(barrier_request("b"), {}, ControlClient::kForever).ok());
      ++released;
    });
  }
  ASSERT_TRUE(server.wait_until([&] { return server.handler().parked.size() == kWaiting; }));
  std::vector<std::thread> busy;
  for (int i = 0; i < kBusy; ++i) {
    busy.emplace_back([&, i] {
      for (int round = 0; round < kRounds; ++round) {
        const std::string name = std::to_string(i) + "/" + std::to_string(round);
        auto answer = client->call(open_request(name));
        ASSERT_TRUE(answer.ok()) << answer.error().message();
        ASSERT_EQ(answer->reply.container().container().name(), name);
      }
    });
  }
  for (auto& thread : busy) thread.join();
  EXPECT_EQ(released, 0);
  server.on_server([&] {
    for (auto& [id, responder] : server.handler().parked) responder.done();
    server.handler().parked.clear();
  });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(released, kWaiting);
}

TEST_F(ControlClientTest, ACallThatTimesOutLeavesTheConnectionUsable) {
  ServerThread server(options());
  auto client = connect();
  auto late = client->call(barrier_request("b"), {}, milliseconds(30));
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().code, ErrorCode::kTimedOut);
  // Its reply comes after all and concerns nobody.
  ASSERT_TRUE(server.wait_until([&] { return server.handler().parked.size() == 1; }));
  server.on_server([&] {
    server.handler().parked.front().second.done();
    server.handler().parked.clear();
  });
  auto answer = client->call(open_request("next"));
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->reply.container().container().name(), "next");
}

TEST_F(ControlClientTest, WhenTheReadingCallEndsAnotherReads) {
  ServerThread server(options());
  auto client = connect();
  std::thread short_one(
      [&] { EXPECT_FALSE(client->call(barrier_request("short"), {}, milliseconds(50)).ok()); });
  ASSERT_TRUE(server.wait_until([&] { return server.handler().parked.size() == 1; }));
  std::thread long_one([&] {
    EXPECT_TRUE(client->call(barrier_request("long"), {}, ControlClient::kForever).ok());
  });
  ASSERT_TRUE(server.wait_until([&] { return server.handler().parked.size() == 2; }));
  short_one.join();
  server.on_server([&] {
    for (auto& [id, responder] : server.handler().parked) responder.done();
    server.handler().parked.clear();
  });
  long_one.join();
}

TEST_F(ControlClientTest, TheServersEndEndsEveryCall) {
  auto server = std::make_unique<ServerThread>(options());
  auto client = connect();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      auto answer = client->call(barrier_request("b"), {}, ControlClient::kForever);
      ASSERT_FALSE(answer.ok());
      EXPECT_EQ(answer.error().code, ErrorCode::kUnavailable);
      EXPECT_EQ(answer.error().errno_value, ENOTCONN);
      EXPECT_NE(answer.error().message().find("alpha"), std::string::npos);
    });
  }
  ASSERT_TRUE(server->wait_until([&] { return server->handler().parked.size() == 4; }));
  server.reset();
  for (auto& thread : threads) thread.join();
  auto after = client->call(open_request("x"));
  ASSERT_FALSE(after.ok());
  EXPECT_EQ(after.error().errno_value, ENOTCONN);
}

TEST_F(ControlClientTest, ShutDownEndsEveryCall) {
  ServerThread server(options());
  auto client = connect();
  std::thread waiting([&] {
    auto answer = client->call(barrier_request("b"), {}, ControlClient::kForever);
    ASSERT_FALSE(answer.ok());
    EXPECT_EQ(answer.error().errno_value, ENOTCONN);
  });
  ASSERT_TRUE(server.wait_until([&] { return server.handler().parked.size() == 1; }));
  client->shut_down();
  waiting.join();
  EXPECT_TRUE(server.wait_until([&] { return server.handler().disconnected.size() == 1; }));
}

TEST_F(ControlClientTest, ARequestTooLargeToSendHarmsNothing) {
  ServerThread server(options());
  auto client = connect();
  auto refused = client->call(open_request(std::string(kMaxControlRequestBytes, 'x')));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().errno_value, EMSGSIZE);
  EXPECT_TRUE(client->call(open_request("x")).ok());
}

TEST_F(ControlClientTest, AServerThatTalksNonsenseIsLeft) {
  const auto address = unix_address(path_);
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address),
            0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  std::thread nonsense([&] {
    const UniqueFd socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    EXPECT_EQ(::send(socket.get(), "\xff\xff\xff\xff", 4, MSG_NOSIGNAL), 4);
    test::read_to_end(socket.get());
  });
  auto client = ControlClient::connect(path_, "test");
  ASSERT_FALSE(client.ok());
  EXPECT_NE(client.error().message().find("makes no sense"), std::string::npos);
  nonsense.join();
}

// A gobd with one client: answers each request with a body that fits, and one to map a container
// with a descriptor; `late`: not before another request comes.
class OneClientServer {
 public:
  explicit OneClientServer(const std::string& path, bool late = false) {
    const auto address = unix_address(path);
    listener_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(
        ::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address), 0);
    EXPECT_EQ(::listen(listener_.get(), 1), 0);
    thread_ = std::thread([this, late] { answer_all(late); });
  }
  ~OneClientServer() {
    if (!thread_.joinable()) return;
    ::shutdown(listener_.get(), SHUT_RDWR);  // nobody came
    thread_.join();
  }
  OneClientServer(const OneClientServer&) = delete;
  OneClientServer& operator=(const OneClientServer&) = delete;

  // The mappings that the client gave back, once it has gone.
  std::vector<std::uint64_t> unmapped() {
    thread_.join();
    return unmapped_;
  }

 private:
  void answer_all(bool late) {
    const UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    FrameReader reader(kMaxControlRequestBytes);
    std::vector<control::Reply> waiting;
    char buffer[4096];
    for (ssize_t got = 0; (got = ::recv(socket.get(), buffer, sizeof buffer, 0)) > 0;) {
      reader.append({buffer, static_cast<std::size_t>(got)});
      for (auto next = reader.next(); next.ok() && next->has_value(); next = reader.next()) {
        const auto request = parse_request(**next);
        ASSERT_TRUE(request.ok());
        control::Reply reply;
        reply.set_id(request->id());
        if (request->has_hello()) reply.mutable_hello()->set_protocol_version(kControlVersion);
        if (request->has_map_container()) {
          reply.set_fds(1);
          reply.mutable_map_container()->set_mapping_id(++last_mapping_);
        }
        if (request->has_unmap_container())
          unmapped_.push_back(request->unmap_container().mapping_id());
        waiting.push_back(std::move(reply));
        if (late && request->has_map_container()) continue;
        for (const control::Reply& each : waiting) say(socket.get(), each);
        waiting.clear();
      }
    }
  }
  static void say(int socket, const control::Reply& reply) {
    std::string bytes;
    ASSERT_TRUE(append_frame(reply, kMaxControlReplyBytes, bytes).ok());
    const std::vector<int> fds(reply.fds(), socket);
    // It may have gone: for the answer to what it gave back nobody waits.
    static_cast<void>(send_some(socket, bytes, fds, /*wait=*/true).ok());
  }

  UniqueFd listener_;
  std::uint64_t last_mapping_ = 0;
  std::vector<std::uint64_t> unmapped_;
  std::thread thread_;
};

control::Request map_request() {
  control::Request map;
  map.mutable_map_container();
  return map;
}

TEST_F(ControlClientTest, AnAnswerForWhoseDescriptorThereIsNoRoomFailsAndOthersCome) {
  OneClientServer server(path_);
  auto client = connect();
  {
    const test::NoRoom none;
    const auto mapped = client->call(map_request());
    ASSERT_FALSE(mapped.ok());
    EXPECT_EQ(mapped.error().errno_value, EMFILE);
    EXPECT_NE(mapped.error().message().find("raise its limit"), std::string::npos);
    EXPECT_TRUE(client->call(open_request("x")).ok());
  }
  const auto mapped = client->call(map_request());
  ASSERT_TRUE(mapped.ok()) << mapped.error().message();
  EXPECT_EQ(mapped->fds.size(), 1u);
  EXPECT_EQ(mapped->reply.map_container().mapping_id(), 2u);
  client.reset();
  EXPECT_EQ(server.unmapped(), std::vector<std::uint64_t>{1});
}

TEST_F(ControlClientTest, AMappingThatComesWhenNobodyWaitsAnyMoreIsGivenBack) {
  OneClientServer server(path_, /*late=*/true);
  auto client = connect();
  const auto late = client->call(map_request(), {}, milliseconds(1));
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().code, ErrorCode::kTimedOut);
  EXPECT_TRUE(client->call(open_request("x")).ok());
  client.reset();
  EXPECT_EQ(server.unmapped(), std::vector<std::uint64_t>{1});
}

TEST_F(ControlClientTest, ASilentServerIsGivenUp) {
  const auto address = unix_address(path_);
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address),
            0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  auto client = ControlClient::connect(path_, "test", milliseconds(50));
  ASSERT_FALSE(client.ok());
  EXPECT_EQ(client.error().code, ErrorCode::kTimedOut);
}

}  // namespace
}  // namespace gob
