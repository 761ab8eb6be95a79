// ReceiveBuffer, SendQueue and LinkGate: the parts of the TCP data path that need no socket.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <random>
#include <string>
#include <vector>

#include "libgob/transport/link_gate.h"
#include "libgob/transport/receive_buffer.h"
#include "libgob/transport/send_queue.h"

namespace gob {
namespace {

using Bytes = std::vector<std::byte>;

Bytes frame_bytes(std::size_t header, std::size_t payload, std::uint8_t fill) {
  Bytes bytes(wire::kPrefixBytes + header + payload, static_cast<std::byte>(fill));
  wire::encode_prefix({static_cast<std::uint32_t>(header), static_cast<std::uint32_t>(payload)},
                      std::span<std::byte, wire::kPrefixBytes>(bytes.data(), wire::kPrefixBytes));
  return bytes;
}

// Copies as much of `bytes` as fits, at most `limit`; returns how much.
std::size_t feed(ReceiveBuffer& buffer, std::span<const std::byte> bytes, std::size_t limit) {
  const auto room = buffer.writable();
  EXPECT_FALSE(room.empty());
  const std::size_t n = std::min({room.size(), bytes.size(), limit});
  std::memcpy(room.data(), bytes.data(), n);
  buffer.commit(n);
  return n;
}

TEST(ReceiveBuffer, CutsAnyStreamIntoItsFramesWhateverThePieces) {
  constexpr std::size_t kMaxPayload = wire::kMaxPagePayloadBytes;
  std::mt19937 random(3);
  Bytes stream;
  std::vector<std::pair<std::size_t, std::size_t>> sizes;
  while (stream.size() < std::size_t{12} << 20) {
    const std::size_t header = random() % 3 == 0 ? random() % 4097 : 56;
    const std::size_t payload = random() % 2 == 0 ? 0 : random() % (kMaxPayload + 1);
    const Bytes frame = frame_bytes(header, payload, static_cast<std::uint8_t>(sizes.size()));
    stream.insert(stream.end(), frame.begin(), frame.end());
    sizes.emplace_back(header, payload);
  }
  ReceiveBuffer buffer(kMaxPayload);
  std::size_t seen = 0;
  std::span<const std::byte> rest(stream);
  while (!rest.empty()) {
    const std::size_t limit = random() % 5 == 0 ? 1 + random() % 10 : 1 + random() % 2000000;
    rest = rest.subspan(feed(buffer, rest, limit));
    ReceiveBuffer::Frame frame;
    while (buffer.next(frame) == ReceiveBuffer::Next::kFrame) {
      ASSERT_EQ(frame.header.size(), sizes[seen].first);
      ASSERT_EQ(frame.payload.size(), sizes[seen].second);
      const auto fill = static_cast<std::byte>(static_cast<std::uint8_t>(seen));
      ASSERT_TRUE(std::ranges::all_of(frame.header, [&](std::byte b) { return b == fill; }));
      ASSERT_TRUE(std::ranges::all_of(frame.payload, [&](std::byte b) { return b == fill; }));
      ++seen;
    }
  }
  EXPECT_EQ(seen, sizes.size());
  EXPECT_FALSE(buffer.ready());
}

TEST(ReceiveBuffer, KeepsPagePayloadsAligned) {
  ReceiveBuffer buffer(wire::kMaxPagePayloadBytes);
  for (int round = 0; round < 50; ++round) {
    for (const std::size_t pages : {0u, 1u, 64u, 3u}) {
      const Bytes bytes = frame_bytes(56, pages * kPageSize, 1);
      std::span<const std::byte> rest(bytes);
      ReceiveBuffer::Frame frame;
      while (!rest.empty()) rest = rest.subspan(feed(buffer, rest, 100000));
      ASSERT_EQ(buffer.next(frame), ReceiveBuffer::Next::kFrame);
      ASSERT_EQ(reinterpret_cast<std::uintptr_t>(frame.payload.data()) % ReceiveBuffer::kAlignment,
                0u);
    }
  }
}

TEST(ReceiveBuffer, GrowsForALargeFrameAndShrinksAfterIt) {
  ReceiveBuffer buffer(wire::kMaxControlPayloadBytes);
  const Bytes bytes = frame_bytes(10, wire::kMaxControlPayloadBytes, 9);
  std::span<const std::byte> rest(bytes);
  ReceiveBuffer::Frame frame;
  while (!rest.empty()) {
    ASSERT_EQ(buffer.next(frame), ReceiveBuffer::Next::kPartial);
    rest = rest.subspan(feed(buffer, rest, 1000000));
  }
  ASSERT_EQ(buffer.next(frame), ReceiveBuffer::Next::kFrame);
  EXPECT_EQ(frame.payload.size(), wire::kMaxControlPayloadBytes);
  EXPECT_EQ(buffer.next(frame), ReceiveBuffer::Next::kPartial);
  EXPECT_EQ(buffer.writable().size(), ReceiveBuffer::kBytes);
}

TEST(ReceiveBuffer, RefusesFramesBeyondTheLimitsForEver) {
  ReceiveBuffer buffer(1000);
  feed(buffer, frame_bytes(1, 1000, 0), 2000);
  ReceiveBuffer::Frame frame;
  EXPECT_EQ(buffer.next(frame), ReceiveBuffer::Next::kFrame);
  feed(buffer, frame_bytes(1, 1001, 0), 2000);
  EXPECT_TRUE(buffer.ready());
  EXPECT_EQ(buffer.next(frame), ReceiveBuffer::Next::kBad);
  EXPECT_FALSE(buffer.writable().empty());
  EXPECT_EQ(buffer.next(frame), ReceiveBuffer::Next::kBad);
}

TEST(SendQueue, GivesBackWhatItTookInOrder) {
  std::mt19937 random(4);
  SendQueue queue;
  std::deque<std::byte> model;
  for (int i = 0; i < 20000; ++i) {
    if (random() % 2 == 0) {
      Bytes bytes(random() % 300);
      for (auto& b : bytes) b = static_cast<std::byte>(random());
      queue.append(bytes);
      model.insert(model.end(), bytes.begin(), bytes.end());
    } else {
      const std::size_t n = random() % 300;
      const std::size_t count = std::min(n, queue.size());
      const auto front = queue.front().first(count);
      ASSERT_TRUE(std::equal(front.begin(), front.end(), model.begin()));
      queue.consume(count);
      model.erase(model.begin(), model.begin() + static_cast<std::ptrdiff_t>(count));
    }
    ASSERT_EQ(queue.size(), model.size());
    ASSERT_EQ(queue.empty(), model.empty());
  }
}

class LinkGateTest : public ::testing::Test {
 protected:
  LinkGateTest() : gate_(UniqueFd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC))) {}
  bool readable() const {
    pollfd p{gate_.fd(), POLLIN, 0};
    return ::poll(&p, 1, 0) == 1;
  }
  static NewLink link(unsigned peer, std::uint64_t incarnation) {
    return {NodeId{static_cast<std::uint16_t>(peer)}, incarnation, UniqueFd()};
  }
  static LinkBreak link_break(unsigned peer, std::uint64_t incarnation) {
    return {NodeId{static_cast<std::uint16_t>(peer)}, incarnation, DownReason::kClosed, "gone"};
  }

  LinkGate gate_;
};

TEST_F(LinkGateTest, IsReadableWhileItHoldsSomething) {
  EXPECT_FALSE(readable());
  gate_.attach(link(1, 10));
  gate_.attach(link(2, 20));
  EXPECT_TRUE(readable());
  EXPECT_TRUE(gate_.signalled());
  const auto taken = gate_.take();
  EXPECT_EQ(taken.links.size(), 2u);
  EXPECT_FALSE(readable());
  EXPECT_FALSE(gate_.signalled());
}

TEST_F(LinkGateTest, KeepsTheLatestLinkOfAPeer) {
  for (std::uint64_t i = 1; i <= 100; ++i) gate_.attach(link(1, i));
  const auto taken = gate_.take();
  ASSERT_EQ(taken.links.size(), 1u);
  EXPECT_EQ(taken.links[0].incarnation, 100u);
}

TEST_F(LinkGateTest, ForgetsALinkThatBrokeBeforeItWasTaken) {
  gate_.attach(link(1, 10));
  gate_.cut(link_break(1, 10));
  const auto taken = gate_.take();
  EXPECT_TRUE(taken.links.empty());
  EXPECT_TRUE(taken.cuts.empty());
}

TEST_F(LinkGateTest, PassesOnTheBreakOfALinkThatWasTaken) {
  gate_.attach(link(1, 10));
  EXPECT_EQ(gate_.take().links.size(), 1u);
  gate_.cut(link_break(1, 10));
  gate_.attach(link(1, 11));
  const auto taken = gate_.take();
  ASSERT_EQ(taken.cuts.size(), 1u);
  EXPECT_EQ(taken.cuts[0].incarnation, 10u);
  ASSERT_EQ(taken.links.size(), 1u);
  EXPECT_EQ(taken.links[0].incarnation, 11u);
}

TEST_F(LinkGateTest, TakesNothingOnceClosed) {
  gate_.attach(link(1, 10));
  gate_.close();
  gate_.attach(link(2, 20));
  EXPECT_TRUE(gate_.take().links.empty());
}

}  // namespace
}  // namespace gob
