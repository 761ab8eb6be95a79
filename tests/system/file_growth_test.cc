// Attached files that grow while they are read: readers and writers take turns, and nobody waits
// for himself.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "libgob/base/unique_fd.h"
#include "tests/system/file_nodes.h"

namespace gob {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto kWhile = 4s;
constexpr int kEndTimeoutMs = 60'000;
constexpr Clock::duration kStall = 4s;  // of one call: what does not wait for itself takes far less

// Calls `once` for a while. False: it did, or a call took too long.
bool goes_on(const std::function<bool()>& once) {
  for (const auto end = Clock::now() + kWhile; Clock::now() < end;) {
    const auto begin = Clock::now();
    if (!once()) {
      std::fprintf(stderr, "a call failed: %s\n", std::strerror(errno));
      return false;
    }
    if (Clock::now() - begin < kStall) continue;
    std::fprintf(stderr, "a call took %lld ms\n",
                 static_cast<long long>((Clock::now() - begin) / 1ms));
    return false;
  }
  return true;
}

pid_t in_child(const std::function<bool()>& program) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(program() ? 0 : 1);
  return pid;
}

bool appends(const std::string& path, std::size_t bytes) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_APPEND));
  const std::string record(bytes, 'r');
  return fd && goes_on([&] {
           return ::write(fd.get(), record.data(), record.size()) ==
                  static_cast<ssize_t>(record.size());
         });
}

// The last byte of the file, by `flags`: as soon as the size is told, it is there. `forgets`: out
// of this kernel's cache first.
bool reads_the_end(const std::string& path, int flags, bool forgets) {
  const UniqueFd fd(::open(path.c_str(), flags));
  return fd && goes_on([&] {
           const off_t size = ::lseek(fd.get(), 0, SEEK_END);
           if (forgets && ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED) != 0) return false;
           char byte = 0;
           return size > 0 && ::pread(fd.get(), &byte, 1, size - 1) == 1 && byte == 'r';
         });
}

// The kernel drops pages without a word: a read of one comes while a change of the size waits for
// the kernel to forget that page, and waits for the end of the change itself.
TEST(FileGrowth, AReadOfAPageThatTheKernelGaveUpDoesNotHoldUpTheWriter) {
  DaemonConfig settings = file_settings();
  settings.file_timeout_ms = 10'000;
  Nodes nodes(1, settings);
  const SharedFolder folder;
  folder.attach(nodes);
  const std::string path = seen_at(nodes, 0) + "/log";
  std::ofstream(folder.tree() + "/log") << "r";
  const pid_t writer = in_child([&] { return appends(path, 100); });
  const pid_t reader = in_child([&] { return reads_the_end(path, O_RDONLY, true); });
  EXPECT_EQ(Nodes::wait_for(writer, kEndTimeoutMs), 0);
  EXPECT_EQ(Nodes::wait_for(reader, kEndTimeoutMs), 0);
}

// Each grant of the size to a reader is followed at once by the next change.
TEST(FileGrowth, ReadersOfAFileThatGrowsAllTheTimeGoOn) {
  DaemonConfig settings = file_settings();
  settings.file_timeout_ms = 10'000;
  Nodes nodes(4, settings);
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream(folder.tree() + "/log") << "r";
  const auto at = [&](unsigned node) { return seen_at(nodes, node) + "/log"; };
  std::vector<pid_t> programs;
  // One of each node is written at a time, so with several some change is always under way.
  for (const unsigned node : {0u, 1u, 2u, 3u})
    programs.push_back(in_child([&] { return appends(at(node), 10); }));
  for (const unsigned node : {0u, 1u})
    for (const int flags : {O_RDONLY, O_RDWR})
      programs.push_back(in_child([&] { return reads_the_end(at(node), flags, false); }));
  for (const pid_t program : programs) EXPECT_EQ(Nodes::wait_for(program, kEndTimeoutMs), 0);
}

TEST(FileGrowth, WhoReadsWhileSeveralNodesAppendHasTheFileInTheEnd) {
  constexpr int kRounds = 20;
  constexpr int kRecords = 40;
  Nodes nodes(3, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  for (int round = 0; round < kRounds; ++round) {
    const std::string name = "/log" + std::to_string(round);
    std::ofstream(folder.tree() + name) << std::string(4000, '.');
    std::vector<pid_t> writers;
    for (unsigned writer = 0; writer < 4; ++writer) {
      const pid_t pid = ::fork();
      if (pid != 0) {
        writers.push_back(pid);
        continue;
      }
      const int fd = ::open((seen_at(nodes, writer % 2) + name).c_str(), O_WRONLY | O_APPEND);
      const std::string record(4096, static_cast<char>('a' + writer));
      for (int i = 0; i < kRecords; ++i)
        if (::write(fd, record.data(), record.size()) != static_cast<ssize_t>(record.size()))
          ::_exit(1);
      ::_exit(0);
    }
    const std::string seen = seen_at(nodes, 2) + name;
    while (content(seen).size() < 4000 + 4 * kRecords * 4096) {
    }
    for (const pid_t pid : writers) EXPECT_EQ(Nodes::wait_for(pid, 120'000), 0);
    const std::string now = content(seen);
    const std::string is = content(folder.tree() + name);
    ASSERT_EQ(now.size(), is.size());
    ASSERT_TRUE(now == is) << "they differ from byte "
                           << std::mismatch(now.begin(), now.end(), is.begin()).first - now.begin()
                           << " on, in round " << round;
  }
}

}  // namespace
}  // namespace gob
