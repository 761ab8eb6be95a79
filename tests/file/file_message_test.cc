// What a peer may say about files.
#include "libgob/file/file_message.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "libgob/base/ids.h"

namespace gob::file {
namespace {

peer::FileRequest request(FileOp op) {
  peer::FileRequest made;
  made.set_id(1);
  made.set_op(static_cast<std::uint32_t>(op));
  return made;
}

TEST(FileMessage, ANameIsOneComponent) {
  for (const FileOp op : {FileOp::kLookup, FileOp::kCreate, FileOp::kUnlink, FileOp::kMakeFolder}) {
    peer::FileRequest asked = request(op);
    asked.set_name("file");
    EXPECT_TRUE(check_file_request(asked).ok());
    for (const std::string& name :
         {std::string(), std::string("."), std::string(".."), std::string("a/b"),
          std::string("/etc"), std::string("a\0b", 3), std::string(256, 'x')}) {
      asked.set_name(name);
      EXPECT_FALSE(check_file_request(asked).ok()) << name;
    }
  }
  peer::FileRequest renamed = request(FileOp::kRename);
  renamed.set_name("a");
  renamed.set_to_name("../b");
  EXPECT_FALSE(check_file_request(renamed).ok());
}

// The home would take them for nonsense, and drop the node.
TEST(FileMessage, WhatAProgramMayAskForAndNoHomeTakesHasItsErrno) {
  const std::string longest(kMaxFileNameBytes, 'x');
  peer::FileRequest asked = request(FileOp::kLookup);
  asked.set_name(longest);
  EXPECT_EQ(error_of_limits(asked), 0);
  asked.set_name(longest + "x");
  EXPECT_EQ(error_of_limits(asked), ENAMETOOLONG);
  asked = request(FileOp::kLink);
  asked.set_to_name(longest + "x");
  EXPECT_EQ(error_of_limits(asked), ENAMETOOLONG);
  asked = request(FileOp::kSymlink);
  asked.set_name("link");
  asked.set_to_name(std::string(kMaxLinkBytes + 1, 'x'));
  EXPECT_EQ(error_of_limits(asked), ENAMETOOLONG);
  asked = request(FileOp::kGetXattr);
  asked.set_name(longest + "x");
  EXPECT_EQ(error_of_limits(asked), ERANGE);
  asked = request(FileOp::kSetXattr);
  asked.set_name("user.x");
  asked.set_data(std::string(kMaxXattrBytes + 1, 'x'));
  EXPECT_EQ(error_of_limits(asked), E2BIG);
  asked = request(FileOp::kSeek);
  asked.set_offset(~std::uint64_t{0});
  EXPECT_EQ(error_of_limits(asked), ENXIO);
}

TEST(FileMessage, ALinkMayPointAnywhereBecauseNobodyFollowsItHere) {
  peer::FileRequest link = request(FileOp::kSymlink);
  link.set_name("link");
  link.set_to_name("../../etc/passwd");
  EXPECT_TRUE(check_file_request(link).ok());
  link.set_to_name(std::string(4096, 'x'));
  EXPECT_FALSE(check_file_request(link).ok());
}

TEST(FileMessage, NumbersHaveBounds) {
  EXPECT_FALSE(check_file_request(peer::FileRequest()).ok());
  peer::FileRequest unknown = request(FileOp::kRead);
  unknown.set_op(kLastFileOp + 1);
  EXPECT_FALSE(check_file_request(unknown).ok());
  peer::FileRequest read = request(FileOp::kRead);
  read.set_size(kMaxIoBytes);
  EXPECT_TRUE(check_file_request(read).ok());
  read.set_size(kMaxIoBytes + 1);
  EXPECT_FALSE(check_file_request(read).ok());
  read.set_size(1);
  read.set_offset(std::uint64_t{1} << 63);
  EXPECT_FALSE(check_file_request(read).ok());
  peer::FileRequest write = request(FileOp::kWrite);
  write.set_data(std::string(kMaxIoBytes + 1, 'x'));
  EXPECT_FALSE(check_file_request(write).ok());
  peer::FileRequest times = request(FileOp::kSetAttributes);
  times.mutable_attributes()->mutable_modified()->set_nanoseconds(1'000'000'000);
  EXPECT_FALSE(check_file_request(times).ok());
}

TEST(FileMessage, ALockHasATypeAndAnOrder) {
  peer::FileRequest lock = request(FileOp::kSetLock);
  EXPECT_FALSE(check_file_request(lock).ok());
  lock.mutable_lock()->set_type(F_WRLCK);
  lock.mutable_lock()->set_last(10);
  EXPECT_TRUE(check_file_request(lock).ok());
  lock.mutable_lock()->set_first(11);
  EXPECT_FALSE(check_file_request(lock).ok());
  lock.mutable_lock()->set_first(0);
  lock.mutable_lock()->set_type(77);
  EXPECT_FALSE(check_file_request(lock).ok());
}

TEST(FileMessage, LocksGoBetweenNodesThatCanBe) {
  peer::FileRequest offer = request(FileOp::kOfferLocks);
  EXPECT_FALSE(check_file_request(offer).ok());
  offer.mutable_lock()->set_type(F_UNLCK);
  EXPECT_TRUE(check_file_request(offer).ok());
  offer.set_node(kMaxNodes);
  EXPECT_FALSE(check_file_request(offer).ok());
  peer::FileRequest join = request(FileOp::kSetLock);
  join.mutable_lock()->set_type(F_WRLCK);
  join.mutable_lock()->mutable_joins()->set_node(kMaxNodes);
  EXPECT_FALSE(check_file_request(join).ok());
  peer::FileRequest list = request(FileOp::kListLocks);
  for (std::size_t i = 0; i <= kMaxLocks; ++i) list.add_locks();
  EXPECT_FALSE(check_file_request(list).ok());
}

TEST(FileMessage, AnAnswerIsCheckedLikeARequest) {
  peer::FileReply reply;
  EXPECT_FALSE(check_file_reply(reply).ok());
  reply.set_id(1);
  EXPECT_TRUE(check_file_reply(reply).ok());
  reply.add_entries()->set_name("../x");
  EXPECT_FALSE(check_file_reply(reply).ok());
  reply.mutable_entries(0)->set_name("x");
  EXPECT_TRUE(check_file_reply(reply).ok());
  reply.set_error(5000);
  EXPECT_FALSE(check_file_reply(reply).ok());
}

TEST(FileMessage, AReadThatWaitsForTheSizeIsCalledARead) {
  peer::FileRequest asked = request(FileOp::kGetAttributes);
  EXPECT_EQ(to_words(asked), "get attributes");
  asked.set_flags(kWithLease);
  asked.set_offset(4096);
  asked.set_size(100);
  EXPECT_EQ(to_words(asked), "read 100 bytes at 4096");
}

TEST(FileMessage, ABodyIsOneThing) {
  peer::FileBody body;
  EXPECT_FALSE(check_file_body(body).ok());
  body.mutable_forget()->add_files(1);
  EXPECT_FALSE(check_file_body(body).ok());
  body.mutable_forget()->add_counts(1);
  EXPECT_TRUE(check_file_body(body).ok());
}

}  // namespace
}  // namespace gob::file
