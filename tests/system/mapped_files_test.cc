// Files that programs map for writing: mappings on several nodes, read(2) and write(2) through
// several mounts, and the disk at the end, all of one mind.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <random>
#include <thread>

#include "libgob/base/unique_fd.h"
#include "tests/system/file_nodes.h"
#include "tests/system/mapped_file.h"

namespace gob {
namespace {

constexpr std::size_t kPage = 4096;

TEST(MappedFiles, EveryWayToTheBytesShowsTheSame) {
  Nodes nodes(3, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream(folder.tree() + "/both") << std::string(3 * kPage, '.');
  EXPECT_TRUE(runs_to_its_end([&] {
    const MappedFile one(nodes, 0, "/both", 3 * kPage);
    const MappedFile two(nodes, 1, "/both", 3 * kPage);
    const int reader = ::open((seen_at(nodes, 2) + "/both").c_str(), O_RDONLY);
    char seen = 0;
    const auto all_see = [&](std::size_t offset, char value) {
      for (const MappedFile* file : {&one, &two})
        if (*static_cast<volatile char*>(file->at(offset)) != value ||
            ::pread(file->fd(), &seen, 1, static_cast<off_t>(offset)) != 1 || seen != value)
          return false;
      // This one is read through its kernel's cache.
      return ::pread(reader, &seen, 1, static_cast<off_t>(offset)) == 1 && seen == value;
    };
    if (!all_see(5, '.')) return false;
    for (int i = 0; i < 50; ++i) {
      const auto offset = static_cast<std::size_t>(i * 211);
      const char letter = static_cast<char>('a' + i % 26);
      *one.at(offset) = letter;
      if (!all_see(offset, letter)) return false;
      *two.at(offset) = static_cast<char>(letter - 32);
      if (!all_see(offset, static_cast<char>(letter - 32))) return false;
      if (::pwrite(two.fd(), "#", 1, static_cast<off_t>(offset + 1)) != 1) return false;
      if (!all_see(offset + 1, '#')) return false;
    }
    if (::fsync(two.fd()) != 0) return false;
    ::close(reader);
    return content(folder.tree() + "/both") == std::string(one.at(0), 3 * kPage);
  }));
}

// Neither appends nor cuts put zeros into a file, in whatever order they are done.
TEST(MappedFiles, ACutBesideAppendsLeavesNoZeros) {
  constexpr off_t kKept = 100;
  Nodes nodes(3, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream(folder.tree() + "/log") << std::string(2 * kPage, '.');
  EXPECT_TRUE(runs_to_its_end([&] {
    const MappedFile mapped(nodes, 0, "/log", 4 * kPage);
    const std::string other = seen_at(nodes, 1) + "/log";
    const UniqueFd appends(::open(other.c_str(), O_WRONLY | O_APPEND));
    const std::string record(kPage, '.');
    for (int round = 0; round < 300; ++round) {
      std::atomic<bool> appended = false;
      std::thread writer([&] {
        appended = ::write(appends.get(), record.data(), record.size()) ==
                   static_cast<ssize_t>(record.size());
      });
      const bool cut = ::ftruncate(mapped.fd(), kKept) == 0;
      writer.join();
      if (!cut || !appended) return false;
      const std::string now = content(seen_at(nodes, 2) + "/log");
      if (now != std::string(now.size(), '.')) return false;
      // What is written back just now does not make it longer again.
      *mapped.at(0) = '.';
      if (::ftruncate(mapped.fd(), kKept) != 0 || ::fsync(mapped.fd()) != 0) return false;
      if (content(folder.tree() + "/log") != std::string(kKept, '.')) return false;
    }
    return true;
  }));
}

// What a file grows by is zeros, whatever mappings have stored there before.
TEST(MappedFiles, WhatIsStoredBehindTheEndDoesNotComeToLightWhenItGrows) {
  constexpr std::size_t kMost = 8 * kPage;
  constexpr std::size_t kKept = 100;
  constexpr std::size_t kLonger = 5 * kPage + 50;
  Nodes nodes(3, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream(folder.tree() + "/short") << std::string(kKept, '.');
  EXPECT_TRUE(runs_to_its_end([&] {
    const MappedFile one(nodes, 0, "/short", kMost);
    const MappedFile two(nodes, 1, "/short", kMost);
    const UniqueFd other(::open((seen_at(nodes, 2) + "/short").c_str(), O_RDWR));
    using Grow = std::function<bool(int)>;
    const Grow ways[] = {
        [](int fd) { return ::ftruncate(fd, kLonger) == 0; },
        [](int fd) { return ::pwrite(fd, "", 1, kLonger - 1) == 1; },  // a zero
        [](int fd) { return ::fallocate(fd, 0, 0, kLonger) == 0; },
        [](int fd) { return ::fallocate(fd, FALLOC_FL_ZERO_RANGE, kLonger - kPage, kPage) == 0; },
    };
    const std::string expected = std::string(kKept, '.') + std::string(kLonger - kKept, '\0');
    for (const Grow& grow : ways)
      for (const int fd : {one.fd(), two.fd(), other.get()}) {
        std::memset(one.at(kKept), 'x', 3 * kPage);
        std::memset(two.at(3 * kPage), 'y', kMost - 3 * kPage);
        if (!grow(fd)) return false;
        for (const MappedFile* file : {&one, &two})
          if (std::string(file->at(0), kLonger) != expected) return false;
        if (content(seen_at(nodes, 2) + "/short") != expected) return false;
        if (::fsync(fd) != 0 || content(folder.tree() + "/short") != expected) return false;
        if (::ftruncate(fd, kKept) != 0) return false;
      }
    return true;
  }));
}

// What each page shows is the file, as a model of one array has it. GOB_FILE_SEED repeats a run.
TEST(MappedFiles, RandomOperationsOnMappingsAndDescriptorsAgreeWithAModel) {
  constexpr std::size_t kMost = 12 * kPage;
  Nodes nodes(2, file_settings());
  const char* const fixed = std::getenv("GOB_FILE_SEED");
  const std::uint64_t first = fixed != nullptr ? std::strtoull(fixed, nullptr, 0) : 1;
  const std::uint64_t last = fixed != nullptr ? first : 4;
  const SharedFolder folder;
  folder.attach(nodes);
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    const std::string name = "/random" + std::to_string(seed);
    ASSERT_TRUE(runs_to_its_end([&] {
      std::mt19937_64 random(seed);
      const auto below = [&](std::size_t limit) {
        return static_cast<std::size_t>(random() % limit);
      };
      std::ofstream(folder.tree() + name) << "";
      const MappedFile files[] = {MappedFile(nodes, 0, name, kMost),
                                  MappedFile(nodes, 1, name, kMost)};
      std::string model;
      for (int step = 0; step < 1500; ++step) {
        const MappedFile& file = files[below(2)];
        const std::size_t offset = below(kMost);
        const std::size_t length = 1 + below(std::min(kMost - offset, std::size_t{2} * kPage));
        const std::string fresh(length, static_cast<char>('a' + step % 26));
        const auto wrong = [&](const char* what) {
          std::fprintf(stderr, "seed %llu step %d: %s at %zu, %zu bytes; the file has %zu\n",
                       static_cast<unsigned long long>(seed), step, what, offset, length,
                       model.size());
          return false;
        };
        switch (below(9)) {
          case 0: {  // store: beyond the end of the file it is not kept
            const std::size_t here =
                offset < model.size() ? std::min(length, model.size() - offset) : 0;
            std::memcpy(file.at(offset), fresh.data(), length);
            model.replace(std::min(offset, model.size()), here, fresh.substr(0, here));
            break;
          }
          case 1: {
            const std::size_t here =
                offset < model.size() ? std::min(length, model.size() - offset) : 0;
            if (std::memcmp(file.at(offset), model.data() + std::min(offset, model.size()), here) !=
                0)
              return wrong("a load sees other bytes");
            break;
          }
          case 2:
          case 3:
            if (::pwrite(file.fd(), fresh.data(), length, static_cast<off_t>(offset)) !=
                static_cast<ssize_t>(length))
              return wrong("pwrite() fails");
            if (model.size() < offset + length) model.resize(offset + length, '\0');
            model.replace(offset, length, fresh);
            break;
          case 4: {
            std::string seen(length, '?');
            const ssize_t got = ::pread(file.fd(), seen.data(), length, static_cast<off_t>(offset));
            if (got < 0) return wrong("pread() fails");
            seen.resize(static_cast<std::size_t>(got));
            if (seen != (offset < model.size() ? model.substr(offset, length) : ""))
              return wrong("pread() sees other bytes");
            break;
          }
          case 5:
            if (::ftruncate(file.fd(), static_cast<off_t>(offset)) != 0)
              return wrong("ftruncate() fails");
            if (offset < model.size() && offset % kPage != 0 && *file.at(offset) != 0)
              return wrong("what was cut off is still mapped");
            model.resize(offset, '\0');
            break;
          case 6: {
            if (::fallocate(file.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                            static_cast<off_t>(offset), static_cast<off_t>(length)) != 0)
              return wrong("punching a hole fails");
            for (std::size_t i = offset; i < std::min(offset + length, model.size()); ++i)
              model[i] = '\0';
            break;
          }
          case 7:  // nor does it come to light when the file grows
            if (model.size() < kMost) *file.at(model.size()) = 'X';
            break;
          case 8:
            if (::fsync(file.fd()) != 0) return wrong("fsync() fails");
            if (content(folder.tree() + name) != model) return wrong("the disk has other bytes");
            break;
        }
        struct stat status {};
        if (::fstat(files[below(2)].fd(), &status) != 0 ||
            static_cast<std::size_t>(status.st_size) != model.size())
          return wrong("fstat() sees another size");
      }
      return ::fsync(files[0].fd()) == 0 && content(folder.tree() + name) == model;
    })) << "seed "
        << seed;
  }
}

TEST(MappedFiles, ACopyOfAMappedFileHasWhatWasStored) {
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream(folder.tree() + "/source") << std::string(kPage, '.');
  EXPECT_TRUE(runs_to_its_end([&] {
    const MappedFile source(nodes, 1, "/source", kPage);
    std::memcpy(source.at(0), "stored", 6);
    for (unsigned node = 0; node < 2; ++node) {
      const std::string copy = "/copy" + std::to_string(node);
      const int from = ::open((seen_at(nodes, node) + "/source").c_str(), O_RDONLY);
      const int to = ::open((seen_at(nodes, node) + copy).c_str(), O_WRONLY | O_CREAT, 0644);
      off_t at = 0;
      if (::copy_file_range(from, &at, to, nullptr, kPage, 0) != static_cast<ssize_t>(kPage))
        return false;
      ::close(from);
      ::close(to);
      if (content(folder.tree() + copy) != "stored" + std::string(kPage - 6, '.')) return false;
    }
    return true;
  }));
}

TEST(MappedFiles, WhatIsWrittenReachesTheDiskWithoutFsyncToo) {
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream(folder.tree() + "/late") << std::string(kPage, '.');
  EXPECT_TRUE(runs_to_its_end([&] {
    const MappedFile file(nodes, 1, "/late", kPage);
    std::memcpy(file.at(0), "written", 7);
    return true;
  }));
  // Nobody has it open any more, and the node where it is stops.
  ASSERT_EQ(nodes.detach(0, "tree"), "");
  EXPECT_EQ(nodes.stop_node(1), 0);
  EXPECT_EQ(nodes.stop_node(0), 0);
  EXPECT_EQ(content(folder.tree() + "/late").substr(0, 8), "written.");
}

// It stops while programs of other nodes go on with the file.
TEST(MappedFiles, AHomeThatLeavesWritesFirst) {
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream(folder.tree() + "/early") << std::string(kPage, '.');
  EXPECT_TRUE(runs_to_its_end([&] {
    const MappedFile file(nodes, 1, "/early", kPage);
    std::memcpy(file.at(0), "written", 7);
    return nodes.stop_node(0) == 0 && content(folder.tree() + "/early").starts_with("written.");
  }));
}

TEST(MappedFiles, WhatFsyncSaidIsOnTheDiskWhenTheHomeIsKilled) {
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream(folder.tree() + "/safe") << std::string(2 * kPage, '.');
  EXPECT_TRUE(runs_to_its_end([&] {
    const MappedFile file(nodes, 1, "/safe", 2 * kPage);
    std::memcpy(file.at(0), "mapped", 6);
    if (::pwrite(file.fd(), "written", 7, kPage) != 7 || ::fsync(file.fd()) != 0) return false;
    nodes.kill_node(0);
    const std::string now = content(folder.tree() + "/safe");
    return now.starts_with("mapped.") && now.substr(kPage, 8) == "written.";
  }));
  nodes.kill_node(0);  // the child's Nodes is a copy
}

TEST(MappedFiles, AHomeThatReturnsWritesWhatOthersHaveMeanwhile) {
  Nodes nodes(3, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream(folder.tree() + "/kept") << std::string(3 * kPage, '.');
  int told[2];
  int go_on[2];
  ASSERT_EQ(::pipe(told), 0);
  ASSERT_EQ(::pipe(go_on), 0);
  const pid_t program = ::fork();
  if (program == 0) {
    ::close(told[0]);
    const MappedFile file(nodes, 1, "/kept", 3 * kPage);
    std::memcpy(file.at(0), "written", 7);
    std::memcpy(file.at(2 * kPage), "at the end", 10);
    static_cast<void>(!::write(told[1], "1", 1));
    // The home is gone; what is here can be read and written.
    char word = 0;
    static_cast<void>(!::read(go_on[0], &word, 1));
    std::memcpy(file.at(0), "Written", 7);
    static_cast<void>(!::write(told[1], "2", 1));
    ::pause();
  }
  ::close(told[1]);  // so that the program's death ends the waiting for it
  char byte = 0;
  ASSERT_EQ(::read(told[0], &byte, 1), 1);
  nodes.kill_node(0);
  ASSERT_EQ(::write(go_on[1], "1", 1), 1);
  ASSERT_EQ(::read(told[0], &byte, 1), 1);
  ASSERT_TRUE(content(folder.tree() + "/kept").starts_with("....")) << "nobody was there to write";
  const UniqueFd changes(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  ASSERT_GE(::inotify_add_watch(changes.get(), (folder.tree() + "/kept").c_str(), IN_MODIFY), 0);
  nodes.start(0);
  nodes.wait_ready();
  const auto written = [&] {
    const std::string now = content(folder.tree() + "/kept");
    return now.starts_with("Written.") && now.substr(2 * kPage, 11) == "at the end.";
  };
  pollfd change{changes.get(), POLLIN, 0};
  std::array<char, 4096> events;
  while (!written() && ::poll(&change, 1, 20'000) == 1)
    static_cast<void>(!::read(changes.get(), events.data(), events.size()));
  EXPECT_TRUE(written());
  ::kill(program, SIGKILL);
  ::waitpid(program, nullptr, 0);
}

TEST(MappedFiles, CountersInAPageOfAFileLoseNoAddition) {
  constexpr int kAdditions = 20'000;
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream(folder.tree() + "/counter") << std::string(kPage, '\0');
  std::vector<pid_t> programs;
  for (unsigned node = 0; node < 2; ++node) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      const MappedFile file(nodes, node, "/counter", kPage);
      auto* const counter = reinterpret_cast<std::atomic<std::uint64_t>*>(file.at(64));
      for (int i = 0; i < kAdditions; ++i) counter->fetch_add(1);
      ::_exit(::fsync(file.fd()) == 0 ? 0 : 1);
    }
    programs.push_back(pid);
  }
  for (const pid_t pid : programs) EXPECT_EQ(Nodes::wait_for(pid, 120'000), 0);
  std::uint64_t sum = 0;
  std::memcpy(&sum, content(folder.tree() + "/counter").data() + 64, sizeof sum);
  EXPECT_EQ(sum, 2u * kAdditions);
}

TEST(MappedFiles, OnlyADescriptorThatMayReadAndWriteIsMapped) {
  Nodes nodes(1, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream(folder.tree() + "/file") << "text";
  EXPECT_TRUE(nodes.run(0, [&](gobelins::Connection& gob) {
    const auto refused = [&](const std::string& path, int flags) {
      const int fd = ::open(path.c_str(), flags);
      try {
        static_cast<void>(gob.open_file(fd));
      } catch (const std::system_error& error) {
        ::close(fd);
        return error.code().value();
      }
      ::close(fd);
      return 0;
    };
    const std::string tree = seen_at(nodes, 0);
    return refused(tree + "/file", O_RDONLY) == EACCES &&
           refused(tree + "/file", O_WRONLY) == EACCES && refused(tree, O_RDONLY) == ENOTTY &&
           refused(folder.tree() + "/file", O_RDWR) == ENOTTY &&
           refused(tree + "/file", O_RDWR) == 0;
  }));
}

// A program that knows nothing of libgob, with libgob_preload.so.
pid_t start_counter(const Nodes& nodes, unsigned node, bool preload, const char* generations) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::setenv("GOB_SOCKET", nodes.socket_of(node).c_str(), 1);
    if (preload) ::setenv("LD_PRELOAD", GOB_PRELOAD, 1);
    const std::string path = seen_at(nodes, node) + "/counter";
    ::execl(MAP_COUNTER, MAP_COUNTER, path.c_str(), "5000", generations, nullptr);
    ::_exit(127);
  }
  return pid;
}

// What two of them come to, one on each node.
std::uint64_t count_on_two(const Nodes& nodes, const SharedFolder& folder,
                           const char* generations) {
  std::ofstream(folder.tree() + "/counter") << std::string(2 * kPage, '\0');
  const pid_t one = start_counter(nodes, 0, true, generations);
  const pid_t two = start_counter(nodes, 1, true, generations);
  EXPECT_EQ(Nodes::wait_for(one, 120'000), 0);
  EXPECT_EQ(Nodes::wait_for(two, 120'000), 0);
  std::uint64_t sum = 0;
  std::memcpy(&sum, content(folder.tree() + "/counter").data() + kPage, sizeof sum);
  return sum;
}

TEST(MappedFiles, AnUnmodifiedProgramSharesAMappingOfAFile) {
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  EXPECT_EQ(count_on_two(nodes, folder, nullptr), 10'000u);
  EXPECT_EQ(Nodes::wait_for(start_counter(nodes, 0, false, nullptr), 60'000), ENODEV)
      << "without it: refused, not stale";
}

TEST(MappedFiles, ForkedChildrenOfAnUnmodifiedProgramShareItsMapping) {
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  EXPECT_EQ(count_on_two(nodes, folder, "2"), 30'000u);
}

}  // namespace
}  // namespace gob
