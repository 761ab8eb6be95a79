// The home's side: what happens at the same time to one file, or to one disk.
#include <cstdarg>

#include "tests/file/file_server_fixture.h"

namespace {

// What a test does when the server next asks for the attributes of a file, in the thread that asks.
std::atomic<bool> before_attributes = false;
std::function<void()> attributes_are_asked;
// A disk that takes its time: as long as this is set.
std::atomic<bool> disk_is_slow = false;
std::atomic<int> syncs = 0;
// Somebody removes the name as soon as a link has it.
std::atomic<bool> links_go_at_once = false;
// Somebody moves the file "other" to the name as soon as it was made.
std::atomic<bool> others_come_at_once = false;

long made(int folder, const char* name, long result) {
  if (result >= 0 && others_come_at_once.exchange(false)) ::renameat(folder, "other", folder, name);
  return result;
}

}  // namespace

// In place of the C library's.
extern "C" int fsync(int file) {
  ++syncs;
  disk_is_slow.wait(true);
  return static_cast<int>(::syscall(SYS_fsync, file));
}
extern "C" int statx(int folder, const char* name, int flags, unsigned wanted,
                     struct statx* status) noexcept {
  if (wanted == STATX_BASIC_STATS && before_attributes.exchange(false)) attributes_are_asked();
  return static_cast<int>(::syscall(SYS_statx, folder, name, flags, wanted, status));
}

extern "C" ssize_t pwritev2(int file, const iovec* parts, int count, off_t offset, int flags) {
  if ((::fcntl(file, F_GETFL) & O_SYNC) == O_SYNC) {
    ++syncs;
    disk_is_slow.wait(true);
  }
  return ::syscall(SYS_pwritev2, file, parts, count, offset, 0L, flags);
}
extern "C" int openat(int folder, const char* name, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  const long opened = ::syscall(SYS_openat, folder, name, flags, mode);
  return static_cast<int>((flags & O_CREAT) != 0 ? made(folder, name, opened) : opened);
}
extern "C" int mknodat(int folder, const char* name, mode_t mode, dev_t device) noexcept {
  return static_cast<int>(made(folder, name, ::syscall(SYS_mknodat, folder, name, mode, device)));
}
extern "C" int linkat(int folder, const char* name, int to_folder, const char* to_name,
                      int flags) noexcept {
  const long linked = ::syscall(SYS_linkat, folder, name, to_folder, to_name, flags);
  if (links_go_at_once.exchange(false)) ::unlinkat(to_folder, to_name, 0);
  return static_cast<int>(linked);
}

namespace gob::file {
namespace {

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
  std::promise<peer::FileReply> grown;
  server_.handle(kPeer, resize(a.file(), 50),
                 [&](peer::FileReply reply) { grown.set_value(std::move(reply)); });
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

TEST_F(FileServerTest, ANewFileIsAnsweredThoughAnotherHasItsNameAtOnce) {
  write_file("tree/other", "not this one");
  auto make_it = make(FileOp::kMakeNode, root(kPeer).file(), "new");
  make_it.set_mode(S_IFREG | 0640);
  others_come_at_once = true;
  const auto made = ask(kPeer, make_it);
  EXPECT_EQ(made.error(), 0u);
  EXPECT_EQ(made.attributes().mode(), mode_t{S_IFREG | 0640});
  EXPECT_EQ(made.attributes().size(), 0u);
  EXPECT_EQ(made.attributes().links(), 0u);
}

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
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // in which it would have written
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

TEST_F(FileServerTest, AChangeThatWaitsWhenItsTreeIsDetachedIsStale) {
  write_file("tree/a", "hello");
  const auto a = ask(kPeer, make(FileOp::kLookup, root(kPeer).file(), "a"));
  ASSERT_NE(ask(kPeer, make(FileOp::kOpen, a.file())).lease(), 0u);
  std::promise<std::uint32_t> grown;
  server_.handle(kPeer, resize(a.file(), 50),
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

// A node that keeps attributes is asked before a change of them is answered, whatever the change.
class KeptAttributes : public FileServerTest {
 protected:
  void SetUp() override {
    FileServerTest::SetUp();
    store_.gives_back_to = &server_;
    write_file("tree/a", "hello");
    top_ = root(kPeer).file();
    file_ = look().file();
    auto open = make(FileOp::kOpen, file_);
    open.set_flags(O_RDWR);
    handle_ = ask(kPeer, open).handle();
  }
  peer::FileReply look() { return ask(kPeer, make(FileOp::kLookup, top_, name_)); }
  // The file is at rest, and a node keeps its attributes.
  void keep() {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    auto seen = look();
    while (!seen.keep() && std::chrono::steady_clock::now() < deadline) seen = look();
    ASSERT_TRUE(seen.keep());
    ASSERT_NE(seen.lease(), 0u);
  }
  void expect_taken_back_by(peer::FileRequest request) {
    keep();
    const int before = store_.revokes;
    EXPECT_EQ(ask(NodeId{2}, std::move(request)).error(), 0u);
    EXPECT_EQ(store_.revokes, before + 1);
  }

  std::string name_ = "a";
  std::uint64_t top_ = 0;
  std::uint64_t file_ = 0;
  std::uint64_t handle_ = 0;
};

TEST_F(KeptAttributes, AreTakenBackByEveryChangeOfThem) {
  root(NodeId{2});
  auto write = make(FileOp::kWrite, file_);
  auto open = make(FileOp::kOpen, file_);
  open.set_flags(O_RDWR);
  write.set_handle(ask(NodeId{2}, open).handle());
  write.set_data("H");
  expect_taken_back_by(write);
  auto mode = make(FileOp::kSetAttributes, file_);
  mode.set_set(kSetMode);
  mode.mutable_attributes()->set_mode(0600);
  expect_taken_back_by(mode);
  auto value = make(FileOp::kSetXattr, file_, "user.a");
  value.set_data("v");
  expect_taken_back_by(value);
  expect_taken_back_by(make(FileOp::kRemoveXattr, file_, "user.a"));
  auto link = make(FileOp::kLink, file_);
  link.set_to_file(top_);
  link.set_to_name("b");
  expect_taken_back_by(link);
  expect_taken_back_by(make(FileOp::kUnlink, top_, "b"));
  auto rename = make(FileOp::kRename, top_, "a");
  rename.set_to_file(top_);
  rename.set_to_name("c");
  expect_taken_back_by(rename);
  name_ = "c";
  write_file("tree/d", "other");
  rename.set_name("d");
  expect_taken_back_by(rename);  // its name goes to another file
}

TEST_F(KeptAttributes, AWriteThatLeavesTheSizeWaitsForThem) {
  store_.gives_back_to = nullptr;
  keep();
  std::promise<std::uint64_t> written;
  auto write = make(FileOp::kWrite, file_);
  write.set_handle(handle_);
  write.set_data("H");
  write.set_id(1000);
  write.set_incarnation(kIncarnation);
  write.mutable_caller()->set_uid(::geteuid());
  server_.handle(kPeer, write,
                 [&](const peer::FileReply& reply) { written.set_value(reply.value()); });
  const peer::FileBody sent = store_.first_sent.get_future().get();
  ASSERT_TRUE(sent.has_revoke());
  auto result = written.get_future();
  EXPECT_EQ(result.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
  peer::FileRevoked revoked;
  revoked.set_incarnation(kIncarnation);
  revoked.set_file(file_);
  revoked.set_number(sent.revoke().number());
  server_.revoked(kPeer, revoked);
  EXPECT_EQ(result.get(), 1u);
}

// Its own kernel knows what it removes.
TEST_F(KeptAttributes, WhoAloneKeepsThemIsNotAskedWhenItRemovesTheFile) {
  keep();
  EXPECT_EQ(ask(kPeer, make(FileOp::kUnlink, top_, "a")).error(), 0u);
  EXPECT_EQ(store_.revokes, 0);
}

TEST_F(KeptAttributes, AreNotGivenWithWhatChangesThem) {
  keep();
  auto mode = make(FileOp::kSetAttributes, file_);
  mode.set_set(kSetMode);
  mode.mutable_attributes()->set_mode(0600);
  EXPECT_FALSE(ask(kPeer, mode).keep());
}

TEST_F(KeptAttributes, AreNotGivenOfAFileThatChangesAllTheTime) {
  keep();
  auto write = make(FileOp::kWrite, file_);
  write.set_handle(handle_);
  write.set_data("H");
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  std::chrono::steady_clock::time_point begin;
  peer::FileReply seen;
  // On a machine that is busy the file may rest in between, and then once more.
  do {
    begin = std::chrono::steady_clock::now();
    ASSERT_EQ(ask(kPeer, write).error(), 0u);
    seen = look();
  } while (seen.keep() &&
           begin + std::chrono::milliseconds(50) < std::chrono::steady_clock::now() &&
           begin < deadline);
  EXPECT_FALSE(seen.keep());
  EXPECT_NE(seen.lease(), 0u);  // on the size
}

TEST_F(KeptAttributes, AreTakenBackAndNotGivenAgainWhenTheFileIsMapped) {
  auto map = make(FileOp::kMap, file_);
  map.set_handle(handle_);
  keep();
  const int before = store_.revokes;
  ASSERT_EQ(ask(kPeer, map).error(), 0u);
  EXPECT_EQ(store_.revokes, before + 1);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_FALSE(look().keep());
}

}  // namespace
}  // namespace gob::file
