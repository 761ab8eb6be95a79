// The checker of histories tells the litmus tests' forbidden outcomes from the allowed ones.
#include "tests/sim/history.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gob::sim {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr unsigned kX = 0;
constexpr unsigned kY = 1;

// One thread on each node; writes are numbered by hand so that a read can name what it saw.
class HistoryTest : public ::testing::Test {
 protected:
  void write(std::uint16_t node, unsigned page, Value value) {
    history_.add({NodeId{node}, 0, page, true, value});
  }
  void read(std::uint16_t node, unsigned page, Value value) {
    history_.add({NodeId{node}, 0, page, false, value});
  }
  [[nodiscard]] std::string check() const {
    return history_.check([](unsigned) { return false; });
  }

  History history_;
};

TEST_F(HistoryTest, NothingHappenedIsConsistent) { EXPECT_THAT(check(), IsEmpty()); }

TEST_F(HistoryTest, StoreBufferingWhereBothReadZerosIsNot) {
  write(0, kX, 1);
  write(1, kY, 2);
  read(0, kY, 0);
  read(1, kX, 0);
  EXPECT_THAT(check(), HasSubstr("not sequentially consistent"));
}

TEST_F(HistoryTest, StoreBufferingWhereOneSeesTheOtherIs) {
  write(0, kX, 1);
  read(0, kY, 0);
  write(1, kY, 2);
  read(1, kX, 1);
  EXPECT_THAT(check(), IsEmpty());
}

TEST_F(HistoryTest, AMessageThatOvertakesItsDataIsNot) {
  write(0, kX, 1);
  write(0, kY, 2);
  read(1, kY, 2);
  read(1, kX, 0);
  EXPECT_THAT(check(), HasSubstr("node 1 thread 0 reads #0 from page 0"));
}

TEST_F(HistoryTest, ReadersThatDisagreeOnTheOrderOfWritesAreNot) {
  write(0, kX, 1);
  write(1, kY, 2);
  read(2, kX, 1);
  read(2, kY, 0);
  read(3, kY, 2);
  read(3, kX, 0);
  EXPECT_THAT(check(), HasSubstr("not sequentially consistent"));
}

TEST_F(HistoryTest, LoadBufferingWhereBothSeeTheOthersLaterWriteIsNot) {
  read(0, kY, 2);
  write(0, kX, 1);
  read(1, kX, 1);
  write(1, kY, 2);
  EXPECT_THAT(check(), HasSubstr("not sequentially consistent"));
}

TEST_F(HistoryTest, AReadOfAnOldValueIsFineAsLongAsNobodyCanTell) {
  write(0, kX, 1);
  read(1, kX, 0);  // later, but it may come first in the order
  EXPECT_THAT(check(), IsEmpty());
}

TEST_F(HistoryTest, AReadThatGoesBackIsNot) {
  write(0, kX, 1);
  read(1, kX, 1);
  read(1, kX, 0);
  EXPECT_THAT(check(), HasSubstr("not sequentially consistent"));
}

TEST_F(HistoryTest, AValueThatNobodyWroteIsToldApart) {
  write(0, kX, 1);
  read(1, kX, 7);
  EXPECT_THAT(check(), HasSubstr("which nobody wrote"));
}

TEST_F(HistoryTest, PagesOfRemovedContainersAreLeftOut) {
  write(0, kX, 1);
  read(1, kX, 7);
  EXPECT_THAT(history_.check([](unsigned page) { return page == kX; }), IsEmpty());
}

}  // namespace
}  // namespace gob::sim
