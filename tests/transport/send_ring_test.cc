// The sender's side of a ring: no frame overwrites one that the receiver may still need.
#include "libgob/transport/send_ring.h"

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <random>
#include <string>
#include <vector>

namespace gob {
namespace {

constexpr std::size_t kRing = 4096;

class Ring : public ::testing::Test {
 protected:
  std::vector<std::byte> memory_ = std::vector<std::byte>(kRing);
  SendRing ring_{memory_, 8};

  bool put(std::size_t bytes, char fill) {
    std::byte* at = ring_.append(bytes);
    if (at == nullptr) return false;
    std::memset(at, fill, bytes);
    return true;
  }
};

TEST_F(Ring, PutsFramesOneBehindTheOtherIntoOneChunk) {
  ASSERT_TRUE(put(100, 'a'));
  ASSERT_TRUE(put(50, 'b'));
  EXPECT_EQ(ring_.open_bytes(), 150u);
  const SendRing::Chunk chunk = ring_.close();
  EXPECT_EQ(chunk.offset, 0u);
  EXPECT_EQ(chunk.bytes, 150u);
  ASSERT_TRUE(put(10, 'c'));
  EXPECT_EQ(ring_.close().offset, 192u);
}

TEST_F(Ring, HasNoRoomBeyondItsChunksUntilTheyAreAcknowledged) {
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(put(8, 'x'));
    ring_.close();
  }
  EXPECT_FALSE(put(8, 'x'));
  ASSERT_TRUE(ring_.acknowledge(1));
  EXPECT_TRUE(put(8, 'x'));
}

TEST_F(Ring, KeepsAPlaceUntilTheDeviceIsDoneWithItToo) {
  ASSERT_TRUE(put(kRing, 'x'));
  ring_.close();
  ASSERT_TRUE(ring_.acknowledge(1));
  EXPECT_FALSE(put(8, 'y'));
  ring_.complete(1);
  EXPECT_TRUE(put(kRing, 'y'));
}

TEST_F(Ring, BelievesNoAcknowledgementOfWhatWasNotSent) {
  ASSERT_TRUE(put(8, 'x'));
  EXPECT_FALSE(ring_.acknowledge(1));
  ring_.close();
  EXPECT_TRUE(ring_.acknowledge(1));
  EXPECT_FALSE(ring_.acknowledge(2));
  EXPECT_FALSE(ring_.acknowledge(0));
}

TEST_F(Ring, TellsWhatIsUnacknowledgedInOrderWithTheNumberOfItsFirstFrame) {
  for (const char c : {'a', 'b', 'c'}) {
    ASSERT_TRUE(put(8, c));
    ASSERT_TRUE(put(8, c));
    ring_.close();
  }
  ASSERT_TRUE(put(8, 'd'));
  ASSERT_TRUE(ring_.acknowledge(1));
  std::string text;
  const std::uint64_t first = ring_.unacknowledged([&](std::span<const std::byte> bytes) {
    text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  });
  EXPECT_EQ(first, 2u);
  EXPECT_EQ(text, std::string(16, 'b') + std::string(16, 'c') + std::string(8, 'd'));
  ring_.close();
  ASSERT_TRUE(ring_.acknowledge(4));
  EXPECT_EQ(ring_.unacknowledged([](auto) { FAIL(); }), 7u);
}

// A receiver that reads what was written, in order and at its own pace, finds it as it was sent.
TEST_F(Ring, NeverReusesWhatIsInUse) {
  struct Sent {
    SendRing::Chunk chunk;
    char fill;
  };
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    SendRing ring(memory_, 8);
    std::deque<Sent> under_way;
    std::uint64_t acknowledged = 0;
    std::uint64_t completed = 0;
    std::size_t placed = 0;
    for (int step = 0; step < 2000; ++step) {
      const std::size_t bytes = 1 + random() % (random() % 3 == 0 ? 1200 : 100);
      const char fill = static_cast<char>(random());
      if (std::byte* at = ring.append(bytes)) {
        std::memset(at, fill, bytes);
        under_way.push_back({ring.close(), fill});
        EXPECT_EQ(under_way.back().chunk.offset % SendRing::kAlignment, 0u);
        ++placed;
      }
      // The device is done in order, and so is the receiver; either may be ahead.
      if (completed < ring.closed() && random() % 2 == 0) ring.complete(++completed);
      if (!under_way.empty() && random() % 2 == 0) {
        const Sent read = under_way.front();
        under_way.pop_front();
        for (std::size_t i = 0; i < read.chunk.bytes; ++i) {
          ASSERT_EQ(static_cast<char>(memory_[read.chunk.offset + i]), read.fill)
              << "seed " << seed;
        }
        ASSERT_TRUE(ring.acknowledge(++acknowledged));
      }
    }
    EXPECT_GT(placed, 500u) << "seed " << seed;
  }
}

}  // namespace
}  // namespace gob
