// The hello: layout, and every rule by which one node refuses another.
#include "libgob/transport/handshake.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>
#include <string>

#include "libgob/transport/refused_incarnations.h"
#include "libgob/transport/transport.h"

namespace gob {
namespace {

using Bytes = std::array<std::byte, kHelloBytes>;

const HelloRules kRules{.self = NodeId{1},
                        .nodes = 3,
                        .shards = 2,
                        .cluster = cluster_hash("blue"),
                        .incarnation = 1001};

Hello good() {
  return {.kind = HelloKind::kHello,
          .channel = 1,
          .shards = 2,
          .node = NodeId{2},
          .target = NodeId{1},
          .cluster = cluster_hash("blue"),
          .incarnation = 2002};
}

Bytes encoded(const Hello& hello) {
  Bytes bytes;
  encode(hello, bytes);
  return bytes;
}

TEST(Handshake, SurvivesEncodingAndDecoding) {
  Hello hello = good();
  hello.kind = HelloKind::kReject;
  hello.reason = HelloFault::kLinkLost;
  hello.channel = kControlChannel;
  hello.target_incarnation = 0x1122334455667788;
  hello.verbs = true;
  Hello decoded;
  ASSERT_EQ(decode(encoded(hello), decoded), HelloFault::kNone);
  EXPECT_EQ(decoded, hello);
}

TEST(Handshake, FieldsLieWhereTheTableSays) {
  Hello hello = good();
  hello.target_incarnation = 0x0807060504030201;
  hello.verbs = true;
  const Bytes b = encoded(hello);
  EXPECT_EQ(std::memcmp(b.data(), "GOBPEER\n", 8), 0);
  EXPECT_EQ(static_cast<int>(b[8]), 1);
  EXPECT_EQ(static_cast<int>(b[10]), 1);
  EXPECT_EQ(static_cast<int>(b[11]), 1);
  EXPECT_EQ(static_cast<int>(b[12]), 2);
  EXPECT_EQ(static_cast<int>(b[14]), 1);
  EXPECT_EQ(static_cast<int>(b[17]), 0x10);
  EXPECT_EQ(static_cast<int>(b[20]), 2);
  EXPECT_EQ(static_cast<int>(b[22]), 1);
  EXPECT_EQ(static_cast<int>(b[40]), 1);
  EXPECT_EQ(static_cast<int>(b[47]), 8);
}

TEST(Handshake, RefusesBytesThatAreNoHello) {
  const auto fault_with = [](std::size_t offset, int value) {
    Bytes bytes = encoded(good());
    bytes[offset] = static_cast<std::byte>(value);
    Hello hello;
    return decode(bytes, hello);
  };
  EXPECT_EQ(fault_with(0, 'g'), HelloFault::kMagic);
  EXPECT_EQ(fault_with(8, 2), HelloFault::kVersion);
  EXPECT_EQ(fault_with(10, 0), HelloFault::kMalformed);
  EXPECT_EQ(fault_with(10, 4), HelloFault::kMalformed);
  EXPECT_EQ(fault_with(10, 3), HelloFault::kMalformed);  // rejects without a reason
  EXPECT_EQ(fault_with(13, 1), HelloFault::kMalformed);  // a reason without rejecting
  EXPECT_EQ(fault_with(13, 200), HelloFault::kMalformed);
  EXPECT_EQ(fault_with(14, 2), HelloFault::kMalformed);
  EXPECT_EQ(fault_with(15, 1), HelloFault::kMalformed);
}

TEST(Handshake, KnowsAStrangerByItsFirstBytes) {
  const Bytes bytes = encoded(good());
  for (std::size_t i = 0; i <= bytes.size(); ++i) {
    EXPECT_TRUE(begins_like_hello(std::span(bytes).first(i)));
  }
  const std::string http = "GOT / HTTP/1.1";
  const auto heard = std::as_bytes(std::span(http));
  EXPECT_TRUE(begins_like_hello(heard.first(2)));
  EXPECT_FALSE(begins_like_hello(heard.first(3)));
  EXPECT_FALSE(begins_like_hello(heard));
}

TEST(Handshake, AcceptsAFittingHello) {
  EXPECT_EQ(check(good(), kRules), HelloFault::kNone);
  Hello hello = good();
  hello.channel = kControlChannel;
  hello.target_incarnation = kRules.incarnation;
  EXPECT_EQ(check(hello, kRules), HelloFault::kNone);
}

TEST(Handshake, RefusesEveryMismatchAndSaysWhatToDo) {
  const auto expect = [](HelloFault fault, const char* words, auto&& change) {
    Hello hello = good();
    change(hello);
    EXPECT_EQ(check(hello, kRules), fault);
    const std::string text = describe(fault, hello, kRules);
    EXPECT_NE(text.find(words), std::string::npos) << text;
  };
  expect(HelloFault::kCluster, "another cluster",
         [](Hello& h) { h.cluster = cluster_hash("red"); });
  expect(HelloFault::kPageBytes, "65536 there, 4096 here", [](Hello& h) { h.page_size = 65536; });
  expect(HelloFault::kShards, "3 there, 2 here", [](Hello& h) { h.shards = 3; });
  expect(HelloFault::kChannel, "channel 2", [](Hello& h) { h.channel = 2; });
  expect(HelloFault::kNode, "node 3", [](Hello& h) { h.node = NodeId{3}; });
  expect(HelloFault::kNode, "node 1", [](Hello& h) { h.node = NodeId{1}; });
  expect(HelloFault::kTarget, "looks for node 0", [](Hello& h) { h.target = NodeId{0}; });
  expect(HelloFault::kIncarnation, "restarted", [](Hello& h) { h.incarnation = 0; });
  expect(HelloFault::kIncarnation, "restarted", [](Hello& h) { h.target_incarnation = 5; });
  expect(HelloFault::kIncarnation, "restarted", [](Hello& h) { h.kind = HelloKind::kConfirm; });
}

TEST(Handshake, RefusesAPeerWithoutRdmaOnlyIfRdmaIsDemanded) {
  HelloRules demanding = kRules;
  demanding.needs_verbs = true;
  Hello hello = good();
  EXPECT_EQ(check(hello, demanding), HelloFault::kNoVerbs);
  EXPECT_NE(describe(HelloFault::kNoVerbs, hello, demanding).find("transport = auto"),
            std::string::npos);
  hello.verbs = true;
  EXPECT_EQ(check(hello, demanding), HelloFault::kNone);
  EXPECT_EQ(check(hello, kRules), HelloFault::kNone);
}

TEST(Handshake, ClustersDifferByName) {
  EXPECT_EQ(cluster_hash("blue"), cluster_hash("blue"));
  EXPECT_NE(cluster_hash("blue"), cluster_hash("blue "));
  EXPECT_NE(cluster_hash(""), cluster_hash("blue"));
}

TEST(RefusedIncarnations, AreRememberedUntilClearedOrOutnumbered) {
  RefusedIncarnations refused;
  EXPECT_FALSE(refused.has(0));
  refused.add(5);
  EXPECT_TRUE(refused.has(5));
  EXPECT_FALSE(refused.has(6));
  refused.clear();
  EXPECT_FALSE(refused.has(5));
  for (std::uint64_t i = 1; i <= RefusedIncarnations::kRemembered + 1; ++i) refused.add(i);
  EXPECT_FALSE(refused.has(1));
  EXPECT_TRUE(refused.has(2));
  EXPECT_TRUE(refused.has(RefusedIncarnations::kRemembered + 1));
}

}  // namespace
}  // namespace gob
