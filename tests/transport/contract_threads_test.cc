// Channels of one transport are owned by different threads, as in gobd.
#include <gtest/gtest.h>
#include <poll.h>

#include <thread>

#include "tests/transport/test_cluster.h"

namespace gob::test {
namespace {

class Threads : public ::testing::TestWithParam<std::string> {};

constexpr int kRounds = 300;

// Plays ping-pong with every peer on one channel, until each of them has said the last word.
class Player final : public ChannelSink {
 public:
  Player(Channel& channel, unsigned peers, bool serves)
      : channel_(channel), peers_(peers), serves_(serves) {}

  void play() {
    constexpr int kPatienceMs = 60000;
    while (finished_ < peers_) {
      pollfd fd{channel_.fd(), POLLIN, 0};
      if (::poll(&fd, 1, kPatienceMs) != 1) return;
      channel_.poll(*this);
    }
  }
  [[nodiscard]] bool finished() const { return finished_ == peers_; }

  void on_up(NodeId peer, std::uint64_t) override {
    if (serves_) say(peer, 1);
  }
  void on_message(NodeId from, std::span<const std::byte> header,
                  std::span<const std::byte> payload) override {
    const int round =
        std::stoi(std::string(reinterpret_cast<const char*>(header.data()), header.size()));
    EXPECT_EQ(payload.size(), static_cast<std::size_t>(round) * 100);
    if (round < kRounds) say(from, round + 1);
    if (round >= kRounds - 1) ++finished_;
  }
  void on_down(NodeId peer, DownReason, const std::string& detail) override {
    ADD_FAILURE() << "node " << peer.value() << " down: " << detail;
  }

 private:
  void say(NodeId to, int round) {
    const std::string payload(static_cast<std::size_t>(round) * 100, 'x');
    const Status status = send_text(channel_, to, std::to_string(round), payload);
    EXPECT_TRUE(status.ok());
  }

  Channel& channel_;
  const unsigned peers_;
  const bool serves_;
  unsigned finished_ = 0;
};

TEST_P(Threads, OwnChannelsIndependently) {
  constexpr unsigned kShards = 2;
  const auto cluster = make_cluster(GetParam(), {.nodes = 2, .shards = kShards});
  cluster->start_all();
  std::vector<std::unique_ptr<Player>> players;
  std::vector<std::thread> threads;
  for (const unsigned id : {0u, 1u}) {
    for (auto& [number, channel] : (*cluster)[id].channels) {
      players.push_back(std::make_unique<Player>(*channel, 1, id == 0));
      threads.emplace_back([player = players.back().get()] { player->play(); });
    }
  }
  // The status board is read by others meanwhile.
  std::thread watcher([&] {
    for (int i = 0; i < 200; ++i) {
      for (const unsigned id : {0u, 1u}) {
        (void)(*cluster)[id].transport->status(node(1 - id));
      }
      std::this_thread::yield();
    }
  });
  for (std::thread& thread : threads) thread.join();
  watcher.join();
  for (const auto& player : players) EXPECT_TRUE(player->finished());
}

INSTANTIATE_TEST_SUITE_P(Over, Threads, ::testing::ValuesIn(transports()), kByName);

}  // namespace
}  // namespace gob::test
