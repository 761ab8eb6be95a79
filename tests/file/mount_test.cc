// The mount above a home that answers what the test wants. One thread; programs' calls are made by
// it, and answered on the mount's threads.
#include "libgob/file/mount.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <mutex>
#include <set>
#include <thread>

namespace gob::file {
namespace {

using namespace std::chrono_literals;

const NodeId kHere{0};
const NodeId kHome{1};
const ContainerId kTree{5};
const ContainerId kBytes{6};          // of the file
constexpr std::uint64_t kFolder = 1;  // the home's numbers
constexpr std::uint64_t kFile = 2;
constexpr std::uint64_t kHandle = 9;

class NoData final : public FileData {
 public:
  void read(ContainerId, std::uint64_t, std::span<std::byte>, Caching, ReadAhead,
            Done done) override {
    done({});
  }
  void not_given(ContainerId, std::uint64_t, std::uint64_t) override {}
  void write(ContainerId, std::uint64_t, std::span<const std::byte>, Caching, Done done) override {
    done({});
  }
  void discard(ContainerId, FileRange, Done done) override { done({}); }
  void bind(ContainerId, UniqueFd, std::uint64_t, Done done) override { done({}); }
  void write_back(ContainerId, FileRange, Done done) override { done({}); }
  void on_written(std::function<void(ContainerId)>) override {}
  void resize(ContainerId, const std::function<std::uint64_t()>& change) override { change(); }
  void set_size(ContainerId, std::uint64_t) override {}
  void set_kernel_cache(KernelCache*) override {}
};

class MountTest : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/gob-mount-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    folder_ = pattern;
    client_ = std::make_unique<FileClient>(
        10s, [this](NodeId, peer::FileBody body) { return receive(std::move(body)); });
    client_->node_up(kHome);
    auto mount = Mount::open(
        {.path = folder_, .source = "test", .self = kHere, .kept_seconds = 3600}, *client_, data_);
    if (!mount && ::access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << mount.error().message();
    ASSERT_TRUE(mount.ok()) << mount.error().message();
    mount_ = std::move(*mount);
    mount_->attach(kTree, "tree", kHome);
  }
  void TearDown() override {
    if (mount_ != nullptr) mount_->stop();
    client_.reset();
    mount_.reset();
    std::filesystem::remove_all(folder_);
  }

  // Nothing of the home's is there but the attached folder.
  virtual peer::FileReply answer(const peer::FileRequest& request) {
    peer::FileReply reply;
    reply.set_incarnation(1);
    switch (op_of(request)) {
      case FileOp::kRoot:
        ++roots;
        reply.set_file(folder);
        reply.mutable_attributes()->set_mode(S_IFDIR | 0755);
        reply.mutable_attributes()->set_inode(folder);
        break;
      case FileOp::kGetAttributes:
        ++asked;
        if (request.file() == kFile) {
          reply = found;
          break;
        }
        reply.mutable_attributes()->set_mode(S_IFDIR | 0755);
        reply.mutable_attributes()->set_inode(kFolder);
        break;
      case FileOp::kLookup:
        if (found.file() == 0)
          reply.set_error(ENOENT);
        else
          reply = found;
        break;
      case FileOp::kOpen:
        reply.set_handle(kHandle);
        if (found.file() != 0) reply.set_container(kBytes.value());
        break;
      case FileOp::kCreate:
        reply = created;
        break;
      case FileOp::kSetAttributes:
        reply.set_error(EFBIG);
        break;
      case FileOp::kRelease:
        note(released_, request.handle());
        break;
      default:
        reply.set_error(ENOSYS);
    }
    return reply;
  }

  peer::FileReply created;
  peer::FileReply found;  // no file: there is none
  std::atomic<std::uint64_t> folder = kFolder;
  std::atomic<int> roots = 0;    // how often it was looked up
  std::atomic<int> asked = 0;    // for attributes
  std::atomic<int> revoked = 0;  // leases that went back
  // What went back to the home; handles before the call that they are due to returns.
  using Numbers = std::multiset<std::uint64_t>;
  Numbers released() {
    const std::lock_guard guard(mutex_);
    return released_;
  }
  Numbers forgotten() {
    const std::lock_guard guard(mutex_);
    return forgotten_;
  }
  [[nodiscard]] std::string path() const { return folder_ + "/tree/file"; }

 private:
  bool receive(peer::FileBody body) {
    if (body.has_forget())
      for (const std::uint64_t file : body.forget().files()) note(forgotten_, file);
    if (body.has_revoked()) ++revoked;
    if (!body.has_request()) return true;
    peer::FileReply reply = answer(body.request());
    reply.set_id(body.request().id());
    client_->deliver(kHome, reply);
    return true;
  }
  void note(Numbers& numbers, std::uint64_t number) {
    const std::lock_guard guard(mutex_);
    numbers.insert(number);
  }

  std::mutex mutex_;
  Numbers released_;   // guarded by mutex_
  Numbers forgotten_;  // likewise
  std::string folder_;
  NoData data_;
  std::unique_ptr<FileClient> client_;

 protected:
  // Attributes of that size come with a lease.
  void keep(std::uint64_t size, std::uint64_t lease) {
    found.set_incarnation(1);
    found.set_file(kFile);
    found.set_lease(lease);
    found.set_keep(true);
    found.mutable_attributes()->set_mode(S_IFREG | 0644);
    found.mutable_attributes()->set_inode(kFile);
    found.mutable_attributes()->set_size(size);
  }
  std::unique_ptr<Mount> mount_;
};

// Another node has made it first, so it is there, and not empty.
TEST_F(MountTest, AFileThatCannotBeCutIsNotOpenedByCreating) {
  created.set_incarnation(1);
  created.set_file(kFile);
  created.set_handle(kHandle);
  created.mutable_attributes()->set_mode(S_IFREG | 0644);
  created.mutable_attributes()->set_size(100);
  EXPECT_EQ(::open(path().c_str(), O_RDWR | O_CREAT | O_TRUNC, 0644), -1);
  EXPECT_EQ(errno, EFBIG);
  EXPECT_EQ(released(), (Numbers{kHandle}));
}

TEST_F(MountTest, WhatAHomeOpenedAndThenFailedWithGoesBack) {
  created.set_incarnation(1);
  created.set_file(kFile);
  created.set_handle(kHandle);
  created.set_error(EIO);
  EXPECT_EQ(::open(path().c_str(), O_RDWR | O_CREAT, 0644), -1);
  EXPECT_EQ(errno, EIO);
  EXPECT_EQ(released(), (Numbers{kHandle}));
  EXPECT_EQ(forgotten(), (Numbers{kFile}));
}

TEST_F(MountTest, AnAttachmentIsLookedUpOnceUntilItIsDetached) {
  struct stat status {};
  EXPECT_EQ(::stat(path().c_str(), &status), -1);
  EXPECT_EQ(::stat(path().c_str(), &status), -1);
  EXPECT_EQ(roots, 1);
  mount_->detach(kTree);
  folder = kFile + 1;
  const std::string tree = path().substr(0, path().rfind('/'));
  // The kernel is told on another thread.
  while (::stat(tree.c_str(), &status) == 0) std::this_thread::yield();
  EXPECT_EQ(errno, ENOENT);
  mount_->attach(kTree, "tree", kHome);
  ASSERT_EQ(::stat(tree.c_str(), &status), 0);
  EXPECT_EQ(roots, 2);
}

TEST_F(MountTest, AttributesThatMayBeKeptAreAskedForOnceUntilTheirLeaseEnds) {
  keep(100, 1);
  const int fd = ::open(path().c_str(), O_RDONLY);
  ASSERT_GE(fd, 0);
  const int before = asked;  // of the folder, perhaps
  struct stat status {};
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(::fstat(fd, &status), 0);
    EXPECT_EQ(status.st_size, 100);
  }
  EXPECT_EQ(asked, before);
  keep(200, 3);
  peer::FileRevoke revoke;
  revoke.set_incarnation(1);
  revoke.set_file(kFile);
  revoke.set_number(2);
  mount_->revoke(kHome, revoke);  // the home hears of it before this returns
  EXPECT_EQ(revoked, 1);
  ASSERT_EQ(::fstat(fd, &status), 0);
  EXPECT_EQ(status.st_size, 200);
  EXPECT_EQ(asked, before + 1);
  // Nobody will say any more that they have changed.
  mount_->home_down(kHome);
  const auto deadline = std::chrono::steady_clock::now() + 30s;
  while (asked == before + 1 && std::chrono::steady_clock::now() < deadline)
    ASSERT_EQ(::fstat(fd, &status), 0);
  EXPECT_EQ(asked, before + 2);
  ::close(fd);
}

// What a kernel does not have of a file is read up to the size that the home last told.
TEST_F(MountTest, ASizeIsAskedForAnewWhenTheLinkToItsHomeIsANewOne) {
  keep(4 * kPageSize, 1);
  const int fd = ::open(path().c_str(), O_RDONLY);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(::posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), 0);  // no read-ahead
  char page[kPageSize];
  ASSERT_EQ(::pread(fd, page, sizeof page, 0), static_cast<ssize_t>(sizeof page));
  const int before = asked;
  ASSERT_EQ(::pread(fd, page, sizeof page, kPageSize), static_cast<ssize_t>(sizeof page));
  EXPECT_EQ(asked, before) << "by the lease";
  keep(2 * kPageSize + 100, 2);
  mount_->home_up(kHome);
  EXPECT_EQ(::pread(fd, page, sizeof page, 2 * kPageSize), 100);
  EXPECT_EQ(asked, before + 1);
  ::close(fd);
}

}  // namespace
}  // namespace gob::file
