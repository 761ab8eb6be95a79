// What every transport promises about messages. Each test runs over each transport.
#include <gtest/gtest.h>

#include <random>

#include "libgob/wire/frame.h"
#include "tests/transport/test_cluster.h"

namespace gob::test {
namespace {

class Messages : public ::testing::TestWithParam<std::string> {
 protected:
  void start(const ClusterOptions& options) {
    cluster_ = make_cluster(GetParam(), options);
    cluster_->start_all();
    ASSERT_TRUE(cluster_->connect_all());
  }
  TestNode& at(unsigned id) { return (*cluster_)[id]; }
  bool run_until(const std::function<bool()>& done) { return cluster_->run_until(done); }

  std::unique_ptr<TestCluster> cluster_;
};

std::string random_text(std::size_t bytes, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::string text(bytes, '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

TEST_P(Messages, ArriveWithHeaderAndPayload) {
  start({});
  ASSERT_TRUE(send_text(at(0).channel(0), node(1), "header", "payload").ok());
  ASSERT_TRUE(send_text(at(1).channel(0), node(0), "", "").ok());
  ASSERT_TRUE(
      run_until([&] { return at(1).sink(0).received == 1 && at(0).sink(0).received == 1; }));
  EXPECT_EQ(at(1).sink(0).messages[0].from, node(0));
  EXPECT_EQ(at(1).sink(0).messages[0].header, "header");
  EXPECT_EQ(at(1).sink(0).messages[0].payload, "payload");
  EXPECT_EQ(at(0).sink(0).messages[0].header, "");
  EXPECT_EQ(at(0).sink(0).messages[0].payload, "");
}

TEST_P(Messages, ArriveInOrderWhateverTheirSizes) {
  start({});
  constexpr std::size_t kCount = 3000;
  std::mt19937 random(1);
  std::size_t sent = 0;
  Recorder& to = at(1).sink(0);
  ASSERT_TRUE(run_until([&] {
    for (int i = 0; i < 20 && sent < kCount; ++i, ++sent) {
      const std::size_t size = random() % 4 == 0 ? random() % 70000 : random() % 100;
      const Status status = send_text(at(0).channel(0), node(1), std::to_string(sent),
                                      random_text(size, static_cast<std::uint32_t>(sent)));
      EXPECT_TRUE(status.ok());
    }
    return to.received == kCount;
  }));
  for (std::size_t i = 0; i < kCount; ++i) {
    ASSERT_EQ(to.messages[i].header, std::to_string(i));
    ASSERT_EQ(to.messages[i].payload,
              random_text(to.messages[i].payload.size(), static_cast<std::uint32_t>(i)));
  }
}

TEST_P(Messages, OfSixtyFourScatteredPagesArriveWhole) {
  start({});
  const std::string pages = random_text(wire::kMaxPagePayloadBytes, 7);
  std::vector<iovec> parts;
  for (std::size_t i = 0; i < kStripePages; ++i) {
    parts.push_back({const_cast<char*>(pages.data()) + i * kPageSize, kPageSize});
  }
  constexpr std::size_t kCount = 40;
  for (std::size_t i = 0; i < kCount; ++i) {
    ASSERT_TRUE(at(0).channel(0).send(node(1), bytes_of(std::to_string(i)), parts).ok());
    ASSERT_TRUE(at(1).channel(0).send(node(0), bytes_of(std::to_string(i)), parts).ok());
  }
  ASSERT_TRUE(run_until(
      [&] { return at(0).sink(0).received == kCount && at(1).sink(0).received == kCount; }));
  for (const unsigned id : {0u, 1u}) {
    for (std::size_t i = 0; i < kCount; ++i) {
      EXPECT_EQ(at(id).sink(0).messages[i].header, std::to_string(i));
      EXPECT_TRUE(at(id).sink(0).messages[i].payload == pages);
    }
  }
}

TEST_P(Messages, OfControlMayBeLarge) {
  start({});
  const std::string blob = random_text(wire::kMaxControlPayloadBytes, 3);
  ASSERT_TRUE(send_text(at(0).channel(kControlChannel), node(1), "", blob).ok());
  ASSERT_TRUE(send_text(at(0).channel(kControlChannel), node(1), "", "after").ok());
  Recorder& to = at(1).sink(kControlChannel);
  ASSERT_TRUE(run_until([&] { return to.received == 2; }));
  EXPECT_TRUE(to.messages[0].payload == blob);
  EXPECT_EQ(to.messages[1].payload, "after");
}

TEST_P(Messages, BeyondTheLimitsAreRefusedAndHarmNothing) {
  start({});
  const std::string page(kPageSize, 'x');
  const auto code = [](const Status& status) {
    return status.ok() ? ErrorCode::kSystem : status.error().code;
  };
  Channel& from = at(0).channel(0);
  EXPECT_EQ(code(send_text(from, node(1), std::string(wire::kMaxHeaderBytes + 1, 'h'))),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(send_text(from, node(1), "", std::string(wire::kMaxPagePayloadBytes + 1, 'p'))),
            ErrorCode::kInvalidArgument);
  const std::vector<iovec> parts(Channel::kMaxPayloadParts + 1, {const_cast<char*>("p"), 1});
  EXPECT_EQ(code(from.send(node(1), {}, parts)), ErrorCode::kInvalidArgument);
  ASSERT_TRUE(send_text(from, node(1), std::string(wire::kMaxHeaderBytes, 'h'), page).ok());
  ASSERT_TRUE(run_until([&] { return at(1).sink(0).received == 1; }));
  EXPECT_EQ(at(1).sink(0).messages[0].payload, page);
}

TEST_P(Messages, ToWhoIsNotThereFailAndSayWhom) {
  cluster_ = make_cluster(GetParam(), {.nodes = 3});
  cluster_->start(0);
  cluster_->start(1);
  ASSERT_TRUE(cluster_->connect_all());
  for (const NodeId to : {node(2), node(0), node(99)}) {
    const Status status = send_text(at(0).channel(0), to, "hello");
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, ErrorCode::kUnavailable);
    EXPECT_NE(status.error().context.find("node " + std::to_string(to.value())), std::string::npos);
  }
}

TEST_P(Messages, MayBeAnsweredFromInsideTheCallback) {
  start({});
  constexpr int kRounds = 500;
  for (const unsigned id : {0u, 1u}) {
    at(id).sink(0).reaction = [this, id](const Recorder::Message& message) {
      const int round = std::stoi(message.header);
      if (round < kRounds) {
        EXPECT_TRUE(
            send_text(at(id).channel(0), message.from, std::to_string(round + 1), "page").ok());
      }
    };
  }
  ASSERT_TRUE(send_text(at(0).channel(0), node(1), "1").ok());
  EXPECT_TRUE(
      run_until([&] { return at(0).sink(0).received + at(1).sink(0).received == kRounds; }));
}

TEST_P(Messages, AreDeliveredInBoundedTurnsUntilNoneIsLeft) {
  start({});
  constexpr std::size_t kCount = 5000;
  cluster_->set_deaf(1, 0, true);
  for (std::size_t i = 0; i < kCount; ++i) {
    ASSERT_TRUE(send_text(at(0).channel(0), node(1), std::to_string(i)).ok());
  }
  Channel& channel = at(1).channel(0);
  Recorder& to = at(1).sink(0);
  std::size_t turns = 0;
  ASSERT_TRUE(run_until([&] {
    // The descriptor alone must lead to every message.
    while (readable(channel.fd())) {
      const std::size_t before = to.received;
      const std::size_t reported = channel.poll(to);
      EXPECT_EQ(to.received - before, reported);
      EXPECT_LT(reported, kCount / 5);
      ++turns;
    }
    return to.received == kCount;
  }));
  EXPECT_GE(turns, 5u);
  for (std::size_t i = 0; i < kCount; ++i) ASSERT_EQ(to.messages[i].header, std::to_string(i));
}

TEST_P(Messages, LeaveTheDescriptorQuietWhenThereAreNone) {
  start({.nodes = 3, .shards = 2});
  ASSERT_TRUE(send_text(at(0).channel(1), node(2), "one", std::string(100000, 'x')).ok());
  ASSERT_TRUE(run_until([&] { return at(2).sink(1).received == 1; }));
  // A wake-up that is on its way may still be delivered; after it there is none.
  EXPECT_TRUE(run_until([&] {
    for (const unsigned id : {0u, 1u, 2u}) {
      for (const auto& [number, channel] : at(id).channels) {
        if (readable(channel->fd())) return false;
      }
    }
    return true;
  }));
}

TEST_P(Messages, OnOneChannelDoNotWaitForAnother) {
  start({.nodes = 2, .shards = 2});
  cluster_->set_deaf(1, 0, true);
  const std::string payload(wire::kMaxPagePayloadBytes, 'x');
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(send_text(at(0).channel(0), node(1), "", payload).ok());
  }
  ASSERT_TRUE(send_text(at(0).channel(1), node(1), "quick").ok());
  ASSERT_TRUE(run_until([&] { return at(1).sink(1).received == 1; }));
  EXPECT_EQ(at(1).sink(0).received, 0u);
  cluster_->set_deaf(1, 0, false);
  ASSERT_TRUE(run_until([&] { return at(1).sink(0).received == 100; }));
}

TEST_P(Messages, HeldBackByACorkKeepTheirOrder) {
  start({.nodes = 3});
  Channel& from = at(0).channel(0);
  constexpr std::size_t kCount = 3000;
  {
    const Corked corked(from);
    for (std::size_t i = 0; i < kCount; ++i) {
      const Corked nested(from);
      const std::string payload = i % 100 == 50 ? std::string(kPageSize, 'p') : "";
      ASSERT_TRUE(send_text(from, node(1 + i % 2), std::to_string(i), payload).ok());
    }
  }
  ASSERT_TRUE(run_until([&] { return at(1).sink(0).received + at(2).sink(0).received == kCount; }));
  for (std::size_t i = 0; i < kCount; ++i) {
    const auto& message = at(1 + i % 2).sink(0).messages[i / 2];
    ASSERT_EQ(message.header, std::to_string(i));
    ASSERT_EQ(message.payload.size(), i % 100 == 50 ? kPageSize : 0);
  }
}

TEST_P(Messages, AreCounted) {
  start({});
  ASSERT_TRUE(send_text(at(0).channel(0), node(1), "1234", "567890").ok());
  ASSERT_TRUE(send_text(at(0).channel(0), node(1), "").ok());
  ASSERT_TRUE(run_until([&] { return at(1).sink(0).received == 2; }));
  const PeerCounters out = at(0).channel(0).counters(node(1));
  const PeerCounters in = at(1).channel(0).counters(node(0));
  EXPECT_EQ(out.messages_out, 2u);
  EXPECT_EQ(out.bytes_out, 10 + 2 * wire::kPrefixBytes);
  EXPECT_EQ(out.messages_in, 0u);
  EXPECT_EQ(in.messages_in, 2u);
  EXPECT_EQ(in.bytes_in, out.bytes_out);
  EXPECT_EQ(at(0).channel(0).counters(node(99)).messages_in, 0u);
}

TEST_P(Messages, PassBetweenAllOfManyNodes) {
  constexpr unsigned kNodes = 8;  // more links than a poll visits one by one
  start({.nodes = kNodes});
  constexpr std::size_t kEach = 400;
  for (std::size_t i = 0; i < kEach; ++i) {
    for (unsigned from = 0; from < kNodes; ++from) {
      for (unsigned to = 0; to < kNodes; ++to) {
        if (from == to) continue;
        ASSERT_TRUE(send_text(at(from).channel(0), node(to), std::to_string(i)).ok());
      }
    }
  }
  ASSERT_TRUE(run_until([&] {
    for (unsigned id = 0; id < kNodes; ++id) {
      if (at(id).sink(0).received < kEach * (kNodes - 1)) return false;
    }
    return true;
  }));
  for (unsigned id = 0; id < kNodes; ++id) {
    std::map<NodeId, std::size_t> next;
    for (const auto& message : at(id).sink(0).messages) {
      ASSERT_EQ(message.header, std::to_string(next[message.from]++));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Over, Messages, ::testing::ValuesIn(transports()), kByName);

}  // namespace
}  // namespace gob::test
