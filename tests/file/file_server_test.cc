// The home's side on a real file system: what it hands out, and to whom.
#include "libgob/file/file_server.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <mutex>
#include <thread>
#include <utility>

namespace {

// What a test does when the server next asks for the attributes of a file, in the thread that asks.
std::atomic<bool> before_attributes = false;
std::function<void()> attributes_are_asked;
// A disk that takes its time: as long as this is set.
std::atomic<bool> disk_is_slow = false;
std::atomic<int> syncs = 0;
// Somebody removes the name as soon as a link has it.
std::atomic<bool> links_go_at_once = false;

}  // namespace

// In place of the C library's.
extern "C" int fsync(int file) {
  ++syncs;
  disk_is_slow.wait(true);
  return static_cast<int>(::syscall(SYS_fsync, file));
}
extern "C" int fstatat(int folder, const char* name, struct stat* status, int flags) noexcept {
  if (before_attributes.exchange(false)) attributes_are_asked();
  return static_cast<int>(::syscall(SYS_newfstatat, folder, name, status, flags));
}

extern "C" ssize_t pwritev2(int file, const iovec* parts, int count, off_t offset, int flags) {
  if ((::fcntl(file, F_GETFL) & O_SYNC) == O_SYNC) {
    ++syncs;
    disk_is_slow.wait(true);
  }
  return ::syscall(SYS_pwritev2, file, parts, count, offset, 0L, flags);
}
extern "C" int linkat(int folder, const char* name, int to_folder, const char* to_name,
                      int flags) noexcept {
  const long linked = ::syscall(SYS_linkat, folder, name, to_folder, to_name, flags);
  if (links_go_at_once.exchange(false)) ::unlinkat(to_folder, to_name, 0);
  return static_cast<int>(linked);
}

namespace gob::file {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kIncarnation = 77;
const ContainerId kTree{5};
const NodeId kHere{0};
const NodeId kPeer{1};
constexpr std::uint32_t kNobody = 65534;

// Containers that are only numbers, and what was asked of their bytes.
class Store final : public FileStore, public FileData {
 public:
  void provide(const std::string&, const std::string&, UniqueFd, std::uint64_t,
               std::function<void(Result<ContainerId>)> done) override {
    if (std::exchange(refuses_once, false))
      return done(make_error(ErrorCode::kUnavailable, "not now", EAGAIN));
    if (while_providing) std::exchange(while_providing, nullptr)();
    done(ContainerId{++last_});
  }
  void withdraw(ContainerId container, const std::string&) override {
    withdrawn.push_back(container);
  }
  void send(NodeId to, peer::FileBody body) override {
    if (gives_back_to != nullptr && body.has_revoke()) {
      peer::FileRevoked revoked;
      revoked.set_incarnation(body.revoke().incarnation());
      revoked.set_file(body.revoke().file());
      revoked.set_number(body.revoke().number());
      gives_back_to->revoked(to, revoked);
    }
    if (++sends == 1) first_sent.set_value(std::move(body));
  }
  FileData& data() override { return *this; }

  void read(ContainerId, std::uint64_t, std::span<std::byte>, Caching, ReadAhead,
            Done done) override {
    done({});
  }
  void write(ContainerId, std::uint64_t, std::span<const std::byte>, Caching, Done done) override {
    ++writes;
    done({});
  }
  void not_given(ContainerId, std::uint64_t, std::uint64_t) override {}
  void discard(ContainerId, FileRange range, Done done) override {
    {
      const std::lock_guard guard(mutex_);
      discarded.push_back(range);
    }
    if (!holds_discard) return done({});
    held_discard.set_value(std::move(done));
  }
  void bind(ContainerId, UniqueFd, std::uint64_t size_bytes, Done done) override {
    size = size_bytes;
    done({});
    ++binds;
  }
  void write_back(ContainerId, FileRange, Done done) override {
    if (!holds_write_back) return done({});
    held_write_back.set_value(std::move(done));
  }
  void on_written(std::function<void(ContainerId)>) override {}
  void set_size(ContainerId, std::uint64_t size_bytes) override { size = size_bytes; }
  void set_kernel_cache(KernelCache*) override {}

  FileServer* gives_back_to = nullptr;  // every node gives leases back at once
  std::vector<ContainerId> withdrawn;
  std::vector<FileRange> discarded;
  bool refuses_once = false;  // the next container
  std::function<void()> while_providing;
  std::atomic<std::uint64_t> size = 0;  // of the file, as it was last told
  std::atomic<int> writes = 0;
  std::atomic<int> binds = 0;
  bool holds_discard = false;  // the next one waits
  std::promise<Done> held_discard;
  bool holds_write_back = false;  // the next one waits
  std::promise<Done> held_write_back;
  std::promise<peer::FileBody> first_sent;
  std::atomic<int> sends = 0;

 private:
  std::mutex mutex_;
  std::uint32_t last_ = 0;
};

class FileServerTest : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/gob-file-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    folder_ = pattern;
    ASSERT_EQ(::chmod(pattern, 0755), 0);
    fs::create_directory(folder_ / "tree");
    ASSERT_TRUE(server_.start().ok());
    server_.attach(kTree, (folder_ / "tree").string());
  }
  void TearDown() override {
    server_.stop();
    fs::remove_all(folder_);
  }

  peer::FileReply ask(NodeId from, peer::FileRequest request) {
    request.set_id(++last_id_);
    request.set_incarnation(kIncarnation);
    if (!request.has_caller()) {
      request.mutable_caller()->set_uid(::geteuid());
      request.mutable_caller()->set_gid(::getegid());
    }
    EXPECT_TRUE(check_file_request(request).ok());
    std::promise<peer::FileReply> answered;
    server_.handle(from, std::move(request),
                   [&](peer::FileReply reply) { answered.set_value(std::move(reply)); });
    return answered.get_future().get();
  }
  static peer::FileRequest make(FileOp op, std::uint64_t file = 0, const std::string& name = "") {
    peer::FileRequest request;
    request.set_op(static_cast<std::uint32_t>(op));
    request.set_file(file);
    request.set_name(name);
    return request;
  }
  peer::FileReply root(NodeId from) { return ask(from, make(FileOp::kRoot, kTree.value())); }
  // A program of the peer has it mapped for writing: its handle.
  std::uint64_t map_file(const std::string& name) {
    const auto file = ask(kPeer, make(FileOp::kLookup, root(kPeer).file(), name));
    auto open = make(FileOp::kOpen, file.file());
    open.set_flags(O_RDWR);
    auto map = make(FileOp::kMap, file.file());
    map.set_handle(ask(kPeer, open).handle());
    EXPECT_EQ(ask(kPeer, map).error(), 0u);
    return map.handle();
  }
  void write_file(const std::string& name, const std::string& text, mode_t mode = 0644) {
    std::ofstream(folder_ / name) << text;
    ASSERT_EQ(::chmod((folder_ / name).c_str(), mode), 0);
  }

  fs::path folder_;
  Store store_;
  FileServer server_{kHere, kIncarnation, std::chrono::seconds(30), store_};
  std::uint64_t last_id_ = 0;
};

TEST_F(FileServerTest, HandsOutFilesOpensReadsAndWritesThem) {
  store_.gives_back_to = &server_;
  write_file("tree/a", "hello");
  const auto top = root(kPeer);
  ASSERT_EQ(top.error(), 0u);
  const auto a = ask(kPeer, make(FileOp::kLookup, top.file(), "a"));
  ASSERT_EQ(a.error(), 0u);
  EXPECT_EQ(a.attributes().size(), 5u);
  auto open = make(FileOp::kOpen, a.file());
  open.set_flags(O_RDWR);
  const auto opened = ask(kPeer, open);
  ASSERT_EQ(opened.error(), 0u);
  auto read = make(FileOp::kRead, a.file());
  read.set_handle(opened.handle());
  read.set_offset(1);
  read.set_size(100);
  EXPECT_EQ(ask(kPeer, read).data(), "ello");
  auto write = make(FileOp::kWrite, a.file());
  write.set_handle(opened.handle());
  write.set_data(" there");
  write.set_flags(O_APPEND);
  EXPECT_EQ(ask(kPeer, write).value(), 6u);
  EXPECT_EQ(fs::file_size(folder_ / "tree/a"), 11u);
  EXPECT_EQ(ask(kHere, read).error(), static_cast<std::uint32_t>(ESTALE));  // not its handle
}

TEST_F(FileServerTest, AWriteForgetsThePagesItChangedBeforeItIsAnswered) {
  write_file("tree/a", std::string(10000, 'a'));
  const auto a = ask(kPeer, make(FileOp::kLookup, root(kPeer).file(), "a"));
  auto open = make(FileOp::kOpen, a.file());
  open.set_flags(O_RDWR);
  const auto opened = ask(kPeer, open);
  ASSERT_NE(opened.container(), 0u);
  EXPECT_NE(opened.lease(), 0u);
  auto write = make(FileOp::kWrite, a.file());
  write.set_handle(opened.handle());
  write.set_offset(4095);
  write.set_data("xy");
  ASSERT_EQ(ask(kPeer, write).error(), 0u);
  ASSERT_EQ(store_.discarded.size(), 1u);
  EXPECT_EQ(store_.discarded[0].offset, 0u);
  EXPECT_EQ(store_.discarded[0].length, 8192u);
  EXPECT_EQ(store_.sends, 0);  // the size stays
}

TEST_F(FileServerTest, AnAppendForgetsItsPagesThoughAnotherComesRightBehindIt) {
  store_.gives_back_to = &server_;
  write_file("tree/a", std::string(4000, 'a'));
  const auto a = ask(kPeer, make(FileOp::kLookup, root(kPeer).file(), "a"));
  auto open = make(FileOp::kOpen, a.file());
  open.set_flags(O_RDWR);
  auto write = make(FileOp::kWrite, a.file());
  write.set_handle(ask(kPeer, open).handle());
  write.set_flags(O_APPEND);
  write.set_data(std::string(4096, 'b'));
  attributes_are_asked = [&] {
    std::ofstream(folder_ / "tree/a", std::ios::app) << std::string(4096, 'c');
  };
  before_attributes = true;
  ASSERT_EQ(ask(kPeer, write).value(), 4096u);
  EXPECT_EQ(fs::file_size(folder_ / "tree/a"), 4000u + 2 * 4096);
  ASSERT_EQ(store_.discarded.size(), 1u);
  EXPECT_EQ(store_.discarded[0].offset, 0u);
  EXPECT_GE(store_.discarded[0].length, 8192u);
}

TEST_F(FileServerTest, ALongerFileWaitsForTheLeasesOnItsSize) {
  write_file("tree/a", "hello");
  const auto a = ask(kPeer, make(FileOp::kLookup, root(kPeer).file(), "a"));
  const auto opened = ask(kPeer, make(FileOp::kOpen, a.file()));
  ASSERT_NE(opened.lease(), 0u);
  auto grow = make(FileOp::kSetAttributes, a.file());
  grow.set_set(kSetSize);
  grow.mutable_attributes()->set_size(50);
  grow.set_id(1000);
  grow.set_incarnation(kIncarnation);
  grow.mutable_caller()->set_uid(::geteuid());
  std::promise<peer::FileReply> grown;
  server_.handle(kPeer, grow, [&](peer::FileReply reply) { grown.set_value(std::move(reply)); });
  auto result = grown.get_future();
  // The node gives its lease back; until then the file stays as it is.
  const peer::FileBody sent = store_.first_sent.get_future().get();
  EXPECT_EQ(fs::file_size(folder_ / "tree/a"), 5u);
  ASSERT_TRUE(sent.has_revoke());
  peer::FileRevoked revoked;
  revoked.set_incarnation(kIncarnation);
  revoked.set_file(a.file());
  revoked.set_number(sent.revoke().number());
  server_.revoked(kPeer, revoked);
  EXPECT_EQ(result.get().attributes().size(), 50u);
}

TEST_F(FileServerTest, ALinkIsHandedOutAndNotFollowed) {
  write_file("secret", "outside");
  fs::create_symlink("../secret", folder_ / "tree/link");
  const auto top = root(kPeer);
  const auto link = ask(kPeer, make(FileOp::kLookup, top.file(), "link"));
  ASSERT_EQ(link.error(), 0u);
  EXPECT_TRUE(S_ISLNK(link.attributes().mode()));
  EXPECT_EQ(ask(kPeer, make(FileOp::kReadLink, link.file())).data(), "../secret");
  auto open = make(FileOp::kOpen, link.file());
  open.set_flags(O_RDONLY);
  EXPECT_EQ(ask(kPeer, open).error(), static_cast<std::uint32_t>(ELOOP));
  auto create = make(FileOp::kCreate, top.file(), "link");
  create.set_flags(O_RDWR);
  create.set_mode(0644);
  EXPECT_EQ(ask(kPeer, create).error(), static_cast<std::uint32_t>(ELOOP));
}

TEST_F(FileServerTest, ALinkThatIsRemovedAtOnceWasMade) {
  write_file("tree/a", "hello");
  const auto top = root(kPeer);
  const auto a = ask(kPeer, make(FileOp::kLookup, top.file(), "a"));
  auto link = make(FileOp::kLink, a.file());
  link.set_to_file(top.file());
  link.set_to_name("b");
  links_go_at_once = true;
  const auto linked = ask(kPeer, link);
  EXPECT_EQ(linked.error(), 0u);
  EXPECT_EQ(linked.file(), a.file());
  EXPECT_EQ(linked.attributes().links(), 1u);
}

TEST_F(FileServerTest, ANewFileHasTheModeThatWasAskedFor) {
  const auto top = root(kPeer);
  auto create = make(FileOp::kCreate, top.file(), "new");
  create.set_flags(O_RDWR);
  create.set_mode(0666);
  const auto made = ask(kPeer, create);
  ASSERT_EQ(made.error(), 0u);
  EXPECT_EQ(made.attributes().mode() & 07777u, 0666u);
}

TEST_F(FileServerTest, AnotherUserMayWhatTheHostAllows) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to act for another user";
  write_file("tree/private", "x", 0600);
  write_file("tree/public", "x", 0644);
  const auto top = root(kPeer);
  const auto as_nobody = [&](peer::FileRequest request) {
    request.mutable_caller()->set_uid(kNobody);
    request.mutable_caller()->set_gid(kNobody);
    return ask(kPeer, std::move(request)).error();
  };
  const auto open = [&](const char* name, int flags) {
    const auto found = ask(kPeer, make(FileOp::kLookup, top.file(), name));
    auto request = make(FileOp::kOpen, found.file());
    request.set_flags(static_cast<std::uint32_t>(flags));
    return as_nobody(request);
  };
  EXPECT_EQ(open("private", O_RDONLY), static_cast<std::uint32_t>(EACCES));
  EXPECT_EQ(open("public", O_RDONLY), 0u);
  EXPECT_EQ(open("public", O_WRONLY), static_cast<std::uint32_t>(EACCES));
  EXPECT_EQ(as_nobody(make(FileOp::kUnlink, top.file(), "public")),
            static_cast<std::uint32_t>(EACCES));
  auto create = make(FileOp::kCreate, top.file(), "theirs");
  create.set_flags(O_RDWR);
  EXPECT_EQ(as_nobody(create), static_cast<std::uint32_t>(EACCES));
  ASSERT_EQ(::chmod((folder_ / "tree").c_str(), 01777), 0);
  EXPECT_EQ(as_nobody(create), 0u);
  struct stat status {};
  ASSERT_EQ(::stat((folder_ / "tree/theirs").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, kNobody);
  // Sticky: another's file stays.
  EXPECT_EQ(as_nobody(make(FileOp::kUnlink, top.file(), "public")),
            static_cast<std::uint32_t>(EPERM));
  ASSERT_EQ(::chmod((folder_ / "tree").c_str(), 0700), 0);
  EXPECT_EQ(as_nobody(make(FileOp::kLookup, top.file(), "public")),
            static_cast<std::uint32_t>(EACCES));
  // And gobd is itself again.
  EXPECT_EQ(ask(kPeer, make(FileOp::kLookup, top.file(), "public")).error(), 0u);
}

TEST_F(FileServerTest, AGroupOfTheCallerCounts) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to act for another user";
  write_file("tree/shared", "x", 0660);
  ASSERT_EQ(::chown((folder_ / "tree/shared").c_str(), 0, 4711), 0);
  const auto top = root(kPeer);
  const auto found = ask(kPeer, make(FileOp::kLookup, top.file(), "shared"));
  auto open = make(FileOp::kOpen, found.file());
  open.set_flags(O_RDWR);
  open.mutable_caller()->set_uid(kNobody);
  open.mutable_caller()->set_gid(kNobody);
  EXPECT_EQ(ask(kPeer, open).error(), static_cast<std::uint32_t>(EACCES));
  open.mutable_caller()->add_groups(4711);
  EXPECT_EQ(ask(kPeer, open).error(), 0u);
}

TEST_F(FileServerTest, AFileStaysWhileSomebodyHasItAndGoesThen) {
  write_file("tree/a", "hello");
  const auto top = root(kPeer);
  const auto a = ask(kPeer, make(FileOp::kLookup, top.file(), "a"));
  EXPECT_EQ(ask(kHere, make(FileOp::kLookup, root(kHere).file(), "a")).file(), a.file());
  ASSERT_EQ(ask(kPeer, make(FileOp::kUnlink, top.file(), "a")).error(), 0u);
  EXPECT_EQ(ask(kPeer, make(FileOp::kGetAttributes, a.file())).attributes().links(), 0u);
  peer::FileForget forget;
  forget.set_incarnation(kIncarnation);
  forget.add_files(a.file());
  forget.add_counts(1);
  server_.forget(kPeer, forget);
  EXPECT_EQ(ask(kHere, make(FileOp::kGetAttributes, a.file())).error(), 0u);
  server_.drop_node(kHere);
  EXPECT_EQ(ask(kPeer, make(FileOp::kGetAttributes, a.file())).error(),
            static_cast<std::uint32_t>(ESTALE));
}

TEST_F(FileServerTest, ADeadNodeLeavesNothingBehind) {
  write_file("tree/a", "hello");
  const auto top = root(kPeer);
  const auto a = ask(kPeer, make(FileOp::kLookup, top.file(), "a"));
  auto open = make(FileOp::kOpen, a.file());
  ASSERT_EQ(ask(kPeer, open).error(), 0u);
  EXPECT_EQ(server_.table().handles(), 1u);
  auto lock = make(FileOp::kSetLock, a.file());
  lock.mutable_lock()->set_type(F_WRLCK);
  lock.mutable_lock()->set_last(~std::uint64_t{0});
  ASSERT_EQ(ask(kPeer, lock).error(), 0u);
  root(kHere);
  const auto again = ask(kHere, make(FileOp::kLookup, root(kHere).file(), "a"));
  lock.set_file(again.file());
  EXPECT_EQ(ask(kHere, lock).error(), static_cast<std::uint32_t>(EAGAIN));
  server_.drop_node(kPeer);
  EXPECT_EQ(server_.table().handles(), 0u);
  EXPECT_EQ(ask(kHere, lock).error(), 0u);
  EXPECT_EQ(root(kPeer).error(), 0u);  // it is back
}

// Or it would stay as long as this home: nobody drops it again.
TEST_F(FileServerTest, WhatADeadNodeHadAskedForIsNotGivenToIt) {
  write_file("tree/a", "hello");
  const auto a = ask(kPeer, make(FileOp::kLookup, root(kPeer).file(), "a"));
  std::promise<void> dropped;
  attributes_are_asked = [&] {
    server_.drop_node(kPeer);
    dropped.set_value();
  };
  before_attributes = true;
  auto open = make(FileOp::kOpen, a.file());
  open.set_id(1000);
  open.set_incarnation(kIncarnation);
  open.mutable_caller()->set_uid(::geteuid());
  std::atomic<bool> answered = false;
  server_.handle(kPeer, open, [&](const peer::FileReply&) { answered = true; });
  dropped.get_future().get();
  server_.stop();  // the open has ended
  EXPECT_EQ(server_.table().handles(), 0u);
  EXPECT_EQ(server_.table().files(), 0u);
  EXPECT_FALSE(answered);  // its next life may wait for another answer of that number
}

TEST_F(FileServerTest, AWaitingLockIsGrantedOrCancelled) {
  write_file("tree/a", "hello");
  const auto a = ask(kPeer, make(FileOp::kLookup, root(kPeer).file(), "a"));
  const auto mine = ask(kHere, make(FileOp::kLookup, root(kHere).file(), "a"));
  auto lock = make(FileOp::kSetLock, a.file());
  lock.mutable_lock()->set_type(F_WRLCK);
  lock.mutable_lock()->set_last(9);
  ASSERT_EQ(ask(kPeer, lock).error(), 0u);
  lock.mutable_lock()->set_wait(true);
  lock.set_incarnation(kIncarnation);
  std::vector<std::promise<std::uint32_t>> ends(2);
  for (std::uint64_t i = 0; i < 2; ++i) {
    lock.set_id(1000 + i);
    lock.set_file(mine.file());
    server_.handle(kHere, lock,
                   [&ends, i](const peer::FileReply& reply) { ends[i].set_value(reply.error()); });
  }
  server_.cancel(kHere, 1001);
  EXPECT_EQ(ends[1].get_future().get(), static_cast<std::uint32_t>(EINTR));
  auto drop = make(FileOp::kDropLocks, a.file());
  drop.mutable_lock()->set_type(F_UNLCK);
  drop.mutable_lock()->set_last(~std::uint64_t{0});
  ASSERT_EQ(ask(kPeer, drop).error(), 0u);
  EXPECT_EQ(ends[0].get_future().get(), 0u);
}

TEST_F(FileServerTest, ALockGoesAlongWithAProcessAndNobodyGetsItMeanwhile) {
  write_file("tree/a", "hello");
  const auto a = ask(kPeer, make(FileOp::kLookup, root(kPeer).file(), "a"));
  const auto mine = ask(kHere, make(FileOp::kLookup, root(kHere).file(), "a"));
  const auto lock = [&](std::uint64_t file, std::uint64_t owner) {
    auto request = make(FileOp::kSetLock, file);
    request.mutable_lock()->set_owner(owner);
    request.mutable_lock()->set_type(F_WRLCK);
    request.mutable_lock()->set_last(9);
    return request;
  };
  ASSERT_EQ(ask(kPeer, lock(a.file(), 5)).error(), 0u);
  auto list = make(FileOp::kListLocks, a.file());
  list.add_locks()->set_owner(5);
  const auto held = ask(kPeer, list);
  ASSERT_EQ(held.locks_size(), 1);
  EXPECT_EQ(held.locks(0).type(), static_cast<std::uint32_t>(F_WRLCK));
  EXPECT_EQ(held.locks(0).last(), 9u);
  EXPECT_EQ(ask(kHere, list).locks_size(), 0);  // another node's owners are others

  auto offer = make(FileOp::kOfferLocks, a.file());
  offer.set_node(kHere.value());
  offer.mutable_lock()->set_owner(6);
  offer.mutable_lock()->set_type(F_UNLCK);
  EXPECT_EQ(ask(kPeer, offer).error(), static_cast<std::uint32_t>(ENOLCK));
  offer.mutable_lock()->set_owner(5);
  auto join = lock(mine.file(), 8);
  join.mutable_lock()->mutable_joins()->set_node(kPeer.value());
  join.mutable_lock()->mutable_joins()->set_owner(5);
  EXPECT_EQ(ask(kHere, join).error(), static_cast<std::uint32_t>(EAGAIN));
  ASSERT_EQ(ask(kPeer, offer).error(), 0u);
  ASSERT_EQ(ask(kHere, join).error(), 0u);
  EXPECT_EQ(ask(kHere, lock(mine.file(), 9)).error(), static_cast<std::uint32_t>(EAGAIN));

  auto moved = make(FileOp::kLocksMoved, mine.file());
  moved.set_node(kPeer.value());
  moved.mutable_lock()->set_owner(5);
  moved.mutable_lock()->set_type(F_UNLCK);
  ASSERT_EQ(ask(kHere, moved).error(), 0u);
  EXPECT_EQ(ask(kPeer, list).locks_size(), 0);
  EXPECT_EQ(ask(kPeer, lock(a.file(), 5)).error(), static_cast<std::uint32_t>(EAGAIN));
  server_.drop_node(kPeer);
  EXPECT_EQ(ask(kHere, lock(mine.file(), 9)).error(), static_cast<std::uint32_t>(EAGAIN));
}

TEST_F(FileServerTest, NumbersOfAnEarlierLifeAreStale) {
  const auto top = root(kPeer);
  peer::FileRequest old = make(FileOp::kGetAttributes, top.file());
  old.set_id(1);
  old.set_incarnation(kIncarnation - 1);
  std::promise<std::uint32_t> answered;
  server_.handle(kPeer, old,
                 [&](const peer::FileReply& reply) { answered.set_value(reply.error()); });
  EXPECT_EQ(answered.get_future().get(), static_cast<std::uint32_t>(ESTALE));
}

// Or what is stored beyond the old end would never get into the file.
TEST_F(FileServerTest, AFileThatGrewWhileItWasMappedIsWrittenBackToItsEnd) {
  store_.gives_back_to = &server_;
  write_file("tree/a", "hello");
  const auto a = ask(kPeer, make(FileOp::kLookup, root(kPeer).file(), "a"));
  auto open = make(FileOp::kOpen, a.file());
  open.set_flags(O_RDWR);
  store_.refuses_once = true;
  auto map = make(FileOp::kMap, a.file());
  map.set_handle(ask(kPeer, open).handle());
  store_.while_providing = [&] {
    auto write = make(FileOp::kWrite, a.file());
    write.set_handle(map.handle());
    write.set_offset(9000);
    write.set_data("end");
    ASSERT_EQ(ask(kPeer, write).value(), 3u);
  };
  ASSERT_EQ(ask(kPeer, map).error(), 0u);
  EXPECT_EQ(store_.size, 9003u);
}

TEST_F(FileServerTest, AFileThatGrowsByWholePagesIsWrittenBackToItsEnd) {
  store_.gives_back_to = &server_;
  write_file("tree/a", "hello");
  const auto a = ask(kPeer, make(FileOp::kLookup, root(kPeer).file(), "a"));
  auto open = make(FileOp::kOpen, a.file());
  open.set_flags(O_RDWR);
  ASSERT_EQ(ask(kPeer, open).error(), 0u);
  auto grow = make(FileOp::kSetAttributes, a.file());
  grow.set_set(kSetSize);
  grow.mutable_attributes()->set_size(4096);
  ASSERT_EQ(ask(kPeer, grow).error(), 0u);
  EXPECT_EQ(store_.size, 4096u);
}

// What it has written into the pages would be forgotten with what the other wrote into the file.
TEST_F(FileServerTest, AWriteOfPagesWaitsForOneOfTheFileThatBeganBefore) {
  write_file("tree/a", std::string(4096, 'a'));
  const auto a = ask(kPeer, make(FileOp::kLookup, root(kPeer).file(), "a"));
  auto open = make(FileOp::kOpen, a.file());
  open.set_flags(O_RDWR);
  const std::uint64_t handle = ask(kPeer, open).handle();
  std::vector<std::promise<std::uint32_t>> ends(3);
  const auto begin = [&](peer::FileRequest request, std::size_t number) {
    request.set_handle(handle);
    request.set_id(1000 + number);
    request.set_incarnation(kIncarnation);
    request.mutable_caller()->set_uid(::geteuid());
    server_.handle(kPeer, request, [&ends, number](const peer::FileReply& reply) {
      ends[number].set_value(reply.error());
    });
  };
  auto write = make(FileOp::kWrite, a.file());
  write.set_data("text");
  store_.holds_discard = true;
  begin(write, 0);
  auto forgotten = store_.held_discard.get_future().get();
  store_.holds_discard = false;
  begin(make(FileOp::kMap, a.file()), 1);
  while (store_.binds == 0) std::this_thread::yield();
  write.set_offset(100);
  begin(write, 2);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_EQ(store_.writes, 0);
  forgotten({});
  for (auto& end : ends) EXPECT_EQ(end.get_future().get(), 0u);
  EXPECT_EQ(store_.writes, 1);
}

TEST_F(FileServerTest, NobodyWaitsForTheSyncsOfOthers) {
  constexpr std::size_t kSyncs = 32;  // every other one is a write of O_SYNC
  write_file("tree/a", "hello");
  const auto top = root(kPeer);
  const auto a = ask(kPeer, make(FileOp::kLookup, top.file(), "a"));
  auto open = make(FileOp::kOpen, a.file());
  open.set_flags(O_RDWR | O_SYNC);
  auto sync = make(FileOp::kSync, a.file());
  sync.set_handle(ask(kPeer, open).handle());
  sync.set_incarnation(kIncarnation);
  sync.mutable_caller()->set_uid(::geteuid());
  auto write = sync;
  write.set_op(static_cast<std::uint32_t>(FileOp::kWrite));
  write.set_data("H");
  std::vector<std::promise<std::uint32_t>> ends(kSyncs);
  disk_is_slow = true;
  for (std::size_t i = 0; i < kSyncs; ++i) {
    peer::FileRequest request = i % 2 == 0 ? sync : write;
    request.set_id(1000 + i);
    server_.handle(kPeer, request,
                   [&ends, i](const peer::FileReply& reply) { ends[i].set_value(reply.error()); });
  }
  while (syncs == 0) std::this_thread::yield();
  auto look = make(FileOp::kLookup, top.file(), "a");
  look.set_id(2000);
  look.set_incarnation(kIncarnation);
  look.mutable_caller()->set_uid(::geteuid());
  std::promise<std::uint32_t> found;
  server_.handle(kPeer, look,
                 [&](const peer::FileReply& reply) { found.set_value(reply.error()); });
  auto looked_up = found.get_future();
  EXPECT_EQ(looked_up.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  disk_is_slow = false;
  disk_is_slow.notify_all();
  EXPECT_EQ(looked_up.get(), 0u);
  for (auto& end : ends) EXPECT_EQ(end.get_future().get(), 0u);
}

TEST_F(FileServerTest, AWriteBackThatTheEndOvertakesIsNoSuccess) {
  write_file("tree/a", "hello");
  map_file("a");
  store_.holds_write_back = true;
  auto write_back = make(FileOp::kWriteBack, kTree.value());
  write_back.set_id(1000);
  write_back.set_incarnation(kIncarnation);
  std::promise<peer::FileReply> answered;
  server_.handle(kPeer, write_back,
                 [&](peer::FileReply reply) { answered.set_value(std::move(reply)); });
  auto written = store_.held_write_back.get_future().get();
  server_.stop();  // nobody will sync it
  written({});
  written = nullptr;
  const peer::FileReply reply = answered.get_future().get();
  EXPECT_EQ(reply.error(), static_cast<std::uint32_t>(ESHUTDOWN));
  EXPECT_NE(reply.data().find("before it was on the disk"), std::string::npos) << reply.data();
}

// This process is no root, for as long as it lives.
class NoRoot {
 public:
  NoRoot() {
    if (::geteuid() != 0) return;
    EXPECT_EQ(::setresuid(kNobody, kNobody, 0), 0);
    EXPECT_EQ(::prctl(PR_SET_DUMPABLE, 1), 0);  // or /proc/self is root's
    was_root_ = true;
  }
  ~NoRoot() {
    EXPECT_TRUE(!was_root_ || ::setresuid(0, 0, 0) == 0);
  }
  NoRoot(const NoRoot&) = delete;
  NoRoot& operator=(const NoRoot&) = delete;

 private:
  bool was_root_ = false;
};

TEST_F(FileServerTest, WhatCannotBeReadAnyMoreIsSyncedAllTheSame) {
  write_file("tree/a", "hello", 0600);
  const std::string path = (folder_ / "tree/a").string();
  ASSERT_TRUE(::geteuid() != 0 || ::chown(path.c_str(), kNobody, kNobody) == 0);
  const NoRoot no_root;
  map_file("a");
  const auto write_back = make(FileOp::kWriteBack, kTree.value());
  for (const mode_t mode : {0600, 0400, 0200}) {
    ASSERT_EQ(::chmod(path.c_str(), mode), 0);
    const auto reply = ask(kPeer, write_back);
    EXPECT_EQ(reply.error(), 0u) << std::oct << mode << ": " << reply.data();
  }
  ASSERT_EQ(::chmod(path.c_str(), 0), 0);
  const auto reply = ask(kPeer, write_back);
  EXPECT_EQ(reply.error(), static_cast<std::uint32_t>(EACCES));
  EXPECT_NE(reply.data().find("tree/a': cannot sync it"), std::string::npos) << reply.data();
}

TEST_F(FileServerTest, AChangeThatWaitsWhenItsTreeIsDetachedIsStale) {
  write_file("tree/a", "hello");
  const auto a = ask(kPeer, make(FileOp::kLookup, root(kPeer).file(), "a"));
  ASSERT_NE(ask(kPeer, make(FileOp::kOpen, a.file())).lease(), 0u);
  auto grow = make(FileOp::kSetAttributes, a.file());
  grow.set_set(kSetSize);
  grow.mutable_attributes()->set_size(50);
  grow.set_id(1000);
  grow.set_incarnation(kIncarnation);
  grow.mutable_caller()->set_uid(::geteuid());
  std::promise<std::uint32_t> grown;
  server_.handle(kPeer, grow,
                 [&](const peer::FileReply& reply) { grown.set_value(reply.error()); });
  const peer::FileBody sent = store_.first_sent.get_future().get();
  server_.detach(kTree);
  peer::FileRevoked revoked;
  revoked.set_incarnation(kIncarnation);
  revoked.set_file(a.file());
  revoked.set_number(sent.revoke().number());
  server_.revoked(kPeer, revoked);
  auto result = grown.get_future();
  ASSERT_EQ(result.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  EXPECT_EQ(result.get(), static_cast<std::uint32_t>(ESTALE));
  EXPECT_EQ(fs::file_size(folder_ / "tree/a"), 5u);
}

TEST_F(FileServerTest, WhatIsDetachedIsStale) {
  const auto top = root(kPeer);
  server_.detach(kTree);
  EXPECT_EQ(ask(kPeer, make(FileOp::kGetAttributes, top.file())).error(),
            static_cast<std::uint32_t>(ESTALE));
  EXPECT_EQ(root(kPeer).error(), static_cast<std::uint32_t>(ESTALE));
}

}  // namespace
}  // namespace gob::file
