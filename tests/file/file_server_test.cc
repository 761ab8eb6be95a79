// The home's side on a real file system: what it hands out, and to whom.
#include "tests/file/file_server_fixture.h"

namespace gob::file {
namespace {

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

// What it has written into the pages would be forgotten with what the other wrote into the file.

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

TEST_F(FileServerTest, WhatIsDetachedIsStale) {
  const auto top = root(kPeer);
  server_.detach(kTree);
  EXPECT_EQ(ask(kPeer, make(FileOp::kGetAttributes, top.file())).error(),
            static_cast<std::uint32_t>(ESTALE));
  EXPECT_EQ(root(kPeer).error(), static_cast<std::uint32_t>(ESTALE));
}

}  // namespace
}  // namespace gob::file
