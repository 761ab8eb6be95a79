// Attached files through the mounts of two nodes: one file system, like the host's.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "tests/system/file_model.h"
#include "tests/system/file_nodes.h"

namespace gob {
namespace {

TEST(Files, WhatOneNodeWritesAnotherReads) {
  Nodes nodes(3, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream(seen_at(nodes, 1) + "/greeting") << "hello from n2";
  EXPECT_EQ(content(seen_at(nodes, 0) + "/greeting"), "hello from n2");
  EXPECT_EQ(content(seen_at(nodes, 2) + "/greeting"), "hello from n2");
  EXPECT_EQ(content(folder.tree() + "/greeting"), "hello from n2");
  std::ofstream(seen_at(nodes, 2) + "/greeting", std::ios::app) << " and n3";
  EXPECT_EQ(content(seen_at(nodes, 1) + "/greeting"), "hello from n2 and n3");
}

// GOB_FILE_SEED and GOB_FILE_STEPS repeat a run, or make it longer.
TEST(Files, RandomOperationsOverTwoMountsAgreeWithTheHost) {
  Nodes nodes(2, file_settings());
  const char* const fixed = std::getenv("GOB_FILE_SEED");
  const char* const longer = std::getenv("GOB_FILE_STEPS");
  const std::uint64_t first = fixed != nullptr ? std::strtoull(fixed, nullptr, 0) : 1;
  const std::uint64_t last = fixed != nullptr ? first : 6;
  const int steps = longer != nullptr ? std::atoi(longer) : 1500;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    const SharedFolder folder;
    ASSERT_EQ(nodes.attach(0, "t" + std::to_string(seed), folder.tree()), "");
    const std::string name = "/t" + std::to_string(seed);
    {
      FileModel model(seed, {nodes.mount_of(0) + name, nodes.mount_of(1) + name},
                      folder.reference());
      for (int step = 0; step < steps; ++step) {
        const std::string difference = model.step();
        ASSERT_EQ(difference, "") << "seed " << seed << " step " << step;
      }
      ASSERT_EQ(model.compare_all(), "") << "seed " << seed;
    }
    ASSERT_EQ(nodes.detach(1, name.substr(1)), "");
  }
}

TEST(Files, AppendsOfSeveralNodesAreWholeAndNoneIsLost) {
  constexpr unsigned kWriters = 4;
  constexpr int kRecords = 300;
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  std::vector<pid_t> writers;
  for (unsigned writer = 0; writer < kWriters; ++writer) {
    const pid_t pid = ::fork();
    if (pid != 0) {
      writers.push_back(pid);
      continue;
    }
    const int fd =
        ::open((seen_at(nodes, writer % 2) + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    for (int i = 0; i < kRecords; ++i) {
      // Of odd lengths, across pages.
      std::string record(17 + static_cast<std::size_t>((i * 37 + static_cast<int>(writer)) % 9000),
                         static_cast<char>('a' + writer));
      record += "#" + std::to_string(i) + "\n";
      if (::write(fd, record.data(), record.size()) != static_cast<ssize_t>(record.size()))
        ::_exit(1);
    }
    ::_exit(0);
  }
  for (const pid_t pid : writers) EXPECT_EQ(Nodes::wait_for(pid, 120'000), 0);
  std::vector<int> next(kWriters, 0);
  std::istringstream log(content(seen_at(nodes, 1) + "/log"));
  std::string line;
  while (std::getline(log, line)) {
    const auto writer = static_cast<unsigned>(line[0] - 'a');
    ASSERT_LT(writer, kWriters);
    const auto end = line.find('#');
    ASSERT_EQ(line.find_first_not_of(line[0]), end) << "a torn record";
    ASSERT_EQ(line.substr(end + 1), std::to_string(next[writer]++));
    ASSERT_EQ(end, 17 + static_cast<std::size_t>(
                            ((next[writer] - 1) * 37 + static_cast<int>(writer)) % 9000));
  }
  for (const int count : next) EXPECT_EQ(count, kRecords);
}

TEST(Files, AFileThatIsUnlinkedElsewhereStaysUsableWhileItIsOpen) {
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  const int fd = ::open((seen_at(nodes, 1) + "/short").c_str(), O_RDWR | O_CREAT, 0600);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(::write(fd, "still here", 10), 10);
  ASSERT_EQ(::unlink((seen_at(nodes, 0) + "/short").c_str()), 0);
  char bytes[10] = {};
  EXPECT_EQ(::pread(fd, bytes, 10, 0), 10);
  EXPECT_EQ(std::string(bytes, 10), "still here");
  struct stat status {};
  EXPECT_EQ(::fstat(fd, &status), 0);
  EXPECT_EQ(status.st_nlink, 0u);
  EXPECT_EQ(::access((seen_at(nodes, 1) + "/short").c_str(), F_OK), -1);
  ::close(fd);
}

TEST(Files, ASharedWritableMappingIsRefusedWithTheDocumentedErrno) {
  Nodes nodes(1, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  const int fd = ::open((seen_at(nodes, 0) + "/mapped").c_str(), O_RDWR | O_CREAT, 0600);
  ASSERT_EQ(::ftruncate(fd, 8192), 0);
  EXPECT_EQ(::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
  EXPECT_EQ(errno, ENODEV);
  void* mine = ::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  EXPECT_NE(mine, MAP_FAILED);
  ::munmap(mine, 8192);
  ::close(fd);
}

TEST(Files, MappingsForReadingFollowTheWritesOfOtherNodes) {
  constexpr std::size_t kBytes = 8 * 4096;
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream(seen_at(nodes, 0) + "/mapped") << std::string(kBytes, '.');
  const int writer = ::open((seen_at(nodes, 0) + "/mapped").c_str(), O_RDWR);
  for (unsigned reader_node = 0; reader_node < 2; ++reader_node)
    for (const int kind : {MAP_SHARED, MAP_PRIVATE}) {
      const int fd = ::open((seen_at(nodes, reader_node) + "/mapped").c_str(), O_RDONLY);
      void* at = ::mmap(nullptr, kBytes, PROT_READ, kind, fd, 0);
      ASSERT_NE(at, MAP_FAILED) << std::strerror(errno);
      const volatile char* bytes = static_cast<const volatile char*>(at);
      for (int i = 0; i < 100; ++i) {
        const auto place = static_cast<off_t>((i * 5003) % static_cast<int>(kBytes));
        const char mark = static_cast<char>('a' + i % 26);
        ASSERT_EQ(::pwrite(writer, &mark, 1, place), 1);
        ASSERT_EQ(bytes[place], mark) << "write " << i << " seen at n" << reader_node + 1;
      }
      EXPECT_EQ(::mprotect(at, kBytes, PROT_READ | PROT_WRITE), kind == MAP_SHARED ? -1 : 0);
      ::munmap(at, kBytes);
      ::close(fd);
    }
  ::close(writer);
}

// Writers on two nodes raise the number in each page; readers on both, by read and by mapping,
// never see one go back, and see the last when the writers are done.
TEST(Files, CachedPagesNeverGoBack) {
  constexpr std::size_t kPages = 16;
  constexpr std::uint32_t kRounds = 400;
  Nodes nodes(3, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  const auto path = [&](unsigned node) { return seen_at(nodes, node) + "/numbers"; };
  std::ofstream(path(0)) << std::string(kPages * 4096, '\0');
  std::vector<pid_t> pids;
  for (unsigned writer = 0; writer < 2; ++writer) {
    const pid_t pid = ::fork();
    if (pid != 0) {
      pids.push_back(pid);
      continue;
    }
    // Each has pages of its own, so that a page's numbers have one order.
    const int fd = ::open(path(writer).c_str(), O_WRONLY);
    for (std::uint32_t round = 1; round <= kRounds; ++round)
      for (std::size_t page = writer; page < kPages; page += 2)
        if (::pwrite(fd, &round, 4, static_cast<off_t>(page * 4096)) != 4) ::_exit(1);
    ::_exit(0);
  }
  for (unsigned reader = 0; reader < 3; ++reader) {
    const pid_t pid = ::fork();
    if (pid != 0) {
      pids.push_back(pid);
      continue;
    }
    const int fd = ::open(path(reader).c_str(), O_RDONLY);
    void* at = ::mmap(nullptr, kPages * 4096, PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) ::_exit(2);
    std::uint32_t seen[kPages] = {};
    for (std::size_t done = 0; done < kPages;) {
      done = 0;
      for (std::size_t page = 0; page < kPages; ++page) {
        std::uint32_t number = 0;
        if (page % 3 == 0)
          number = *reinterpret_cast<const volatile std::uint32_t*>(static_cast<char*>(at) +
                                                                    page * 4096);
        else if (::pread(fd, &number, 4, static_cast<off_t>(page * 4096)) != 4)
          ::_exit(3);
        if (number < seen[page]) ::_exit(4);
        seen[page] = number;
        if (number == kRounds) ++done;
      }
    }
    ::_exit(0);
  }
  for (const pid_t pid : pids) EXPECT_EQ(Nodes::wait_for(pid, 120'000), 0);
}

// A file that is read here and there comes whole into the kernel's cache, and stays coherent.
TEST(Files, AFileThatIsReadAtRandomIsFetchedWhole) {
  constexpr std::size_t kPages = 2048;  // an eighth of the budget
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  {
    std::ofstream file(folder.tree() + "/data");
    for (std::size_t page = 0; page < kPages; ++page)
      file << std::string(4096, static_cast<char>('a' + page % 26));
  }
  const int fd = ::open((seen_at(nodes, 1) + "/data").c_str(), O_RDONLY);
  ASSERT_GE(fd, 0);
  void* const at = ::mmap(nullptr, kPages * 4096, PROT_READ, MAP_SHARED, fd, 0);
  ASSERT_NE(at, MAP_FAILED);
  const auto expect = [&](std::size_t page, char byte) {
    char seen = 0;
    ASSERT_EQ(::pread(fd, &seen, 1, static_cast<off_t>(page * 4096 + 7)), 1);
    ASSERT_EQ(seen, byte) << "page " << page;
  };
  for (std::size_t i = 0; i < 40; ++i) {
    const std::size_t page = (i * 1361 + 700) % kPages;
    expect(page, static_cast<char>('a' + page % 26));
  }
  std::vector<unsigned char> there(kPages);
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  do {
    ASSERT_EQ(::mincore(at, kPages * 4096, there.data()), 0);
  } while (std::ranges::count(there, 0) != 0 && std::chrono::steady_clock::now() < give_up);
  EXPECT_EQ(std::ranges::count(there, 0), 0) << "pages are not in the kernel's cache";
  for (std::size_t page = 0; page < kPages; ++page)
    expect(page, static_cast<char>('a' + page % 26));
  const int writer = ::open((seen_at(nodes, 0) + "/data").c_str(), O_WRONLY);
  for (const std::size_t page : {std::size_t{0}, std::size_t{999}, kPages - 1}) {
    ASSERT_EQ(::pwrite(writer, "Z", 1, static_cast<off_t>(page * 4096 + 7)), 1);
    expect(page, 'Z');
  }
  ::close(writer);
  ::munmap(at, kPages * 4096);
  ::close(fd);
}

TEST(Files, HolesAreFoundAndSpaceIsTold) {
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  const int fd = ::open((seen_at(nodes, 1) + "/sparse").c_str(), O_RDWR | O_CREAT, 0600);
  ASSERT_EQ(::ftruncate(fd, 1 << 20), 0);
  ASSERT_EQ(::pwrite(fd, "x", 1, 512 << 10), 1);
  ASSERT_EQ(::fsync(fd), 0);
  EXPECT_EQ(::lseek(fd, 0, SEEK_DATA), 512 << 10);
  EXPECT_EQ(::lseek(fd, 0, SEEK_HOLE), 0);
  EXPECT_EQ(::lseek(fd, (512 << 10) + 4096, SEEK_DATA), -1);
  EXPECT_EQ(errno, ENXIO);
  ::close(fd);
  EXPECT_GT(std::filesystem::space(seen_at(nodes, 1)).capacity, 0u);
}

// --- locks

int try_lock(const std::string& path, short type, off_t start, off_t length) {
  const int fd = ::open(path.c_str(), O_RDWR);
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = start;
  lock.l_len = length;
  const int result = ::fcntl(fd, F_SETLK, &lock) == 0 ? 0 : errno;
  ::close(fd);
  return result;
}

TEST(Files, RecordLocksHoldAcrossNodesAndEndWithTheProcess) {
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  const std::string here = seen_at(nodes, 0) + "/locked";
  const std::string there = seen_at(nodes, 1) + "/locked";
  std::ofstream(here) << "0123456789";
  int told[2];
  ASSERT_EQ(::pipe(told), 0);
  const pid_t holder = ::fork();
  if (holder == 0) {
    const int fd = ::open(there.c_str(), O_RDWR);
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_start = 2;
    lock.l_len = 3;
    if (::fcntl(fd, F_SETLKW, &lock) != 0 || ::write(told[1], "x", 1) != 1) ::_exit(1);
    ::pause();
    ::_exit(0);
  }
  char byte = 0;
  ASSERT_EQ(::read(told[0], &byte, 1), 1);
  EXPECT_TRUE(runs_to_its_end([&] { return try_lock(here, F_RDLCK, 0, 2) == 0; }));
  EXPECT_TRUE(runs_to_its_end([&] { return try_lock(here, F_RDLCK, 4, 1) == EAGAIN; }));
  EXPECT_TRUE(runs_to_its_end([&] {
    const int fd = ::open(here.c_str(), O_RDWR);
    struct flock lock {};
    lock.l_type = F_WRLCK;
    return ::fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type == F_WRLCK && lock.l_start == 2 &&
           lock.l_len == 3 && lock.l_pid == holder;
  }));
  // One that waits gets it when the holder is killed.
  const pid_t waiter = ::fork();
  if (waiter == 0) {
    const int fd = ::open(here.c_str(), O_RDWR);
    struct flock lock {};
    lock.l_type = F_WRLCK;
    ::_exit(::fcntl(fd, F_SETLKW, &lock) == 0 ? 0 : 1);
  }
  ::kill(holder, SIGKILL);
  ::waitpid(holder, nullptr, 0);
  EXPECT_EQ(Nodes::wait_for(waiter, 30'000), 0);
}

TEST(Files, ASignalEndsTheWaitForALock) {
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  const std::string here = seen_at(nodes, 0) + "/locked";
  std::ofstream(here) << "x";
  const int held = ::open(here.c_str(), O_RDWR);
  ASSERT_EQ(::flock(held, LOCK_EX), 0);
  EXPECT_TRUE(runs_to_its_end([&] {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    ::sigaction(SIGALRM, &action, nullptr);
    const int fd = ::open((seen_at(nodes, 1) + "/locked").c_str(), O_RDWR);
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EAGAIN) return false;
    // Again and again: the first may come before the wait.
    ::ualarm(500'000, 500'000);
    return ::flock(fd, LOCK_EX) == -1 && errno == EINTR;
  }));
  ::close(held);
  EXPECT_TRUE(runs_to_its_end([&] {
    const int fd = ::open((seen_at(nodes, 1) + "/locked").c_str(), O_RDWR);
    return ::flock(fd, LOCK_EX) == 0;
  }));
}

TEST(Files, LocksOfANodeThatDiesAreReleased) {
  Nodes nodes(3, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream(folder.tree() + "/locked") << "x";
  const int held = ::open((seen_at(nodes, 2) + "/locked").c_str(), O_RDWR);
  ASSERT_EQ(::flock(held, LOCK_EX), 0);
  const pid_t waiter = ::fork();
  if (waiter == 0) {
    const int fd = ::open((seen_at(nodes, 1) + "/locked").c_str(), O_RDWR);
    ::_exit(::flock(fd, LOCK_EX) == 0 ? 0 : 1);
  }
  nodes.kill_node(2);
  EXPECT_EQ(Nodes::wait_for(waiter, 30'000), 0);
  ::close(held);
}

// --- permissions

TEST(Files, AnotherUserMayWhatTheFilesModesAllow) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become another user";
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  const std::string seen = seen_at(nodes, 1);
  std::ofstream(seen + "/private") << "x";
  ASSERT_EQ(::chmod((seen + "/private").c_str(), 0600), 0);
  std::ofstream(seen + "/public") << "x";
  ASSERT_EQ(::mkdir((seen + "/closed").c_str(), 0700), 0);
  std::ofstream(seen + "/closed/inside") << "x";
  ASSERT_EQ(::mkdir((seen + "/open").c_str(), 0777), 0);
  ASSERT_EQ(::chmod((seen + "/open").c_str(), 01777), 0);
  std::ofstream(seen + "/open/roots") << "x";
  EXPECT_TRUE(runs_to_its_end([&] {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) return false;
    const auto open_error = [&](const std::string& name, int flags) {
      const int fd = ::open((seen + name).c_str(), flags, 0644);
      return fd >= 0 ? 0 : errno;
    };
    struct stat status {};
    return open_error("/private", O_RDONLY) == EACCES && open_error("/public", O_RDONLY) == 0 &&
           open_error("/public", O_WRONLY) == EACCES &&
           open_error("/closed/inside", O_RDONLY) == EACCES &&
           ::access((seen + "/public").c_str(), W_OK) == -1 &&
           ::access((seen + "/public").c_str(), R_OK) == 0 &&
           open_error("/new", O_WRONLY | O_CREAT) == EACCES &&
           open_error("/open/new", O_WRONLY | O_CREAT) == 0 &&
           ::stat((seen + "/open/new").c_str(), &status) == 0 && status.st_uid == 65534 &&
           ::unlink((seen + "/open/roots").c_str()) == -1 && errno == EPERM &&
           ::chown((seen + "/open/new").c_str(), 0, 0) == -1 && errno == EPERM &&
           ::chmod((seen + "/public").c_str(), 0666) == -1 && errno == EPERM;
  }));
}

// As the kernel has it, root aside.
TEST(Files, TrustedAttributesAreShownToAdministratorsOnly) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become another user";
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  const std::string path = seen_at(nodes, 1) + "/file";
  std::ofstream(path) << "x";
  ASSERT_EQ(::setxattr(path.c_str(), "user.seen", "1", 1, 0), 0) << std::strerror(errno);
  ASSERT_EQ(::setxattr(path.c_str(), "trusted.hidden", "1", 1, 0), 0) << std::strerror(errno);
  const auto names = [&] {
    std::array<char, 256> all{};
    const ssize_t bytes = ::listxattr(path.c_str(), all.data(), all.size());
    // How long they are is asked for apart.
    if (bytes < 0 || ::listxattr(path.c_str(), nullptr, 0) != bytes) return std::string("none");
    return std::string(all.data(), static_cast<std::size_t>(bytes));
  };
  EXPECT_NE(names().find("trusted.hidden"), std::string::npos);
  EXPECT_TRUE(runs_to_its_end([&] {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) return false;
    return names() == std::string("user.seen", sizeof "user.seen");
  }));
}

TEST(Files, TheMountsOwnFolderChangesByAttachingOnly) {
  Nodes nodes(1, file_settings());
  const SharedFolder folder;
  EXPECT_TRUE(std::filesystem::is_empty(nodes.mount_of(0)));
  folder.attach(nodes);
  EXPECT_EQ(::mkdir((nodes.mount_of(0) + "/more").c_str(), 0755), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(::rename((nodes.mount_of(0) + "/tree").c_str(), (nodes.mount_of(0) + "/other").c_str()),
            -1);
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(nodes.mount_of(0)))
    names.push_back(entry.path().filename());
  EXPECT_EQ(names, std::vector<std::string>{"tree"});
  EXPECT_NE(nodes.attach(0, "tree", folder.tree()), "");  // the name is taken
  EXPECT_NE(nodes.attach(0, "more", folder.tree() + "/none"), "");
  EXPECT_NE(nodes.attach(0, "more", "relative"), "");
}

}  // namespace
}  // namespace gob
