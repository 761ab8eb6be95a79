// Names of folders that nodes keep: on the nodes (FolderNames), and the leases at their home.
#include "libgob/file/folder_names.h"

#include <gtest/gtest.h>
#include <sys/xattr.h>

#include <chrono>
#include <thread>

#include "tests/file/file_server_fixture.h"

namespace gob::file {
namespace {

const RemoteFile kFolder{NodeId{0}, 1, 7};

TEST(FolderNames, AreKnownForAWhile) {
  FolderNames::Clock::time_point now{};
  FolderNames names([&] { return now; });
  EXPECT_FALSE(names.find(kFolder, "a"));
  names.note(kFolder, "a", {{NodeId{0}, 1, 8}, {}, 3});
  now += FolderNames::kLongest - std::chrono::milliseconds(1);
  ASSERT_TRUE(names.find(kFolder, "a"));
  EXPECT_EQ(names.find(kFolder, "a")->file.file, 8u);
  EXPECT_EQ(names.find(kFolder, "a")->lease, 3u);
  EXPECT_FALSE(names.find(kFolder, "b"));
  EXPECT_FALSE(names.find({NodeId{0}, 2, 7}, "a"));
  now += std::chrono::milliseconds(1);
  EXPECT_FALSE(names.find(kFolder, "a"));
}

TEST(FolderNames, AreForgottenWithTheirHome) {
  FolderNames names;
  const RemoteFile other{NodeId{1}, 1, 7};
  names.note(kFolder, "a", {{NodeId{0}, 1, 8}, {}, 3});
  names.note(other, "a", {{NodeId{1}, 1, 8}, {}, 3});
  names.forget(NodeId{0});
  EXPECT_FALSE(names.find(kFolder, "a"));
  EXPECT_TRUE(names.find(other, "a"));
}

TEST(FolderNames, AreNotMoreThanThereIsRoomFor) {
  FolderNames::Clock::time_point now{};
  FolderNames names([&] { return now; });
  for (std::size_t i = 0; i < FolderNames::kMost; ++i)
    names.note(kFolder, std::to_string(i), {{NodeId{0}, 1, i}, {}, 3});
  names.note(kFolder, "one more", {{NodeId{0}, 1, 1}, {}, 3});
  EXPECT_FALSE(names.find(kFolder, "one more"));
  now += FolderNames::kLongest;
  names.note(kFolder, "one more", {{NodeId{0}, 1, 1}, {}, 3});
  EXPECT_TRUE(names.find(kFolder, "one more"));
}

class NameLeases : public FileServerTest {
 protected:
  void SetUp() override {
    FileServerTest::SetUp();
    store_.gives_back_to = &server_;
    fs::create_directories(folder_ / "tree/outer/inner");
    fs::create_directory(folder_ / "tree/other");
    write_file("tree/outer/file", "x");
    top_ = root(kPeer).file();
    outer_ = look(top_, "outer").file();
    other_ = look(top_, "other").file();
  }
  peer::FileReply look(std::uint64_t folder, const std::string& name) {
    return ask(kPeer, make(FileOp::kLookup, folder, name));
  }
  // The peer gets a lease on the folder: once the last change there has ended, which it does after
  // it was answered.
  void take_lease(std::uint64_t folder, const std::string& name) {
    const auto enough = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (look(folder, name).name_lease() == 0)
      ASSERT_LT(std::chrono::steady_clock::now(), enough) << name;
  }
  // The peer has a lease on the folder, and is asked to give it back.
  void expect_taken_back(std::uint64_t folder, const std::string& name, peer::FileRequest request) {
    take_lease(folder, name);
    const int before = store_.revokes;
    EXPECT_EQ(ask(kHere, std::move(request)).error(), 0u);
    EXPECT_EQ(store_.revokes, before + 1);
  }

  std::uint64_t top_ = 0;
  std::uint64_t outer_ = 0;
  std::uint64_t other_ = 0;
};

TEST_F(NameLeases, ComeWithFoldersThatEverybodyMayLookFor) {
  EXPECT_NE(look(outer_, "inner").name_lease(), 0u);
  EXPECT_EQ(look(outer_, "file").name_lease(), 0u) << "no folder";
  ASSERT_EQ(::chmod((folder_ / "tree/outer").c_str(), 0701), 0);
  EXPECT_EQ(look(outer_, "inner").name_lease(), 0u) << "not for the owner's group";
  EXPECT_NE(look(top_, "outer").name_lease(), 0u) << "it may be found itself";
}

// The kernel looks at their sticky bit as it was told, and may have been told an older one.
TEST_F(NameLeases, DoNotComeWithStickyFolders) {
  ASSERT_EQ(::chmod((folder_ / "tree/outer/inner").c_str(), 01777), 0);
  EXPECT_EQ(look(outer_, "inner").name_lease(), 0u);
}

TEST_F(NameLeases, AreNotGivenInEitherFolderBeforeARenameIsMade) {
  root(kHere);
  fs::create_directory(folder_ / "tree/other/goes");
  ASSERT_NE(look(outer_, "inner").name_lease(), 0u);
  store_.gives_back_to = nullptr;
  auto rename = make(FileOp::kRename, other_, "goes");
  rename.set_to_file(outer_);
  rename.set_to_name("came");
  rename.set_id(1000);
  rename.set_incarnation(kIncarnation);
  rename.mutable_caller()->set_uid(::geteuid());
  std::promise<peer::FileReply> moved;
  server_.handle(kHere, rename, [&](peer::FileReply reply) { moved.set_value(std::move(reply)); });
  const peer::FileBody sent = store_.first_sent.get_future().get();
  ASSERT_TRUE(sent.has_revoke());
  EXPECT_EQ(sent.revoke().file(), outer_);
  EXPECT_EQ(look(other_, "goes").name_lease(), 0u) << "of the folder that nobody has a lease on";
  EXPECT_TRUE(fs::exists(folder_ / "tree/other/goes"));
  peer::FileRevoked revoked;
  revoked.set_incarnation(kIncarnation);
  revoked.set_file(outer_);
  revoked.set_number(sent.revoke().number());
  server_.revoked(kPeer, revoked);
  EXPECT_EQ(moved.get_future().get().error(), 0u);
  // The change is over soon after its answer.
  const auto late = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (look(outer_, "came").name_lease() == 0 && std::chrono::steady_clock::now() < late)
    std::this_thread::yield();
  EXPECT_NE(look(outer_, "came").name_lease(), 0u);
}

// It is known by another attachment, too, and the last node that knows it by this one forgets it.
TEST_F(NameLeases, AreNotWaitedForWhenNobodyKnowsTheFolderAnyMore) {
  const ContainerId again{6};
  server_.attach(again, (folder_ / "tree").string());
  take_lease(outer_, "inner");
  const auto look_here = [&](std::uint64_t folder, const std::string& name) {
    return ask(kHere, make(FileOp::kLookup, folder, name)).file();
  };
  const auto top = ask(kHere, make(FileOp::kRoot, again.value())).file();
  const std::uint64_t outer = look_here(top, "outer");
  ASSERT_NE(outer, outer_);
  store_.gives_back_to = nullptr;
  auto rename = make(FileOp::kRename, outer, "inner");
  rename.set_to_file(outer);
  rename.set_to_name("renamed");
  rename.set_id(1000);
  rename.set_incarnation(kIncarnation);
  rename.mutable_caller()->set_uid(::geteuid());
  std::promise<peer::FileReply> renamed;
  server_.handle(kHere, rename,
                 [&](peer::FileReply reply) { renamed.set_value(std::move(reply)); });
  const peer::FileBody sent = store_.first_sent.get_future().get();
  ASSERT_TRUE(sent.has_revoke());
  EXPECT_EQ(sent.revoke().file(), outer_);
  peer::FileForget forget;
  forget.set_incarnation(kIncarnation);
  forget.add_files(outer_);
  forget.add_counts(100);
  server_.forget(kPeer, forget);
  EXPECT_EQ(renamed.get_future().get().error(), 0u);
  EXPECT_NE(look_here(outer, "renamed"), 0u);
}

TEST_F(NameLeases, DoNotComeWhereAListSaysWhoMay) {
  struct {
    std::uint32_t version = 2;
    struct {
      std::uint16_t tag, permissions;
      std::uint32_t id;
    } entries[5] = {{1, 7, ~0u}, {2, 0, kNobody}, {4, 7, ~0u}, {16, 7, ~0u}, {32, 7, ~0u}};
  } list;
  const std::string path = folder_ / "tree/outer";
  if (::setxattr(path.c_str(), "system.posix_acl_access", &list, sizeof list, 0) != 0)
    GTEST_SKIP() << "the file system of /tmp has no access control lists";
  EXPECT_EQ(look(outer_, "inner").name_lease(), 0u);
}

TEST_F(NameLeases, AreTakenBackBeforeANameOrARightChanges) {
  root(kHere);
  auto rename = make(FileOp::kRename, outer_, "inner");
  rename.set_to_file(other_);
  rename.set_to_name("moved");
  expect_taken_back(outer_, "inner", rename);
  auto back = make(FileOp::kRename, other_, "moved");
  back.set_to_file(outer_);
  back.set_to_name("inner");
  take_lease(top_, "outer");
  const int before = store_.revokes;
  take_lease(other_, "moved");
  EXPECT_EQ(ask(kHere, back).error(), 0u);
  EXPECT_EQ(store_.revokes, before + 1) << "of the one folder that it had a lease on";
  auto rights = make(FileOp::kSetAttributes, outer_);
  rights.set_set(kSetMode);
  rights.mutable_attributes()->set_mode(0755);
  expect_taken_back(outer_, "inner", rights);
  expect_taken_back(outer_, "inner", make(FileOp::kRemoveFolder, outer_, "inner"));
  EXPECT_EQ(look(outer_, "inner").error(), static_cast<std::uint32_t>(ENOENT));
}

}  // namespace
}  // namespace gob::file
