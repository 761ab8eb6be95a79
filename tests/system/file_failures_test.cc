// Attached files when something ends: a home, a mount, an attachment. Nothing hangs, nothing is
// wrong.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <fstream>
#include <thread>

#include "libgob/base/unique_fd.h"
#include "tests/system/failing_disk.h"
#include "tests/system/file_nodes.h"

namespace gob {
namespace {

int open_error(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY);
  if (fd < 0) return errno;
  ::close(fd);
  return 0;
}

TEST(FileFailures, WithoutTheirHomeFilesGiveAnErrorAndWithItTheyAreBack) {
  Nodes nodes(3, file_settings());
  const SharedFolder folder;
  folder.attach(nodes, 2);
  std::ofstream(seen_at(nodes, 0) + "/kept") << "kept";
  const int open = ::open((seen_at(nodes, 1) + "/kept").c_str(), O_RDWR);
  ASSERT_GE(open, 0);
  ASSERT_EQ(::fsync(open), 0);
  nodes.kill_node(2);
  char bytes[4] = {};
  EXPECT_EQ(::pread(open, bytes, 4, 0), -1);
  EXPECT_EQ(errno, EIO);
  EXPECT_EQ(open_error(seen_at(nodes, 1) + "/kept"), EIO);
  // The mount itself lives.
  EXPECT_TRUE(std::filesystem::exists(nodes.mount_of(1)));
  nodes.start(2);
  nodes.wait_ready();
  // It serves before the others have heard that it does.
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (open_error(seen_at(nodes, 1) + "/kept") == EIO &&
         std::chrono::steady_clock::now() < give_up) {
  }
  EXPECT_EQ(content(seen_at(nodes, 1) + "/kept"), "kept");
  EXPECT_EQ(content(seen_at(nodes, 2) + "/kept"), "kept");
  // What was open before belongs to a home that is no more.
  EXPECT_EQ(::pread(open, bytes, 4, 0), -1);
  EXPECT_EQ(errno, ESTALE);
  ::close(open);
}

rlim_t open_files(pid_t pid) {
  rlim_t count = 0;
  for ([[maybe_unused]] const auto& each :
       std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd"))
    ++count;
  return count;
}

void limit_open_files(const Nodes& nodes, unsigned node, rlim_t more) {
  rlimit limit{};
  ASSERT_EQ(::prlimit(nodes.pid_of(node), RLIMIT_NOFILE, nullptr, &limit), 0);
  limit.rlim_cur = open_files(nodes.pid_of(node)) + more;
  ASSERT_EQ(::prlimit(nodes.pid_of(node), RLIMIT_NOFILE, &limit, nullptr), 0);
}

// Many files that others read cost a node nothing; too many that its own programs read cost these
// an error, and not the node its life.
TEST(FileFailures, ANodeThatRunsOutOfDescriptorsLives) {
  constexpr int kFiles = 200;
  Nodes nodes(3, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  for (int i = 0; i < kFiles; ++i)
    std::ofstream(folder.tree() + "/" + std::to_string(i)) << "file " << i;
  for (const unsigned node : {1U, 2U}) {
    ASSERT_NO_FATAL_FAILURE(limit_open_files(nodes, node, 50));
  }
  int read = 0;
  for (int i = 0; i < kFiles; ++i)
    read += content(seen_at(nodes, 1) + "/" + std::to_string(i)) == "file " + std::to_string(i);
  EXPECT_GT(read, 20);
  EXPECT_LT(read, kFiles);
  for (int i = 0; i < kFiles; ++i)
    EXPECT_EQ(content(seen_at(nodes, 0) + "/" + std::to_string(i)), "file " + std::to_string(i));
  EXPECT_EQ(content(seen_at(nodes, 2) + "/0"), "file 0");
  EXPECT_NE(nodes.log_of(1).find("descriptor"), std::string::npos) << nodes.log_of(1);
  ASSERT_NO_FATAL_FAILURE(limit_open_files(nodes, 1, 50));  // and it goes on
  EXPECT_EQ(content(seen_at(nodes, 1) + "/" + std::to_string(kFiles - 1)),
            "file " + std::to_string(kFiles - 1));
  for (unsigned node = 0; node < 3; ++node) EXPECT_TRUE(nodes.stat(node).ok());
  // Nor does it need one for a container that others make, or for pages that a home hands over
  // which leaves.
  gobelins::Connection gob(nodes.socket_of(1));
  gobelins::Connection theirs(nodes.socket_of(2));
  for (const unsigned node : {1U, 2U}) {
    ASSERT_NO_FATAL_FAILURE(limit_open_files(nodes, node, 0));
  }
  gob.create("made", 4096);
  EXPECT_THROW(static_cast<void>(theirs.open("made").map()), std::system_error);
  EXPECT_EQ(nodes.stop_node(0), 0);
  for (const unsigned node : {1U, 2U}) {
    ASSERT_NO_FATAL_FAILURE(limit_open_files(nodes, node, 50));
  }
  gob.open("made").map().as<int>()[0] = 7;
  EXPECT_EQ(theirs.open("made").map().as<int>()[0], 7);
}

// Nor does a home run out of them that other nodes' kernels know many files of.
TEST(FileFailures, AHomeThatIsShortOfDescriptorsHasKernelsForget) {
  constexpr int kFiles = 3000;
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  for (int i = 0; i < kFiles; ++i)
    std::ofstream(folder.tree() + "/" + std::to_string(i)) << "file " << i;
  ASSERT_NO_FATAL_FAILURE(limit_open_files(nodes, 0, 2400));
  for (int i = 0; i < kFiles + 500; ++i) {
    const std::string name = std::to_string(i % kFiles);
    ASSERT_EQ(content(seen_at(nodes, 1) + "/" + name), "file " + name);
  }
}

// What nodes hold of a file is read on while its home is dead; when that is back the file is
// another.
TEST(FileFailures, PagesHeldElsewhereAreReadOnWithoutTheHome) {
  constexpr std::size_t kBytes = 64 * 4096;
  auto settings = file_settings();
  settings.read_ahead_pages = 0;
  Nodes nodes(3, settings);
  const SharedFolder folder;
  folder.attach(nodes, 2);
  std::ofstream(folder.tree() + "/held") << std::string(kBytes, 'h');
  const int whole = ::open((seen_at(nodes, 0) + "/held").c_str(), O_RDONLY);
  const int part = ::open((seen_at(nodes, 1) + "/held").c_str(), O_RDONLY);
  ASSERT_GE(whole, 0);
  ASSERT_GE(part, 0);
  std::string seen(kBytes, '\0');
  ASSERT_EQ(::pread(whole, seen.data(), kBytes, 0), static_cast<ssize_t>(kBytes));
  char byte = 0;
  ASSERT_EQ(::pread(part, &byte, 1, 0), 1);
  nodes.kill_node(2);
  for (const int fd : {whole, part}) {
    std::fill(seen.begin(), seen.end(), '\0');
    ASSERT_EQ(::pread(fd, seen.data(), kBytes, 0), static_cast<ssize_t>(kBytes))
        << std::strerror(errno);
    EXPECT_EQ(seen, std::string(kBytes, 'h'));
  }
  nodes.start(2);
  nodes.wait_ready();
  std::ofstream(folder.tree() + "/held") << std::string(kBytes, 'n');
  // The kernel keeps nothing of the old file.
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  for (const int fd : {whole, part}) {
    while (::pread(fd, &byte, 1, 0) == 1 && std::chrono::steady_clock::now() < give_up)
      EXPECT_EQ(byte, 'h');
    EXPECT_EQ(::pread(fd, &byte, 1, 0), -1);
    EXPECT_EQ(errno, ESTALE);
    ::close(fd);
  }
}

// What other nodes have in memory is served without the home; what they do not have is an error.
TEST(FileFailures, PagesThatOthersHaveAreReadWithoutTheirHome) {
  constexpr std::size_t kPage = 4096;
  constexpr std::size_t kPages = 4096;
  DaemonConfig settings = file_settings();
  settings.page_timeout_ms = 3000;
  settings.file_timeout_ms = 3000;
  Nodes nodes(3, settings);
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream file(folder.tree() + "/large");
  for (std::size_t i = 0; i < kPages; ++i)
    file << std::string(kPage, static_cast<char>('a' + i % 26));
  file.close();
  const int two = ::open((seen_at(nodes, 1) + "/large").c_str(), O_RDWR);
  const int three = ::open((seen_at(nodes, 2) + "/large").c_str(), O_RDWR);
  std::string bytes(8 * kPage, '?');
  ASSERT_EQ(::pread(two, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  nodes.kill_node(0);
  for (const int fd : {two, three}) {
    std::string again(8 * kPage, '?');
    EXPECT_EQ(::pread(fd, again.data(), again.size(), 0), static_cast<ssize_t>(again.size()))
        << std::strerror(errno);
    EXPECT_EQ(again, bytes);
    char byte = 0;
    EXPECT_EQ(::pread(fd, &byte, 1, (kPages - 1) * kPage), -1);
    EXPECT_EQ(errno, EIO);
    ::close(fd);
  }
}

// The manager of a page and its home are gone at once: nobody left knows whether the page was newer
// than the file, until the home is back and begins anew with what the file has.
TEST(FileFailures, PagesLostWithManagerAndHomeAreReadAgainOnceTheHomeIsBack) {
  constexpr std::size_t kPage = 4096;
  constexpr std::size_t kStripes = 6;  // of 64 pages, managed by the three nodes in turn
  auto settings = file_settings();
  settings.read_ahead_pages = 0;
  Nodes nodes(3, settings);
  const SharedFolder folder;
  folder.attach(nodes, 2);
  const std::string bytes(kStripes * 64 * kPage, 'b');
  std::ofstream(folder.tree() + "/data") << bytes;
  const std::string path = seen_at(nodes, 0) + "/data";
  const int fd = ::open(path.c_str(), O_RDWR);
  const int reader = ::open(path.c_str(), O_RDONLY);
  ASSERT_GE(fd, 0);
  ASSERT_GE(reader, 0);
  char byte = 0;
  ASSERT_EQ(::pread(reader, &byte, 1, 0), 1);
  for (const unsigned node : {1u, 2u}) ::kill(nodes.pid_of(node), SIGKILL);
  for (const unsigned node : {1u, 2u}) nodes.kill_node(node);
  for (std::size_t stripe = 0; stripe < kStripes; ++stripe) {
    EXPECT_EQ(::pread(fd, &byte, 1, static_cast<off_t>((stripe * 64 + 9) * kPage)), -1);
    EXPECT_EQ(errno, EIO) << "stripe " << stripe;
  }
  nodes.start(2);
  nodes.wait_ready();
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (open_error(path) != 0 && std::chrono::steady_clock::now() < give_up) {
  }
  EXPECT_EQ(content(path), bytes);
  EXPECT_EQ(::pread(fd, &byte, 1, 9 * kPage), -1);
  EXPECT_EQ(errno, ESTALE);
  ::close(fd);
  ::close(reader);
}

TEST(FileFailures, ANodeThatOnlyReadLosesNothingWhenItDies) {
  Nodes nodes(3, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream(seen_at(nodes, 1) + "/data") << std::string(100'000, 'd');
  EXPECT_EQ(content(seen_at(nodes, 2) + "/data").size(), 100'000u);
  nodes.kill_node(2);
  EXPECT_EQ(content(seen_at(nodes, 1) + "/data"), std::string(100'000, 'd'));
  EXPECT_EQ(content(folder.tree() + "/data"), std::string(100'000, 'd'));
}

TEST(FileFailures, ABusyMountEndsWithItsNode) {
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream(folder.tree() + "/data") << "data";
  const int open = ::open((seen_at(nodes, 1) + "/data").c_str(), O_RDONLY);
  ASSERT_GE(open, 0);
  EXPECT_EQ(nodes.stop_node(1), 0);
  char byte = 0;
  EXPECT_EQ(::pread(open, &byte, 1, 0), -1);
  EXPECT_TRUE(errno == ENOTCONN || errno == ECONNABORTED) << std::strerror(errno);
  ::close(open);
  EXPECT_TRUE(std::filesystem::is_empty(nodes.mount_of(1)));
  nodes.start(1);
  nodes.wait_ready();
  EXPECT_EQ(content(seen_at(nodes, 1) + "/data"), "data");
}

// Short of processors for longer than a dead machine would be waited for: programs wait with it.
TEST(FileFailures, AHomeThatStandsStillIsWaitedFor) {
  constexpr std::size_t kBytes = std::size_t{8} << 20;
  DaemonConfig settings = file_settings();
  settings.peer_timeout_ms = 1000;
  settings.stall_timeout_ms = 60'000;  // what stands still longer is no subject of this test
  Nodes nodes(2, settings);
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream(folder.tree() + "/large") << std::string(kBytes, 'l');
  ASSERT_EQ(open_error(seen_at(nodes, 1) + "/large"), 0);
  ASSERT_TRUE(nodes.suspend(0));
  const pid_t program = ::fork();
  if (program == 0) {
    const bool read = content(seen_at(nodes, 1) + "/large") == std::string(kBytes, 'l');
    std::ofstream file(seen_at(nodes, 1) + "/new");
    file << "new" << std::flush;
    ::_exit(read && file.good() ? 0 : 1);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(6 * settings.peer_timeout_ms));
  ASSERT_TRUE(nodes.resume(0));
  EXPECT_EQ(Nodes::wait_for(program, 60'000), 0);
  EXPECT_EQ(content(folder.tree() + "/new"), "new");
  EXPECT_EQ(nodes.log_of(1).find(" is down"), std::string::npos);
}

// The system call that a thread of this name waits in; 0: none.
long call_of_thread(pid_t pid, const std::string& name) {
  for (const auto& thread :
       std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task")) {
    std::string named;
    long call = 0;  // the file says "running" if there is none
    std::getline(std::ifstream(thread.path() / "comm"), named);
    if (named == name && std::ifstream(thread.path() / "syscall") >> call) return call;
  }
  return 0;
}

// A thread that waits for an answer of the very gobd that is killed must not keep it alive: the
// kernel would hold programs and other nodes for as long.
TEST(FileFailures, AKilledNodeEndsThoughItWaitsForItself) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to open a file by its handle";
  constexpr std::size_t kPages = 2048;  // an eighth of the budget: it is fetched whole
  constexpr int kEndTimeoutMs = 60'000;
  DaemonConfig settings = file_settings();
  settings.peer_timeout_ms = settings.page_timeout_ms = settings.file_timeout_ms =
      settings.stall_timeout_ms = 120'000;
  Nodes nodes(2, settings);
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream(folder.tree() + "/data") << std::string(kPages * 4096, 'd');
  const int fd = ::open((seen_at(nodes, 1) + "/data").c_str(), O_RDONLY);
  ASSERT_EQ(::posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), 0);
  const auto read_page = [&](std::size_t i) {
    char byte = 0;
    return ::pread(fd, &byte, 1, static_cast<off_t>((i * 1361 + 700) % kPages * 4096)) == 1;
  };
  for (std::size_t i = 0; i < 15; ++i) ASSERT_TRUE(read_page(i));
  ASSERT_TRUE(nodes.suspend(0));
  const pid_t reader = ::fork();  // with this read the fetch begins, and waits for the home
  if (reader == 0) ::_exit(read_page(15) ? 0 : 1);
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  const auto opens = [&] {
    return call_of_thread(nodes.pid_of(1), "gob-mount-fetch") == SYS_open_by_handle_at;
  };
  while (!opens() && std::chrono::steady_clock::now() < give_up) {
  }
  EXPECT_TRUE(opens());
  // Small reads are held back for the sake of the fetch, but do not wait for what it waits for:
  // this page is in the node's memory.
  EXPECT_EQ(::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
  const pid_t held = ::fork();
  if (held == 0) ::_exit(read_page(3) ? 0 : 1);
  EXPECT_EQ(Nodes::wait_for(held, kEndTimeoutMs), 0);
  const UniqueFd ends(static_cast<int>(::syscall(SYS_pidfd_open, nodes.pid_of(1), 0)));
  EXPECT_EQ(::kill(nodes.pid_of(1), SIGKILL), 0);
  pollfd waiting{ends.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&waiting, 1, kEndTimeoutMs), 1) << "the killed gobd is still there";
  ::umount2(nodes.mount_of(1).c_str(), MNT_FORCE);  // should it be: so that this test ends
  nodes.kill_node(1);
  EXPECT_EQ(Nodes::wait_for(reader, kEndTimeoutMs), 1);
  EXPECT_TRUE(nodes.resume(0));
  ::close(fd);
}

TEST(FileFailures, AStaleMountIsReplaced) {
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream(folder.tree() + "/data") << "data";
  nodes.kill_node(1);
  EXPECT_EQ(open_error(seen_at(nodes, 1) + "/data"), ENOTCONN);
  nodes.start(1);
  nodes.wait_ready();
  EXPECT_EQ(content(seen_at(nodes, 1) + "/data"), "data");
}

TEST(FileFailures, AnAdministratorsUnmountDoesNotHurtTheNode) {
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream(folder.tree() + "/data") << "data";
  ASSERT_EQ(::umount(nodes.mount_of(1).c_str()), 0);
  EXPECT_TRUE(std::filesystem::is_empty(nodes.mount_of(1)));
  EXPECT_EQ(content(seen_at(nodes, 0) + "/data"), "data");
  EXPECT_TRUE(nodes.run(1, [](gobelins::Connection& gob) {
    gob.create("memory", 4096);
    return true;
  }));
}

TEST(FileFailures, WhatIsDetachedIsGoneAndTheFilesStay) {
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  const int open = ::open((seen_at(nodes, 1) + "/data").c_str(), O_RDWR | O_CREAT, 0644);
  ASSERT_EQ(::write(open, "data", 4), 4);
  ASSERT_EQ(nodes.detach(1, "tree"), "");
  EXPECT_EQ(open_error(seen_at(nodes, 1) + "/data"), ENOENT);
  EXPECT_EQ(open_error(seen_at(nodes, 0) + "/data"), ENOENT);
  EXPECT_EQ(::write(open, "more", 4), -1);
  EXPECT_EQ(errno, ESTALE);
  ::close(open);
  EXPECT_EQ(content(folder.tree() + "/data"), "data");
  EXPECT_NE(nodes.detach(1, "tree"), "");
}

TEST(FileFailures, AFullDiskReachesTheWriter) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to mount a small file system";
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  ASSERT_EQ(::mount("tmpfs", folder.tree().c_str(), "tmpfs", 0, "size=1m"), 0);
  folder.attach(nodes);
  const int fd = ::open((seen_at(nodes, 1) + "/big").c_str(), O_WRONLY | O_CREAT, 0644);
  const std::string bytes(256 << 10, 'x');
  int error = 0;
  for (int i = 0; i < 16 && error == 0; ++i)
    if (::write(fd, bytes.data(), bytes.size()) < 0) error = errno;
  if (error == 0 && ::fsync(fd) != 0) error = errno;
  EXPECT_EQ(error, ENOSPC);
  ::close(fd);
  EXPECT_EQ(nodes.detach(0, "tree"), "");
  EXPECT_EQ(::umount2(folder.tree().c_str(), MNT_DETACH), 0);
}

// What write(2) took and the disk does not is told at fsync(2), whichever way the bytes went.
TEST(FileFailures, AFailingDiskReachesTheWritersFsync) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to make a disk that fails";
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  FailingDisk disk(folder.tree());
  ASSERT_TRUE(disk.ok()) << "no loop device with ext4: " << std::strerror(errno);
  folder.attach(nodes);
  EXPECT_TRUE(runs_to_its_end([&] {
    const std::string bytes(64 << 10, 'x');
    const auto size = static_cast<ssize_t>(bytes.size());
    const int written = ::open((seen_at(nodes, 1) + "/written").c_str(), O_RDWR | O_CREAT, 0644);
    const int mapped = ::open((seen_at(nodes, 1) + "/mapped").c_str(), O_RDWR | O_CREAT, 0644);
    for (const int fd : {written, mapped})
      if (::write(fd, bytes.data(), bytes.size()) != size || ::fsync(fd) != 0) return false;
    gobelins::Connection gob(nodes.socket_of(1));
    const auto mapping = gob.open_file(mapped).map(0, bytes.size());
    std::memset(mapping.data(), 'y', bytes.size());
    if (::fsync(mapped) != 0) return false;
    if (!disk.fail()) return false;
    std::memset(mapping.data(), 'z', bytes.size());
    int errors = 0;
    if (::pwrite(written, bytes.data(), bytes.size(), 0) < 0)
      errors += errno == EIO ? 1 : 0;
    else if (::fsync(written) != 0)
      errors += errno == EIO ? 1 : 0;
    if (::fsync(mapped) != 0) errors += errno == EIO ? 1 : 0;
    // Memory keeps what the disk did not take.
    char seen = 0;
    if (::pread(mapped, &seen, 1, 0) != 1 || seen != 'z') return false;
    return errors == 2;
  }));
  static_cast<void>(nodes.detach(0, "tree"));
}

}  // namespace
}  // namespace gob
