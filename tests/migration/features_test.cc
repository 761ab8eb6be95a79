// A target whose processor lacks what the source's has is found out, by name.
#include "libgob/migration/features.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

namespace gob::migration {
namespace {

Cpu cpu(const std::vector<std::string>& features, const std::string& machine = "x86_64") {
  Cpu cpu;
  cpu.set_machine(machine);
  cpu.set_kernel("6.6.0");
  for (const std::string& each : features) cpu.add_features(each);
  return cpu;
}

TEST(Features, WhoHasMoreCanRunItAndWhoHasLessCannot) {
  EXPECT_TRUE(can_run(cpu({"sse2", "avx"}), cpu({"avx", "sse2", "avx2"})));
  const Status refused = can_run(cpu({"sse2", "avx2", "avx512f"}), cpu({"sse2"}));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(refused.error().message().find("may use: avx2, avx512f;"), std::string::npos)
      << refused.error().message();
}

TEST(Features, ASaveAreaOfAnotherLayoutIsMissed) {
  EXPECT_EQ(missing_features(cpu({"xsave:pkru@2688"}), cpu({"xsave:pkru@2440"})),
            std::vector<std::string>{"xsave:pkru@2688"});
}

TEST(Features, AnotherArchitectureIsRefusedWhateverItsFeatures) {
  const Status refused = can_run(cpu({}), cpu({}, "aarch64"));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("another kind (aarch64)"), std::string::npos);
}

TEST(Features, ASourceThatSaysNothingIsTrusted) { EXPECT_TRUE(can_run(Cpu(), cpu({"sse2"}))); }

TEST(Features, ThisMachineCanRunWhatRunsHere) {
  const Cpu here = cpu_here();
  EXPECT_TRUE(can_run(here, here));
  EXPECT_FALSE(here.machine().empty());
  EXPECT_GT(here.features_size(), 0);
}

#if defined(__x86_64__)
// The kernel knows them by the same names. It hides some that programs see all the same, never the
// other way round.
TEST(Features, WhatTheKernelNamesIsAmongThem) {
  std::ifstream file("/proc/cpuinfo");
  std::set<std::string> kernel;
  for (std::string line; std::getline(file, line) && kernel.empty();) {
    if (!line.starts_with("flags")) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    for (std::string word; words >> word;) kernel.insert(word);
  }
  const Cpu here = cpu_here();
  const std::set<std::string> ours(here.features().begin(), here.features().end());
  for (const char* name :
       {"sse2",     "ssse3",  "sse4_2",  "popcnt",   "aes",         "avx",     "avx2",
        "bmi2",     "sha_ni", "avx512f", "avx512vl", "avx512_vnni", "gfni",    "vaes",
        "avx_vnni", "abm",    "xsavec",  "rdtscp",   "clzero",      "amx_tile"})
    EXPECT_TRUE(ours.contains(name) || !kernel.contains(name)) << name;
  EXPECT_TRUE(ours.contains("sse2"));
  EXPECT_EQ(ours.contains("avx"), ours.contains("xsave:avx@576"));
}
#endif

}  // namespace
}  // namespace gob::migration
