#include "gobbench/netns.h"

#include <gtest/gtest.h>

#include "gobbench/raw_tcp.h"

namespace gob::bench {
namespace {

TEST(Network, NodesReachEachOtherAndNobodyElseReachesThem) {
  const Result<Network> network = Network::create(3);
  ASSERT_TRUE(network) << network.error().message();
  TcpPlaces places;
  places.server_host = Network::address(2);
  places.server_netns_fd = network->netns_fd(2);
  places.client_netns_fd = network->netns_fd(0);
  const Result<std::vector<std::uint64_t>> samples = tcp_ping_pong(places, 8, 4096, 10);
  ASSERT_TRUE(samples) << samples.error().message();
  // The address is nobody's outside.
  places.server_netns_fd = -1;
  EXPECT_FALSE(tcp_ping_pong(places, 8, 4096, 1));
}

}  // namespace
}  // namespace gob::bench
