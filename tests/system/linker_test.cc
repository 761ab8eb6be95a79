// What gobd makes of a kernel without linkers. What it does with them is tested in
// tests/kernel_patch.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>

#include "tests/system/nodes.h"

namespace gob {
namespace {

class WithoutLinkers : public testing::Test {
 protected:
  void SetUp() override {
    if (::access("/dev/gob", F_OK) == 0) GTEST_SKIP() << "this kernel has linkers";
  }
};

DaemonConfig settings(const std::string& linker) {
  DaemonConfig config;
  config.cluster = "linker";
  config.budget_bytes = std::uint64_t{16} << 20;
  config.linker = linker;
  return config;
}

// gobd with the configuration of the first node and another linker, to its end: status and output.
std::pair<int, std::string> gobd(const Nodes& nodes, const std::string& linker) {
  const std::string line = std::string(GOBD) + " --config " + nodes.folder() +
                           "/n1.toml --linker " + linker + " 2>&1";
  FILE* pipe = ::popen(line.c_str(), "r");
  if (pipe == nullptr) return {-1, "popen failed"};
  std::string output;
  char buffer[4096];
  while (std::fgets(buffer, sizeof buffer, pipe) != nullptr) output += buffer;
  return {WEXITSTATUS(::pclose(pipe)), output};
}

TEST_F(WithoutLinkers, AutoGoesWithoutAndSaysSo) {
  Nodes nodes(1, settings("auto"));
  const auto stat = nodes.stat(0);
  ASSERT_TRUE(stat);
  EXPECT_EQ(stat->node().linker(), "userfaultfd");
  EXPECT_NE(stat->node().linker_reason().find("there is no /dev/gob"), std::string::npos);
  EXPECT_NE(nodes.log_of(0).find("linker: userfaultfd; there is no /dev/gob"), std::string::npos);
  EXPECT_TRUE(nodes.run(0, [](gobelins::Connection& gob) {
    gob.create("still", 4096);
    auto memory = gob.open("still").map();
    return ++memory.as<int>()[0] == 1;
  }));
}

TEST_F(WithoutLinkers, UserfaultfdLooksForNone) {
  Nodes nodes(1, settings("userfaultfd"));
  const auto stat = nodes.stat(0);
  ASSERT_TRUE(stat);
  EXPECT_EQ(stat->node().linker(), "userfaultfd");
  EXPECT_EQ(stat->node().linker_reason(), "this node is configured so");
}

TEST_F(WithoutLinkers, WhoDemandsThemIsToldWhatIsMissing) {
  Nodes nodes(1, settings("auto"));
  const auto [status, output] = gobd(nodes, "kernel");
  EXPECT_EQ(status, 1);
  EXPECT_NE(output.find("no kernel linker, which linker = kernel demands: there is no /dev/gob"),
            std::string::npos)
      << output;
  const auto [usage, choices] = gobd(nodes, "glue");
  EXPECT_EQ(usage, 2);
  EXPECT_NE(choices.find("choose auto, kernel or userfaultfd"), std::string::npos) << choices;
}

TEST_F(WithoutLinkers, SegmentsAreRefusedWithTheReason) {
  Nodes nodes(1, settings("auto"));
  const std::string refused = nodes.attach_segment(0, "board", 0x1234);
  EXPECT_NE(refused.find("cannot attach a segment without the kernel's linker: there is no "
                         "/dev/gob"),
            std::string::npos)
      << refused;
}

}  // namespace
}  // namespace gob
