// What gobd makes of a machine without RDMA. What it does with RDMA is tested in tests/guest.
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <sstream>

#include "tests/system/nodes.h"

namespace gob {
namespace {

namespace fs = std::filesystem;

DaemonConfig settings(const std::string& transport) {
  DaemonConfig config;
  config.cluster = "transport";
  config.budget_bytes = std::uint64_t{16} << 20;
  config.shards = 2;
  config.transport = transport;
  return config;
}

bool share_a_page(Nodes& nodes) {
  return nodes.run_on_all([&](gobelins::Connection& gob, unsigned rank) {
    if (rank == 0) gob.create("page", 4096);
    gob.barrier("made", nodes.count());
    auto memory = gob.open("page").map();
    auto words = memory.as<std::uint64_t>();
    words[rank] = rank + 1;
    gob.barrier("written", nodes.count());
    for (unsigned other = 0; other < nodes.count(); ++other)
      if (words[other] != other + 1) return false;
    gob.barrier("read", nodes.count());
    return true;
  });
}

std::vector<std::string> lines_with(const std::string& text, const std::string& word) {
  std::vector<std::string> found;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    if (line.find(word) != std::string::npos) found.push_back(line);
  return found;
}

struct Ended {
  int status;
  std::string output;
};

// gobd with the configuration of a node and more flags, to its end.
Ended gobd(const Nodes& nodes, const std::string& flags) {
  const std::string line =
      std::string(GOBD) + " --config " + nodes.folder() + "/n1.toml " + flags + " 2>&1";
  FILE* pipe = ::popen(line.c_str(), "r");
  EXPECT_NE(pipe, nullptr);
  if (pipe == nullptr) return {-1, ""};
  Ended ended;
  char buffer[4096];
  while (const std::size_t count = std::fread(buffer, 1, sizeof buffer, pipe))
    ended.output.append(buffer, count);
  const int status = ::pclose(pipe);
  ended.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return ended;
}

class WithoutRdma : public ::testing::Test {
 protected:
  void SetUp() override {
    std::error_code none;
    const fs::path devices = "/sys/class/infiniband";
    if (fs::exists(devices, none) && !fs::is_empty(devices, none))
      GTEST_SKIP() << "this machine has an RDMA device";
    ::unsetenv("GOB_TEST_TRANSPORT");
  }
};

TEST_F(WithoutRdma, AutoSaysOnceThatItIsTcpAndWhy) {
  Nodes nodes(2, settings("auto"));
  EXPECT_TRUE(share_a_page(nodes));
  for (const unsigned node : {0u, 1u}) {
    const auto said = lines_with(nodes.log_of(node), "RDMA");
    ASSERT_EQ(said.size(), 1u) << nodes.log_of(node);
    EXPECT_NE(said[0].find("no RDMA, peers are reached over TCP: this machine has no RDMA device"),
              std::string::npos)
        << said[0];
    EXPECT_NE(said[0].find("[info]"), std::string::npos) << said[0];

    const auto stat = nodes.stat(node);
    ASSERT_TRUE(stat.ok()) << stat.error().message();
    EXPECT_EQ(stat->node().rdma().device(), "");
    EXPECT_EQ(stat->node().rdma().reason(), "this machine has no RDMA device");
    ASSERT_EQ(stat->node().peers_size(), 1);
    const control::PeerStat& peer = stat->node().peers(0);
    EXPECT_EQ(peer.transport(), "tcp");
    EXPECT_EQ(peer.transport_reason(), "this machine has no RDMA device");
    ASSERT_EQ(peer.paths_size(), 2) << "one for each shard";
    EXPECT_EQ(peer.paths(1).transport(), "tcp");
    EXPECT_EQ(peer.paths(1).fall_backs(), 0u);
    EXPECT_GT(peer.paths(0).bytes_out() + peer.paths(1).bytes_out(), 0u);
  }
}

TEST_F(WithoutRdma, TcpByChoiceLiveWithAutoInOneCluster) {
  Nodes nodes(2, settings("auto"), GOBD, [](unsigned node, DaemonConfig& config) {
    if (node == 1) config.transport = "tcp";
  });
  EXPECT_TRUE(share_a_page(nodes));
  EXPECT_TRUE(lines_with(nodes.log_of(1), "RDMA").empty()) << "nobody asked for it";
  const auto stat = nodes.stat(1);
  ASSERT_TRUE(stat.ok()) << stat.error().message();
  ASSERT_EQ(stat->node().peers_size(), 1);
  EXPECT_EQ(stat->node().peers(0).transport_reason(), "this node is configured for TCP only");
}

TEST_F(WithoutRdma, WhoDemandsItIsToldWhatIsMissing) {
  Nodes nodes(1, settings("tcp"));
  const Ended any = gobd(nodes, "--transport verbs");
  EXPECT_EQ(any.status, 1);
  EXPECT_NE(any.output.find("no RDMA, which transport = verbs demands: this machine has no RDMA "
                            "device; choose auto to go on over TCP"),
            std::string::npos)
      << any.output;
  const Ended named = gobd(nodes, "--transport verbs --rdma-device mlx5_0:1");
  EXPECT_EQ(named.status, 1);
  EXPECT_NE(named.output.find("RDMA device 'mlx5_0:1': there is no such device"), std::string::npos)
      << named.output;
}

TEST_F(WithoutRdma, WhatMakesNoSenseIsRefused) {
  Nodes nodes(1, settings("tcp"));
  const Ended transport = gobd(nodes, "--transport carrier-pigeon");
  EXPECT_EQ(transport.status, 2);
  EXPECT_NE(transport.output.find("choose auto, verbs or tcp"), std::string::npos)
      << transport.output;
  const Ended port = gobd(nodes, "--transport verbs --rdma-device rxe0:first");
  EXPECT_EQ(port.status, 1);
  EXPECT_NE(port.output.find("say 'device' or 'device:port'"), std::string::npos) << port.output;
}

}  // namespace
}  // namespace gob
