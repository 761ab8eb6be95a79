// The memory I/O linker: the contract of all I/O linkers, and what a swap file can run into.
#include "libgob/linker/memory_io_linker.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <stdexcept>

#include "tests/linker/io_linker_contract.h"

namespace gob::test {
namespace {

constexpr ContainerId kOne{1};

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    const char* parent = std::getenv("TMPDIR");
    path_ = std::string(parent == nullptr ? "/tmp" : parent) + "/gob-test-XXXXXX";
    if (::mkdtemp(path_.data()) == nullptr) throw std::runtime_error("mkdtemp " + path_);
  }
  ~TemporaryDirectory() { ::rmdir(path_.c_str()); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::unique_ptr<MemoryIoLinker> make(const MemoryIoLinker::Config& config) {
  auto linker = MemoryIoLinker::create(config);
  if (!linker) throw std::runtime_error(linker.error().message());
  return std::move(linker).value();
}

std::unique_ptr<IoLinker> make_default() {
  const TemporaryDirectory directory;  // goes at once: the file has no name
  return make({.directory = directory.path(), .max_bytes = 64 << 20});
}

const auto kFactories =
    ::testing::Values(IoLinkerFactory{.name = "swap_file", .make = make_default});
const auto kName = [](const auto& instance) { return instance.param.name; };
INSTANTIATE_TEST_SUITE_P(Memory, IoLinkerContract, kFactories, kName);
INSTANTIATE_TEST_SUITE_P(Memory, ForgetfulIoLinkerContract, kFactories, kName);

// The first descriptor of this process open on a file under `directory`.
int descriptor_below(const std::string& directory) {
  DIR* listing = ::opendir("/proc/self/fd");
  int found = -1;
  while (const dirent* entry = ::readdir(listing)) {
    char target[4096];
    const std::string link = std::string("/proc/self/fd/") + entry->d_name;
    const ssize_t size = ::readlink(link.c_str(), target, sizeof target);
    if (size > 0 && std::string(target, static_cast<std::size_t>(size)).starts_with(directory))
      found = std::atoi(entry->d_name);
  }
  ::closedir(listing);
  return found;
}

TEST(MemoryIoLinkerTest, ReadsAreTakenHoweverManyAreUnderWay) {
  const TemporaryDirectory directory;
  auto linker =
      make({.directory = directory.path(), .max_bytes = 100 * kPageSize, .max_under_way = 1});
  const PageSet pages{kOne, 0, 0xffff};
  ASSERT_TRUE(linker->flush_page(pages, bytes_of(pages, 1).data()));
  const PageSet more{kOne, 1, 1};
  const Status later = linker->flush_page(more, bytes_of(more, 1).data());
  ASSERT_FALSE(later);
  EXPECT_EQ(later.error().code, ErrorCode::kUnavailable);
  finish(*linker, 1);
  for (unsigned i = 0; i < 16; ++i)
    ASSERT_TRUE(linker->first_touch(pages.with(std::uint64_t{1} << i))) << i;
  for (const Finished& read : finish(*linker, 16)) EXPECT_TRUE(read.completion.status);
}

TEST(MemoryIoLinkerTest, FullSwapRefusesAndLosesNothing) {
  const TemporaryDirectory directory;
  auto linker = make({.directory = directory.path(), .max_bytes = 100 * kPageSize});
  const PageSet first{kOne, 0, ~std::uint64_t{0}};
  ASSERT_TRUE(linker->flush_page(first, bytes_of(first, 1).data()));
  const PageSet second{kOne, 1, ~std::uint64_t{0}};
  const Status full = linker->flush_page(second, bytes_of(second, 1).data());
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, ErrorCode::kNoSpace);
  EXPECT_NE(full.error().message().find("swap_bytes"), std::string::npos);
  finish(*linker, 1);
  const PageSet fits = second.with(0xfffffffff);  // 36 pages
  ASSERT_TRUE(linker->flush_page(fits, bytes_of(fits, 1).data()));
  EXPECT_TRUE(finish(*linker, 1)[0].completion.status);
  ASSERT_TRUE(linker->first_touch(first));
  EXPECT_EQ(finish(*linker, 1)[0].bytes, bytes_of(first, 1));
  // What is freed can be used again.
  linker->free_page(first);
  ASSERT_TRUE(linker->flush_page(first, bytes_of(first, 2).data()));
  EXPECT_TRUE(finish(*linker, 1)[0].completion.status);
}

TEST(MemoryIoLinkerTest, ChangedBytesOnTheDeviceAreAnErrorNotData) {
  const TemporaryDirectory directory;
  auto linker = make({.directory = directory.path(), .max_bytes = 64 << 20});
  const PageSet pages{kOne, 0, 0xff};
  ASSERT_TRUE(linker->flush_page(pages, bytes_of(pages, 1).data()));
  ASSERT_TRUE(finish(*linker, 1)[0].completion.status);
  const std::string path = "/proc/self/fd/" + std::to_string(descriptor_below(directory.path()));
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(file) << path;
  const char flipped = 'x';
  ASSERT_EQ(::pwrite(file.get(), &flipped, 1, 3 * kPageSize + 77), 1);
  ASSERT_TRUE(linker->first_touch(pages));
  const auto finished = finish(*linker, 1);
  ASSERT_FALSE(finished[0].completion.status);
  EXPECT_EQ(finished[0].completion.status.error().errno_value, EIO);
  EXPECT_TRUE(finished[0].bytes.empty());
  // The other pages are sound.
  ASSERT_TRUE(linker->first_touch(pages.with(0xf0)));
  EXPECT_EQ(finish(*linker, 1)[0].bytes, bytes_of(pages.with(0xf0), 1));
}

TEST(MemoryIoLinkerTest, DirectoryThatIsNotThereIsNamed) {
  const auto linker = MemoryIoLinker::create({.directory = "/nonexistent/swap"});
  ASSERT_FALSE(linker);
  EXPECT_NE(linker.error().message().find("/nonexistent/swap"), std::string::npos);
  EXPECT_NE(linker.error().message().find("swap_dir"), std::string::npos);
}

TEST(MemoryIoLinkerTest, SwapFileLeavesNothingBehind) {
  const TemporaryDirectory directory;
  {
    auto linker = make({.directory = directory.path()});
    const PageSet pages{kOne, 0, 0xff};
    ASSERT_TRUE(linker->flush_page(pages, bytes_of(pages, 1).data()));
    finish(*linker, 1);
  }
  EXPECT_EQ(::rmdir(directory.path().c_str()), 0) << "the directory is not empty";
  ASSERT_EQ(::mkdir(directory.path().c_str(), 0700), 0);
}

// On a file system of 2 MiB, in a process with a mount namespace of its own. Returns the number of
// the expectation that failed, or 0.
int fill_small_disk(const std::string& directory) {
  if (::geteuid() != 0 && ::unshare(CLONE_NEWUSER) != 0) return 1;
  if (::unshare(CLONE_NEWNS) != 0) return 2;
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return 3;
  if (::mount("gob-test", directory.c_str(), "tmpfs", 0, "size=2m") != 0) return 4;
  auto created = MemoryIoLinker::create({.directory = directory});
  if (!created) return 5;
  IoLinker& linker = **created;
  std::uint64_t kept = 0;
  bool full = false;
  for (std::uint64_t stripe = 0; stripe < 20 && !full; ++stripe) {
    const PageSet pages{kOne, stripe, ~std::uint64_t{0}};
    if (!linker.flush_page(pages, bytes_of(pages, 1).data())) return 6;
    const auto finished = finish(linker, 1);
    if (finished.size() != 1) return 7;
    if (finished[0].completion.status) {
      ++kept;
      continue;
    }
    full = true;
    if (finished[0].completion.status.error().code != ErrorCode::kNoSpace) return 8;
    if (linker.held(pages).mask != 0) return 9;
  }
  if (!full || kept == 0) return 10;
  for (std::uint64_t stripe = 0; stripe < kept; ++stripe) {
    const PageSet pages{kOne, stripe, ~std::uint64_t{0}};
    if (!linker.first_touch(pages)) return 11;
    const auto finished = finish(linker, 1);
    if (finished.size() != 1 || finished[0].bytes != bytes_of(pages, 1)) return 12;
  }
  // The room that the failed flush did not take is still to be had.
  linker.free_page({kOne, 0, ~std::uint64_t{0}});
  const PageSet again{kOne, 30, ~std::uint64_t{0}};
  if (!linker.flush_page(again, bytes_of(again, 1).data())) return 13;
  const auto finished = finish(linker, 1);
  return finished.size() == 1 && finished[0].completion.status ? 0 : 14;
}

TEST(MemoryIoLinkerTest, FullDiskFailsTheFlushAndLosesNothing) {
  const TemporaryDirectory directory;
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) ::_exit(fill_small_disk(directory.path()));
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace gob::test
