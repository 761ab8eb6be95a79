#include "libgob/container/container_record.h"

#include <gtest/gtest.h>

namespace gob {
namespace {

TEST(ContainerName, PlainAndForeignNamesAreGood) {
  for (const char* name : {"a", "matrix", "with space", "naïve", "行列", "x.y", "a-b_c:d", "🦎"})
    EXPECT_TRUE(check_name(name).ok()) << name;
  EXPECT_TRUE(check_name(std::string(kMaxNameBytes, 'x')).ok());
}

TEST(ContainerName, OddNamesAreRefusedWithAReason) {
  const auto why = [](std::string_view name) {
    const Status status = check_name(name);
    return status.ok() ? std::string() : status.error().context;
  };
  EXPECT_NE(why("").find("is empty"), std::string::npos);
  EXPECT_NE(why(std::string(129, 'x')).find("too long"), std::string::npos);
  EXPECT_NE(why(".hidden").find("dot"), std::string::npos);
  EXPECT_NE(why("..").find("dot"), std::string::npos);
  EXPECT_NE(why("a/b").find("'/'"), std::string::npos);
  EXPECT_NE(why("a\nb").find("printed"), std::string::npos);
  EXPECT_NE(why("a\x7f").find("printed"), std::string::npos);
  EXPECT_NE(why(std::string_view("a\0b", 3)).find("printed"), std::string::npos);
  EXPECT_NE(why("\xe2\x80\xaegnp").find("printed"), std::string::npos);  // right-to-left override
  EXPECT_NE(why("\xc2\x85").find("printed"), std::string::npos);         // C1 control
  EXPECT_NE(why("\xff").find("UTF-8"), std::string::npos);
  EXPECT_NE(why("\xc0\xaf").find("UTF-8"), std::string::npos);      // overlong '/'
  EXPECT_NE(why("\xed\xa0\x80").find("UTF-8"), std::string::npos);  // surrogate
  EXPECT_NE(why("ab\xe2\x82").find("UTF-8"), std::string::npos);    // cut short
}

TEST(ContainerName, MessagesShowNoRawControls) {
  EXPECT_EQ(quoted("a\nb\xff"), "'a\\x0ab\\xff'");
  EXPECT_EQ(quoted(std::string_view("\0", 1)), "'\\x00'");
  EXPECT_EQ(quoted("naïve"), "'naïve'");
}

TEST(ContainerSize, IsOneByteToTheLastPage) {
  EXPECT_FALSE(check_size(0).ok());
  EXPECT_TRUE(check_size(1).ok());
  EXPECT_TRUE(check_size(kMaxPages * kPageSize).ok());
  EXPECT_FALSE(check_size(kMaxPages * kPageSize + 1).ok());
  EXPECT_FALSE(check_size(~std::uint64_t{0}).ok());
  EXPECT_EQ(pages_of(1), 1u);
  EXPECT_EQ(pages_of(kPageSize), 1u);
  EXPECT_EQ(pages_of(kPageSize + 1), 2u);
  EXPECT_EQ(pages_of(kMaxPages * kPageSize), kMaxPages);
}

TEST(ContainerKinds, HomeSourceAndSizeBelongTogether) {
  ContainerRecord memory;
  memory.name = "memory";
  memory.size_bytes = 1;
  EXPECT_TRUE(check_kind(memory).ok());
  memory.source = "/data";
  EXPECT_FALSE(check_kind(memory).ok());

  ContainerRecord file = memory;
  file.kind = ContainerKind::kFile;
  EXPECT_FALSE(check_kind(file).ok());  // a file without a home
  file.info.home = NodeId{1};
  EXPECT_TRUE(check_kind(file).ok());
  file.size_bytes = 0;
  EXPECT_FALSE(check_kind(file).ok());

  ContainerRecord tree = file;
  tree.kind = ContainerKind::kTree;
  EXPECT_TRUE(check_kind(tree).ok());
  tree.size_bytes = 1;
  EXPECT_FALSE(check_kind(tree).ok());
  tree.size_bytes = 0;
  tree.source.assign(kMaxSourceBytes + 1, 'x');
  EXPECT_FALSE(check_kind(tree).ok());
  tree.source.clear();
  EXPECT_FALSE(check_kind(tree).ok());
}

TEST(ContainerRights, FirstClassThatFitsDecides) {
  ContainerRecord record;
  record.uid = 1000;
  record.gid = 100;
  record.mode = 0640;
  const Credentials owner{1000, 1, {}};
  const Credentials member{2000, 100, {}};
  const Credentials supplementary{2000, 1, {5, 100}};
  const Credentials other{3000, 3, {}};
  const Credentials root{0, 0, {}};
  EXPECT_TRUE(may(record, owner, Right::kWrite));
  EXPECT_TRUE(may(record, member, Right::kRead));
  EXPECT_FALSE(may(record, member, Right::kWrite));
  EXPECT_TRUE(may(record, supplementary, Right::kRead));
  EXPECT_FALSE(may(record, other, Right::kRead));
  EXPECT_TRUE(may(record, root, Right::kWrite));
  record.mode = 0077;  // everybody but the owner
  EXPECT_FALSE(may(record, owner, Right::kRead));
  EXPECT_TRUE(may(record, other, Right::kWrite));
}

TEST(ContainerRights, OnlyOwnerAndRootRemove) {
  ContainerRecord record;
  record.uid = 1000;
  record.gid = 100;
  record.mode = 0777;
  EXPECT_TRUE(may(record, {1000, 1, {}}, Right::kAdmin));
  EXPECT_TRUE(may(record, {0, 0, {}}, Right::kAdmin));
  EXPECT_FALSE(may(record, {2000, 100, {}}, Right::kAdmin));
}

}  // namespace
}  // namespace gob
