// The file I/O linker: the contract of all I/O linkers, and what files can do.
#include "libgob/linker/file_io_linker.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <stdexcept>

#include "libgob/linker/backing_file.h"
#include "tests/linker/io_linker_contract.h"

namespace {

// What a test does when the next bytes are about to go to the file, in the thread that writes.
std::atomic<bool> before_write = false;
std::function<void()> about_to_write;

}  // namespace

// In place of the C library's.
extern "C" ssize_t pwrite(int file, const void* bytes, size_t count, off_t offset) {
  if (before_write.exchange(false)) about_to_write();
  return ::syscall(SYS_pwrite64, file, bytes, count, offset);
}

namespace gob::test {
namespace {

constexpr ContainerId kOne{1};
constexpr ContainerId kTwo{2};
constexpr std::uint64_t kRoom = std::uint64_t{64} << 20;

UniqueFd empty_file() {
  UniqueFd file(::memfd_create("file-io-linker-test", MFD_CLOEXEC));
  if (!file) throw std::runtime_error("memfd_create");
  return file;
}

std::unique_ptr<FileIoLinker> make_linker() {
  auto linker = FileIoLinker::create(1024);
  if (!linker) throw std::runtime_error(linker.error().message());
  return std::move(linker).value();
}

std::unique_ptr<IoLinker> make_default() {
  auto linker = make_linker();
  linker->bind(kOne, std::make_shared<BackingFile>(empty_file(), kRoom));
  linker->bind(kTwo, std::make_shared<BackingFile>(empty_file(), kRoom));
  return linker;
}

INSTANTIATE_TEST_SUITE_P(File, IoLinkerContract,
                         ::testing::Values(IoLinkerFactory{.name = "file", .make = make_default}),
                         [](const auto& instance) { return instance.param.name; });

// A file keeps what it was given: freeing a page or a container does not make it forget.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ForgetfulIoLinkerContract);

class FileIoLinkerTest : public ::testing::Test {
 protected:
  // Binds a file whose write-back stops at `size`; the test keeps a descriptor of it.
  int bind(std::uint64_t size) {
    UniqueFd file = empty_file();
    kept_.reset(::dup(file.get()));
    backing_ = std::make_shared<BackingFile>(std::move(file), size);
    linker_->bind(kOne, backing_);
    return kept_.get();
  }
  Finished one() {
    auto finished = finish(*linker_, 1);
    if (finished.size() != 1) throw std::runtime_error("no completion");
    return std::move(finished[0]);
  }

  std::unique_ptr<FileIoLinker> linker_ = make_linker();
  std::shared_ptr<BackingFile> backing_;
  UniqueFd kept_;
};

TEST_F(FileIoLinkerTest, ReadsZerosBeyondTheEndOfTheFile) {
  const int file = bind(kRoom);
  ASSERT_EQ(::pwrite(file, "abc", 3, kPageSize), 3);
  ASSERT_TRUE(linker_->first_touch({kOne, 0, 0b1110}));
  const Finished read = one();
  ASSERT_TRUE(read.completion.status);
  std::vector<std::byte> expected(3 * kPageSize);
  expected[0] = std::byte{'a'};
  expected[1] = std::byte{'b'};
  expected[2] = std::byte{'c'};
  EXPECT_EQ(read.bytes, expected);
}

TEST_F(FileIoLinkerTest, WriteBackNeverMakesTheFileLongerThanItsSize) {
  const int file = bind(kPageSize + 10);
  const PageSet pages{kOne, 0, 0b1111};
  ASSERT_TRUE(linker_->flush_page(pages, bytes_of(pages, 1).data()));
  ASSERT_TRUE(one().completion.status);
  EXPECT_EQ(::lseek(file, 0, SEEK_END), static_cast<off_t>(kPageSize) + 10);
  backing_->set_size(2 * kPageSize);
  ASSERT_TRUE(linker_->flush_page(pages, bytes_of(pages, 1).data()));
  ASSERT_TRUE(one().completion.status);
  EXPECT_EQ(::lseek(file, 0, SEEK_END), static_cast<off_t>(2 * kPageSize));
}

TEST_F(FileIoLinkerTest, AWriteBackThatIsUnderWayDoesNotUndoACut) {
  const int file = bind(2 * kPageSize);
  // Another program has mapped the file since.
  const auto later =
      std::make_shared<BackingFile>(UniqueFd(::dup(file)), 2 * kPageSize, backing_.get());
  std::future<void> cut;
  about_to_write = [&] {
    cut = std::async(std::launch::async, [&] {
      later->resize([&] { return ::ftruncate(file, 100) == 0 ? 100 : kRoom; });
    });
    cut.wait_for(std::chrono::milliseconds(100));  // in which it would have cut
  };
  before_write = true;
  ASSERT_TRUE(linker_->flush_page({kOne, 0, 0b11}, bytes_of({kOne, 0, 0b11}, 1).data()));
  ASSERT_TRUE(one().completion.status);
  cut.get();
  EXPECT_EQ(::lseek(file, 0, SEEK_END), 100);
}

TEST_F(FileIoLinkerTest, InvalidatedAndFreedPagesStayInTheFile) {
  bind(kRoom);
  const PageSet pages{kOne, 2, 0xff};
  ASSERT_TRUE(linker_->flush_page(pages, bytes_of(pages, 1).data()));
  one();
  linker_->invalidate_page(pages);
  linker_->free_page(pages);
  ASSERT_TRUE(linker_->first_touch(pages));
  EXPECT_EQ(one().bytes, bytes_of(pages, 1));
}

TEST_F(FileIoLinkerTest, NeighboursReadTogetherArriveEachForItself) {
  bind(kRoom);
  const PageSet all{kOne, 0, ~std::uint64_t{0}};
  const PageSet next{kOne, 1, ~std::uint64_t{0}};
  ASSERT_TRUE(linker_->flush_page(all, bytes_of(all, 1).data()));
  ASSERT_TRUE(linker_->flush_page(next, bytes_of(next, 1).data()));
  finish(*linker_, 2);
  std::size_t asked = 0;
  for (std::uint64_t bit = 0; bit < 64; bit += 8, ++asked)
    ASSERT_TRUE(linker_->first_touch(all.with(std::uint64_t{0xff} << bit)));
  ASSERT_TRUE(linker_->first_touch(next));
  for (const Finished& each : finish(*linker_, asked + 1))
    EXPECT_EQ(each.bytes, bytes_of(each.completion.pages, 1));
}

TEST_F(FileIoLinkerTest, AStripeIsReadAfterWhatWasWrittenToItBefore) {
  bind(kRoom);
  const PageSet pages{kOne, 7, 0xff};
  for (unsigned version = 1; version < 50; ++version) {
    ASSERT_TRUE(linker_->flush_page(pages, bytes_of(pages, version).data()));
    ASSERT_TRUE(linker_->first_touch(pages));
    EXPECT_EQ(finish(*linker_, 2)[1].bytes, bytes_of(pages, version));
  }
}

TEST_F(FileIoLinkerTest, AFullDiskIsSaidToBeFull) {
  UniqueFd full(::open("/dev/full", O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(full);
  linker_->bind(kOne, std::make_shared<BackingFile>(std::move(full), kRoom));
  ASSERT_TRUE(linker_->flush_page({kOne, 0, 1}, bytes_of({kOne, 0, 1}, 1).data()));
  const Status status = one().completion.status;
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kNoSpace);
  EXPECT_EQ(status.error().errno_value, ENOSPC);
}

TEST_F(FileIoLinkerTest, AFileThatCannotBeReadIsAnErrorForEachOfTheNeighbours) {
  UniqueFd write_only(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  linker_->bind(kOne, std::make_shared<BackingFile>(std::move(write_only), kRoom));
  ASSERT_TRUE(linker_->first_touch({kOne, 0, 1}));
  ASSERT_TRUE(linker_->first_touch({kOne, 0, 2}));
  for (const Finished& each : finish(*linker_, 2)) {
    ASSERT_FALSE(each.completion.status);
    EXPECT_EQ(each.completion.status.error().errno_value, EBADF);
  }
}

TEST_F(FileIoLinkerTest, PagesOfAContainerWithoutAFileAreNotFound) {
  EXPECT_EQ(linker_->first_touch({kOne, 0, 1}).error().code, ErrorCode::kNotFound);
  bind(kRoom);
  linker_->free_container(kOne);
  EXPECT_EQ(linker_->first_touch({kOne, 0, 1}).error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace gob::test
