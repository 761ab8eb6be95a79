#include "libgob/runtime/control_server.h"

#include <dirent.h>
#include <grp.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <sstream>

#include "tests/runtime/control_fixture.h"

namespace gob {
namespace {

using test::framed;
using test::hello_request;
using test::raw_connection;
using test::read_replies;
using test::read_to_end;
using test::ServerThread;
using test::TempDir;

std::size_t open_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
    ++count;
  return count;
}

void send_all(int socket, const std::string& bytes, std::vector<int> fds = {}) {
  auto sent = send_some(socket, bytes, fds, /*wait=*/true);
  ASSERT_TRUE(sent.ok()) << sent.error().message();
  ASSERT_EQ(*sent, bytes.size());
}

class ControlServerTest : public ::testing::Test {
 protected:
  ControlServerTest() {
    auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(log_);
    old_logger_ = spdlog::default_logger();
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("test", sink));
  }
  ~ControlServerTest() override { spdlog::set_default_logger(old_logger_); }

  ControlServerOptions options() {
    ControlServerOptions options;
    options.path = path_;
    return options;
  }
  std::size_t log_lines() {
    const std::string text = log_.str();
    return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
  }
  // Sends `bytes` on a connection that said hello and expects it to be closed with one log line
  // that contains `reason`.
  void expect_closed(const std::string& bytes, const std::string& reason,
                     std::vector<int> fds = {}) {
    ServerThread server(options());
    const UniqueFd other = raw_connection(path_);
    const UniqueFd socket = raw_connection(path_);
    send_all(other.get(), framed(hello_request()));
    send_all(socket.get(), framed(hello_request()));
    send_all(socket.get(), bytes, std::move(fds));
    read_to_end(socket.get());
    EXPECT_TRUE(server.wait_until([&] { return server.server().connections() == 1; }));
    EXPECT_EQ(server.on_server([&] { return server.handler().disconnected.size(); }), 1u);
    EXPECT_EQ(log_lines(), 1u) << log_.str();
    EXPECT_NE(log_.str().find(reason), std::string::npos) << log_.str();
  }

  const TempDir dir_;
  const std::string path_ = dir_.file("gobd.sock");
  std::ostringstream log_;
  std::shared_ptr<spdlog::logger> old_logger_;
};

TEST_F(ControlServerTest, ManyRequestsInOneSegmentAreAnsweredInAnyOrder) {
  ServerThread server(options());
  const UniqueFd socket = raw_connection(path_);
  std::string bytes = framed(hello_request());
  for (std::uint64_t id = 2; id < 200; ++id) {
    control::Request request;
    request.set_id(id);
    if (id % 2 == 0) {
      request.mutable_barrier()->set_name("b");
    } else {
      request.mutable_open_container()->set_name(std::to_string(id));
    }
    bytes += framed(request);
  }
  send_all(socket.get(), bytes);
  ASSERT_TRUE(server.wait_until([&] { return server.handler().parked.size() == 99; }));
  server.on_server([&] {
    while (!server.handler().parked.empty()) {
      Responder responder = std::move(server.handler().parked.back().second);
      server.handler().parked.pop_back();
      responder.done();
    }
  });
  const auto replies = read_replies(socket.get(), 199);
  ASSERT_EQ(replies.size(), 199u);
  EXPECT_EQ(replies.front().id(), 1u);
  EXPECT_EQ(replies.back().id(), 2u) << "parked first, answered last";
}

TEST_F(ControlServerTest, CredentialsAreTheKernels) {
  ServerThread server(options());
  auto client = ControlClient::connect(path_, "test");
  ASSERT_TRUE(client.ok()) << client.error().message();
  const PeerCredentials peer = server.on_server([&] { return server.handler().last_peer; });
  EXPECT_EQ(peer.uid, ::getuid());
  EXPECT_EQ(peer.gid, ::getgid());
  EXPECT_EQ(peer.pid, ::getpid());
  EXPECT_TRUE(peer.in_group(::getgid()));
}

TEST_F(ControlServerTest, SupplementaryGroupsAreSeenEvenWhenThereAreMany) {
  if (::geteuid() != 0) {
    // Only root may set groups; without it the group list is this process's own.
    ServerThread server(options());
    auto client = ControlClient::connect(path_, "test");
    ASSERT_TRUE(client.ok());
    const PeerCredentials peer = server.on_server([&] { return server.handler().last_peer; });
    EXPECT_EQ(static_cast<int>(peer.groups.size()), ::getgroups(0, nullptr));
    return;
  }
  ServerThread server(options());
  const pid_t child = ::fork();
  if (child == 0) {
    std::vector<gid_t> groups;
    for (gid_t group = 5000; group < 5100; ++group) groups.push_back(group);
    if (::setgroups(groups.size(), groups.data()) != 0) ::_exit(2);
    const UniqueFd socket = raw_connection(path_);
    const std::string bytes = framed(hello_request());
    if (::write(socket.get(), bytes.data(), bytes.size()) < 0) ::_exit(3);
    char byte = 0;
    ::_exit(::read(socket.get(), &byte, 1) == 1 ? 0 : 4);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  const PeerCredentials peer = server.on_server([&] { return server.handler().last_peer; });
  EXPECT_EQ(peer.pid, child);
  EXPECT_EQ(peer.groups.size(), 100u);
  EXPECT_TRUE(peer.in_group(5099));
  EXPECT_FALSE(peer.in_group(5100));
}

TEST_F(ControlServerTest, HostileLengthClosesOnlyThatConnection) {
  expect_closed(std::string("\xff\xff\xff\xff garbage", 12), "announced");
}
TEST_F(ControlServerTest, GarbageInAFrameClosesOnlyThatConnection) {
  expect_closed(std::string("\x04\0\0\0\xff\xff\xff\xff", 8), "make no sense");
}
TEST_F(ControlServerTest, ARequestWithoutIdClosesTheConnection) {
  expect_closed(std::string("\0\0\0\0", 4), "no id");
}
TEST_F(ControlServerTest, AnnouncedDescriptorsThatDoNotComeCloseTheConnection) {
  control::Request request;
  request.set_id(5);
  request.set_fds(1);
  request.mutable_mapping_ready();
  expect_closed(framed(request), "1 descriptors");
}
TEST_F(ControlServerTest, DescriptorsNobodyAnnouncedAreClosedWithTheConnection) {
  const std::size_t before = open_descriptors();
  control::Request request;
  request.set_id(5);
  request.mutable_list_containers();
  const std::string bytes = framed(request) + framed(request);
  {
    ServerThread server(options());
    const UniqueFd socket = raw_connection(path_);
    send_all(socket.get(), framed(hello_request()));
    for (int i = 0; i < 2; ++i) {
      auto sent = send_some(socket.get(), bytes, std::vector<int>{0, 0, 0, 0}, /*wait=*/true);
      if (!sent.ok()) break;  // it may be closed after the first
    }
    read_to_end(socket.get());
  }
  EXPECT_EQ(open_descriptors(), before);
  EXPECT_NE(log_.str().find("descriptors came that no request announces"), std::string::npos)
      << log_.str();
}

TEST_F(ControlServerTest, MoreDescriptorsThanAMessageMayCarryCloseTheConnection) {
  const std::size_t before = open_descriptors();
  {
    ServerThread server(options());
    const UniqueFd socket = raw_connection(path_);
    std::string bytes = framed(hello_request());
    iovec part{bytes.data(), bytes.size()};
    std::vector<int> fds(40, 0);
    std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
    ASSERT_GT(::sendmsg(socket.get(), &message, 0), 0);
    EXPECT_EQ(read_to_end(socket.get()), "");
  }
  EXPECT_EQ(open_descriptors(), before);
}

TEST_F(ControlServerTest, TheFirstRequestMustBeHello) {
  ServerThread server(options());
  const UniqueFd socket = raw_connection(path_);
  control::Request request;
  request.set_id(1);
  request.mutable_list_containers();
  send_all(socket.get(), framed(request));
  EXPECT_EQ(read_to_end(socket.get()), "");
  EXPECT_EQ(server.on_server([&] { return server.handler().requests; }), 0u);
  EXPECT_EQ(server.on_server([&] { return server.handler().disconnected.size(); }), 0u);
}

TEST_F(ControlServerTest, AnotherProtocolVersionIsRefusedInWordsThenClosed) {
  ServerThread server(options());
  const UniqueFd socket = raw_connection(path_);
  control::Request request = hello_request();
  request.mutable_hello()->set_protocol_version(kControlVersion + 1);
  send_all(socket.get(), framed(request));
  const auto replies = read_replies(socket.get(), 2);
  ASSERT_EQ(replies.size(), 1u) << "one reply, then the end";
  EXPECT_EQ(replies[0].error().errno_value(), EPROTONOSUPPORT);
  EXPECT_NE(replies[0].error().message().find("same release"), std::string::npos);
  EXPECT_EQ(log_lines(), 0u) << log_.str();
}

TEST_F(ControlServerTest, AKilledClientIsNoticedWithoutALogLine) {
  ServerThread server(options());
  const pid_t child = ::fork();
  if (child == 0) {
    const UniqueFd socket = raw_connection(path_);
    control::Request request;
    request.set_id(2);
    request.mutable_barrier()->set_name("b");
    const std::string bytes = framed(hello_request()) + framed(request);
    if (::write(socket.get(), bytes.data(), bytes.size()) < 0) ::_exit(3);
    ::pause();
  }
  EXPECT_TRUE(server.wait_until([&] { return server.handler().parked.size() == 1; }));
  ::kill(child, SIGKILL);
  EXPECT_TRUE(server.wait_until([&] { return server.handler().disconnected.size() == 1; }));
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(log_lines(), 0u) << log_.str();
  EXPECT_EQ(server.on_server([&] { return server.server().connections(); }), 0u);
}

TEST_F(ControlServerTest, ConnectionsOverTheLimitAreToldSo) {
  auto limited = options();
  limited.max_connections = 2;
  ServerThread server(limited);
  auto first = ControlClient::connect(path_, "1");
  auto second = ControlClient::connect(path_, "2");
  ASSERT_TRUE(first.ok());
  ASSERT_TRUE(second.ok());
  auto third = ControlClient::connect(path_, "3");
  ASSERT_FALSE(third.ok());
  EXPECT_NE(third.error().message().find("already serves 2 connections"), std::string::npos)
      << third.error().message();
  second->reset();
  ASSERT_TRUE(server.wait_until([&] { return server.server().connections() == 1; }));
  EXPECT_TRUE(ControlClient::connect(path_, "4").ok());
}

TEST_F(ControlServerTest, RequestsOverTheInFlightLimitAreRefusedAndTheOthersGoOn) {
  auto limited = options();
  limited.max_in_flight = 3;
  ServerThread server(limited);
  const UniqueFd socket = raw_connection(path_);
  std::string bytes = framed(hello_request());
  for (std::uint64_t id = 2; id < 7; ++id) {
    control::Request request;
    request.set_id(id);
    request.mutable_barrier()->set_name("b");
    bytes += framed(request);
  }
  send_all(socket.get(), bytes);
  ASSERT_TRUE(server.wait_until([&] { return server.handler().parked.size() == 3; }));
  server.on_server([&] {
    for (auto& [client, responder] : server.handler().parked) responder.done();
    server.handler().parked.clear();
  });
  const auto replies = read_replies(socket.get(), 6);
  ASSERT_EQ(replies.size(), 6u);
  std::size_t refused = 0;
  for (const auto& reply : replies) refused += reply.error().errno_value() == EAGAIN ? 1 : 0;
  EXPECT_EQ(refused, 2u);
}

TEST_F(ControlServerTest, AClientThatDoesNotReadIsHeldBackAndLosesNothing) {
  ServerThread server(options());
  server.on_server([&] { server.handler().listed = 1000; });  // replies of about 100 KB
  const UniqueFd socket = raw_connection(path_);
  std::string bytes = framed(hello_request());
  constexpr std::size_t kRequests = 500;  // 50 MB of replies
  for (std::uint64_t id = 2; id < 2 + kRequests; ++id) {
    control::Request request;
    request.set_id(id);
    request.mutable_list_containers();
    bytes += framed(request);
  }
  send_all(socket.get(), bytes);
  ASSERT_TRUE(server.wait_until([&] { return server.handler().requests > 1; }));
  EXPECT_LT(server.on_server([&] { return server.handler().requests; }), kRequests / 2);
  EXPECT_EQ(read_replies(socket.get(), kRequests + 1).size(), kRequests + 1);
}

TEST_F(ControlServerTest, AnAnswerTooLargeForAMessageBecomesAnError) {
  ServerThread server(options());
  server.on_server([&] { server.handler().listed = 200'000; });
  auto client = ControlClient::connect(path_, "test");
  ASSERT_TRUE(client.ok());
  control::Request request;
  request.mutable_list_containers();
  auto answer = (*client)->call(request);
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().errno_value, EMSGSIZE);
}

TEST_F(ControlServerTest, WithoutDescriptorsLeftConnectionsAreRefusedNotQueued) {
  ServerThread server(options());
  const UniqueFd warm = raw_connection(path_);
  send_all(warm.get(), framed(hello_request()));
  ASSERT_TRUE(server.wait_until([&] { return server.server().connections() == 1; }));
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &old), 0);
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const rlimit tight{static_cast<rlim_t>(socket.get()) + 1, old.rlim_max};
  std::vector<UniqueFd> holes;  // every number below the limit is taken
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
  for (int fd = ::dup(0); fd >= 0; fd = ::dup(0)) holes.emplace_back(fd);
  const auto address = unix_address(path_);
  ASSERT_EQ(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address),
            0);
  const auto replies = read_replies(socket.get(), 1);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &old), 0);
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(replies[0].error().errno_value(), EMFILE);
}

TEST_F(ControlServerTest, WithoutRoomForADescriptorItsRequestIsRefusedAndTheConnectionGoesOn) {
  ServerThread server(options());
  const UniqueFd socket = raw_connection(path_);
  send_all(socket.get(), framed(hello_request()));
  EXPECT_EQ(read_replies(socket.get(), 1).size(), 1u);
  control::Request ready, list;
  ready.set_fds(1);
  ready.mutable_mapping_ready();
  list.mutable_list_containers();
  const auto ask = [&](control::Request& request, std::uint64_t id, std::vector<int> fds) {
    request.set_id(id);
    send_all(socket.get(), framed(request), std::move(fds));
  };
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd out(ends[0]), in(ends[1]);
  const std::size_t before = open_descriptors();
  std::vector<control::Reply> replies;
  {
    const test::NoRoom none;
    ask(ready, 2, {in.get()});
    ask(ready, 3, {in.get()});
    ask(list, 4, {});
    replies = read_replies(socket.get(), 3);
  }
  ASSERT_EQ(replies.size(), 3u) << log_.str();
  for (const std::size_t refused : {0u, 1u}) {
    EXPECT_EQ(replies[refused].id(), 2 + refused);
    EXPECT_EQ(replies[refused].error().errno_value(), EMFILE);
    EXPECT_NE(replies[refused].error().message().find("limit of open files"), std::string::npos);
  }
  EXPECT_EQ(replies[2].list_containers().containers_size(), 3);
  ask(ready, 5, {in.get()});
  replies = read_replies(socket.get(), 1);
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_FALSE(replies[0].has_error()) << replies[0].error().message();
  EXPECT_EQ(server.on_server([&] { return server.handler().requests; }), 3u)
      << "hello, list, ready";
  EXPECT_EQ(open_descriptors(), before);
  EXPECT_EQ(log_lines(), 0u) << log_.str();
}

TEST_F(ControlServerTest, RespondersMayOutliveClientAndServer) {
  std::vector<std::pair<ClientId, Responder>> kept;
  {
    ServerThread server(options());
    const UniqueFd socket = raw_connection(path_);
    control::Request request;
    request.set_id(2);
    request.mutable_barrier()->set_name("b");
    send_all(socket.get(), framed(hello_request()) + framed(request));
    ASSERT_TRUE(server.wait_until([&] { return server.handler().parked.size() == 1; }));
    server.on_server([&] { kept = std::move(server.handler().parked); });
    ::shutdown(socket.get(), SHUT_RDWR);
    ASSERT_TRUE(server.wait_until([&] { return server.handler().disconnected.size() == 1; }));
  }
  kept.front().second.done();
}

TEST_F(ControlServerTest, ARequestThatIsForgottenIsAnsweredWithAnError) {
  ServerThread server(options());
  auto client = ControlClient::connect(path_, "test");
  ASSERT_TRUE(client.ok());
  control::Request request;
  request.mutable_unmap_container()->set_mapping_id(1);
  auto answer = (*client)->call(request);
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().errno_value, EIO);
}

}  // namespace
}  // namespace gob
