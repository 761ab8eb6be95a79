// Every request about a file ends, whatever its home does.
#include "libgob/file/file_client.h"

#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <cerrno>
#include <future>
#include <sstream>

namespace gob::file {
namespace {

using namespace std::chrono_literals;

const NodeId kHome{3};

// Keeps what was sent.
struct Wire {
  std::mutex mutex;
  std::vector<peer::FileBody> sent;
  bool works = true;

  FileClient::Send sender() {
    return [this](NodeId, peer::FileBody body) {
      const std::lock_guard guard(mutex);
      sent.push_back(std::move(body));
      return works;
    };
  }
  std::size_t count() {
    const std::lock_guard guard(mutex);
    return sent.size();
  }
  peer::FileBody at(std::size_t i) {
    const std::lock_guard guard(mutex);
    return sent.at(i);
  }
};

peer::FileRequest request(FileOp op) {
  peer::FileRequest made;
  made.set_op(static_cast<std::uint32_t>(op));
  return made;
}

TEST(FileClient, BringsTheAnswerToWhoAsked) {
  Wire wire;
  FileClient client(1h, wire.sender());
  client.node_up(kHome);
  std::uint32_t error = 0;
  std::uint64_t value = 0;
  const auto id = client.call(kHome, request(FileOp::kWrite), [&](const peer::FileReply& reply) {
    error = reply.error();
    value = reply.value();
  });
  ASSERT_EQ(wire.count(), 1u);
  EXPECT_EQ(wire.at(0).request().id(), id);
  peer::FileReply reply;
  reply.set_id(id);
  reply.set_value(42);
  client.deliver(NodeId{1}, reply);  // not the home
  EXPECT_EQ(value, 0u);
  client.deliver(kHome, reply);
  EXPECT_EQ(value, 42u);
  EXPECT_EQ(error, 0u);
  client.deliver(kHome, reply);  // twice: nobody waits any more
}

TEST(FileClient, AHomeThatIsNotThereIsAnErrorAtOnce) {
  Wire wire;
  FileClient client(1h, wire.sender());
  std::uint32_t error = 0;
  const auto note = [&](const peer::FileReply& reply) { error = reply.error(); };
  client.call(kHome, request(FileOp::kRead), note);
  EXPECT_EQ(error, EIO);
  EXPECT_EQ(wire.count(), 0u);
  client.node_up(kHome);
  wire.works = false;
  error = 0;
  client.call(kHome, request(FileOp::kRead), note);
  EXPECT_EQ(error, EIO);
}

// It would drop this node.
TEST(FileClient, WhatAHomeTakesForNonsenseIsNotSent) {
  Wire wire;
  FileClient client(1h, wire.sender());
  client.node_up(kHome);
  std::uint32_t error = 0;
  const auto note = [&](const peer::FileReply& reply) { error = reply.error(); };
  peer::FileRequest asked = request(FileOp::kLookup);
  asked.set_name(std::string(kMaxFileNameBytes + 1, 'x'));
  EXPECT_EQ(client.call(kHome, asked, note), 0u);
  EXPECT_EQ(error, ENAMETOOLONG);
  asked.set_name("a/b");
  EXPECT_EQ(client.call(kHome, asked, note), 0u);
  EXPECT_EQ(error, EINVAL);
  EXPECT_EQ(wire.count(), 0u);
}

TEST(FileClient, WhatWaitsForANodeThatDiesEnds) {
  Wire wire;
  std::vector<std::uint32_t> errors;  // the client's end is one, too
  FileClient client(1h, wire.sender());
  client.node_up(kHome);
  client.node_up(NodeId{4});
  const auto note = [&](const peer::FileReply& reply) { errors.push_back(reply.error()); };
  client.call(kHome, request(FileOp::kRead), note);
  client.call(NodeId{4}, request(FileOp::kRead), note);
  peer::FileRequest lock = request(FileOp::kSetLock);
  lock.mutable_lock()->set_wait(true);
  client.call(kHome, lock, note);
  client.node_down(kHome);
  EXPECT_EQ(errors, (std::vector<std::uint32_t>{EIO, EIO}));
  client.call(kHome, request(FileOp::kRead), note);
  EXPECT_EQ(errors.size(), 3u);
}

TEST(FileClient, ASilentHomeIsGivenUpInTimeAndWhatItHandsOutLateGoesBack) {
  Wire wire;
  FileClient client(50ms, wire.sender());
  client.node_up(kHome);
  std::promise<std::uint32_t> ended;
  const auto id = client.call(kHome, request(FileOp::kOpen), [&](const peer::FileReply& reply) {
    ended.set_value(reply.error());
  });
  EXPECT_EQ(ended.get_future().get(), static_cast<std::uint32_t>(EIO));
  peer::FileReply late;
  late.set_id(id);
  late.set_handle(9);
  late.set_file(8);
  late.set_incarnation(5);
  client.deliver(kHome, late);
  ASSERT_EQ(wire.count(), 3u);
  EXPECT_EQ(op_of(wire.at(1).request()), FileOp::kRelease);
  EXPECT_EQ(wire.at(1).request().handle(), 9u);
  EXPECT_EQ(wire.at(2).forget().files(0), 8u);
}

TEST(FileClient, NobodyWaitsForAnAnswerToAClose) {
  Wire wire;
  FileClient client(1h, wire.sender());
  client.node_up(kHome);
  std::vector<std::uint32_t> errors;
  peer::FileRequest close = request(FileOp::kRelease);
  close.set_handle(9);
  client.call(kHome, close, [&](const peer::FileReply& reply) { errors.push_back(reply.error()); });
  ASSERT_EQ(wire.count(), 1u);
  EXPECT_EQ(wire.at(0).request().handle(), 9u);
  client.node_down(kHome);
  EXPECT_EQ(errors, (std::vector<std::uint32_t>{0}));
}

// A program gets it, on a node whose log knew nothing of it.
TEST(FileClient, AnIOErrorOfTheHomeIsInThisNodesLog) {
  std::ostringstream log;
  const auto before = spdlog::default_logger();
  spdlog::set_default_logger(std::make_shared<spdlog::logger>(
      "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(log)));
  Wire wire;
  FileClient client(1h, wire.sender());
  client.node_up(kHome);
  for (const int error : {ENOENT, EIO}) {
    peer::FileReply reply = failed_reply(error);
    reply.set_id(client.call(kHome, request(FileOp::kSync), [](const peer::FileReply&) {}));
    client.deliver(kHome, reply);
    EXPECT_EQ(log.str().find("cannot fsync") != std::string::npos, error == EIO) << log.str();
  }
  EXPECT_NE(log.str().find("its home said so"), std::string::npos) << log.str();
  spdlog::set_default_logger(before);
}

TEST(FileClient, AWaitForALockHasNoEndOfItsOwn) {
  Wire wire;
  FileClient client(20ms, wire.sender());
  client.node_up(kHome);
  bool ended = false;
  peer::FileRequest lock = request(FileOp::kSetLock);
  lock.mutable_lock()->set_wait(true);
  const auto id = client.call(kHome, lock, [&](const peer::FileReply&) { ended = true; });
  // Another request's time runs out meanwhile, so time has passed.
  std::promise<void> other;
  client.call(kHome, request(FileOp::kRead), [&](const peer::FileReply&) { other.set_value(); });
  other.get_future().get();
  EXPECT_FALSE(ended);
  client.cancel(id);
  EXPECT_EQ(wire.at(2).cancel().id(), id);
  peer::FileReply interrupted = failed_reply(EINTR);
  interrupted.set_id(id);
  client.deliver(kHome, interrupted);
  EXPECT_TRUE(ended);
}

TEST(FileClient, ItsEndEndsEverything) {
  Wire wire;
  int ended = 0;
  {
    FileClient client(1h, wire.sender());
    client.node_up(kHome);
    for (int i = 0; i < 3; ++i)
      client.call(kHome, request(FileOp::kRead), [&](const peer::FileReply&) { ++ended; });
  }
  EXPECT_EQ(ended, 3);
}

}  // namespace
}  // namespace gob::file
