// Traces as the daemon writes them, read back: whole, after a kill, and cut for want of room.
#include "tests/history/trace_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "libgob/linker/page_checksum.h"
#include "libgob/runtime/page_trace.h"

namespace gob::history {
namespace {

using testing::HasSubstr;

class TraceFile : public testing::Test {
 protected:
  TraceFile() {
    char pattern[] = "/tmp/gob-trace-XXXXXX";
    EXPECT_NE(::mkdtemp(pattern), nullptr);
    folder_ = pattern;
  }
  ~TraceFile() override { std::filesystem::remove_all(folder_); }

  [[nodiscard]] std::unique_ptr<PageTrace> trace(unsigned shard = 0) const {
    auto made = PageTrace::create(folder_, "n3", NodeId{2}, shard);
    EXPECT_TRUE(made.ok()) << made.error().message();
    return std::move(*made);
  }

  std::string folder_;
};

constexpr PageSet kTwoPages{ContainerId{5}, 1, 0b1001};  // pages 64 and 67
constexpr PageKey kFirst = key_of({ContainerId{5}, PageIndex{64}});
constexpr PageKey kSecond = key_of({ContainerId{5}, PageIndex{67}});

TEST_F(TraceFile, TellsWhatWasNoted) {
  std::vector<std::byte> bytes(2 * kPageSize, std::byte{1});
  bytes[kPageSize] = std::byte{2};
  {
    const auto first = trace();
    first->note(TraceKind::kGranted, kTwoPages, Access::kWrite);
    first->note_bytes(TraceKind::kStored, kTwoPages.with(0b1000), kTwoPages, bytes.data());
    first->dropped(ContainerId{5});
    const auto second = trace(1);
    second->view(View{Epoch{9}, {NodeId{0}, NodeId{2}}, {}, {}});
  }
  const auto read = read_traces(folder_);
  ASSERT_TRUE(read.ok()) << read.error().message();
  ASSERT_EQ(read->size(), 1u) << "two shards of one daemon";
  const NodeTrace& node = read->front();
  EXPECT_EQ(node.node, 2u);
  EXPECT_EQ(node.pid, static_cast<std::uint32_t>(::getpid()));
  EXPECT_FALSE(node.killed);
  ASSERT_EQ(node.records.size(), 6u);
  EXPECT_EQ(node.records[0].page, kFirst);
  EXPECT_EQ(node.records[1].page, kSecond);
  EXPECT_EQ(node.records[1].access, static_cast<std::uint8_t>(Access::kWrite));
  EXPECT_EQ(node.records[2].kind, TraceKind::kStored);
  EXPECT_EQ(node.records[2].page, kSecond);
  EXPECT_EQ(node.records[2].digest, page_checksum(kSecond, bytes.data() + kPageSize));
  EXPECT_EQ(node.records[3].kind, TraceKind::kDropped);
  EXPECT_EQ(node.records[5].digest, 9u);
  EXPECT_EQ(node.records[5].peer, 2u);
  EXPECT_EQ(node.records[5].count, 2u);
  EXPECT_TRUE(std::ranges::is_sorted(node.records, {}, &TraceRecord::time_ns));
}

TEST_F(TraceFile, OutlivesAKilledDaemon) {
  constexpr unsigned kMany = 100'000;  // several chunks
  const pid_t pid = ::fork();
  if (pid == 0) {
    const auto own = trace();
    for (unsigned i = 0; i < kMany; ++i)
      own->note(TraceKind::kGone, PageSet::of({ContainerId{1}, PageIndex{i}}));
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  ASSERT_TRUE(WIFSIGNALED(status));
  const auto read = read_traces(folder_);
  ASSERT_TRUE(read.ok()) << read.error().message();
  EXPECT_TRUE(read->front().killed);
  ASSERT_EQ(read->front().records.size(), kMany);
  EXPECT_EQ(read->front().records.back().page, key_of({ContainerId{1}, PageIndex{kMany - 1}}));
}

TEST_F(TraceFile, ThatHadNoRoomIsNotUsed) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit small{std::size_t{2} << 20, std::size_t{2} << 20};
    ::setrlimit(RLIMIT_FSIZE, &small);
    {
      const auto own = trace();
      for (unsigned i = 0; i < 100'000; ++i)
        own->note(TraceKind::kGone, PageSet::of({ContainerId{1}, PageIndex{i}}));
    }
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0) << "a daemon goes on without";
  const auto read = read_traces(folder_);
  ASSERT_FALSE(read.ok());
  EXPECT_THAT(read.error().message(), HasSubstr("no room to record everything"));
}

TEST_F(TraceFile, OfAnythingElseIsRefused) {
  EXPECT_THAT(read_traces(folder_).error().message(), HasSubstr("there is no trace"));
  EXPECT_THAT(read_traces(folder_ + "/none").error().message(), HasSubstr("cannot read"));
  std::ofstream(folder_ + "/short.gobtrace") << "gobtrace";
  EXPECT_THAT(read_traces(folder_).error().message(), HasSubstr("has no header"));
  std::ofstream(folder_ + "/short.gobtrace") << std::string(kTraceHeaderBytes, 'x');
  EXPECT_THAT(read_traces(folder_).error().message(), HasSubstr("does not begin"));
  const auto nowhere = PageTrace::create(folder_ + "/none", "n1", NodeId{0}, 0);
  ASSERT_FALSE(nowhere.ok());
  EXPECT_THAT(nowhere.error().message(), HasSubstr("trace_dir has to be a directory"));
}

}  // namespace
}  // namespace gob::history
