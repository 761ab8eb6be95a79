#include "libgob/linker/waiting_list.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "libgob/linker/ahead_list.h"
#include "libgob/linker/uffd_client.h"

namespace gob {
namespace {

constexpr ContainerId kContainer{1};

std::shared_ptr<Mapping> mapping(std::uint64_t id) {
  auto uffd = create_uffd(-1);
  if (!uffd) throw std::runtime_error(uffd.error().message());
  auto made = Mapping::create(std::move(uffd).value(),
                              {MappingId{id}, kContainer, 1 << 20, PageIndex{0}, 256, true});
  if (!made) throw std::runtime_error(made.error().message());
  return std::move(made).value();
}

class WaitingListTest : public ::testing::Test {
 protected:
  static Fault fault(const Mapping& of, std::uint64_t page, Access access,
                     FaultKind kind = FaultKind::kMissing) {
    return {of.id(), {kContainer, PageIndex{page}}, access, kind};
  }
  static PageSet stripe(std::uint64_t number, std::uint64_t mask) {
    return {kContainer, number, mask};
  }

  std::shared_ptr<Mapping> one_ = mapping(1);
  std::shared_ptr<Mapping> two_ = mapping(2);
  WaitingList list_;
  std::vector<Demand> demands_;
};

TEST_F(WaitingListTest, OnlyNewOrGreaterWishesAreNews) {
  EXPECT_TRUE(list_.add(fault(*one_, 3, Access::kRead), *one_, 1));
  EXPECT_FALSE(list_.add(fault(*one_, 3, Access::kRead), *one_, 2));
  EXPECT_TRUE(list_.add(fault(*one_, 3, Access::kWrite), *one_, 3));
  EXPECT_FALSE(list_.add(fault(*one_, 3, Access::kRead), *one_, 4));
  EXPECT_TRUE(list_.add(fault(*two_, 3, Access::kRead), *two_, 5));
  EXPECT_EQ(list_.size(), 2u);
}

TEST_F(WaitingListTest, DemandsAreByMapping) {
  list_.add(fault(*one_, 1, Access::kRead), *one_, 1);
  list_.add(fault(*one_, 2, Access::kWrite, FaultKind::kWriteProtect), *one_, 1);
  list_.add(fault(*two_, 2, Access::kRead, FaultKind::kMinor), *two_, 1);
  list_.add(fault(*two_, 65, Access::kRead), *two_, 1);
  list_.collect(stripe(0, 0b0110), demands_);
  ASSERT_EQ(demands_.size(), 2u);
  EXPECT_EQ(demands_[0].mapping, one_.get());
  EXPECT_EQ(demands_[0].waiting, 0b0110u);
  EXPECT_EQ(demands_[0].write_protected, 0b0100u);
  EXPECT_EQ(demands_[1].waiting, 0b0100u);
  EXPECT_EQ(demands_[1].write_protected, 0u);
  demands_.clear();
  list_.collect(stripe(0, 0b1000), demands_);
  EXPECT_TRUE(demands_.empty());
}

TEST_F(WaitingListTest, PageThatLeftIsMissingEvenForAnUpgrade) {
  list_.add(fault(*one_, 2, Access::kWrite, FaultKind::kWriteProtect), *one_, 1);
  list_.unmapped(stripe(0, 0b0100));
  list_.collect(stripe(0, 0b0100), demands_);
  ASSERT_EQ(demands_.size(), 1u);
  EXPECT_EQ(demands_[0].write_protected, 0u);
}

TEST_F(WaitingListTest, ResolvedPagesAndMappingsLeaveNothing) {
  for (std::uint64_t page = 0; page < 200; page += 10) {
    list_.add(fault(*one_, page, Access::kRead), *one_, page);
    list_.add(fault(*two_, page, Access::kRead), *two_, page);
  }
  EXPECT_EQ(list_.size(), 40u);
  list_.remove(stripe(0, ~std::uint64_t{0}));
  EXPECT_EQ(list_.size(), 26u);
  list_.remove(*one_);
  EXPECT_EQ(list_.size(), 13u);
  list_.remove(*two_);
  EXPECT_EQ(list_.size(), 0u);
  std::vector<PageSet> late;
  list_.overdue(~std::uint64_t{0}, late);
  EXPECT_TRUE(late.empty());
}

TEST_F(WaitingListTest, OverdueCountsFromTheFirstFault) {
  list_.add(fault(*one_, 3, Access::kRead), *one_, 10);
  list_.add(fault(*one_, 3, Access::kWrite), *one_, 50);
  std::vector<PageSet> late;
  list_.overdue(10, late);
  EXPECT_TRUE(late.empty());
  list_.overdue(11, late);
  ASSERT_EQ(late.size(), 1u);
  EXPECT_EQ(late[0], stripe(0, 0b1000));
}

TEST_F(WaitingListTest, AheadListAddsToDemandsOnce) {
  AheadList ahead;
  ahead.add(*one_, stripe(0, 0xff), 0x10);
  list_.add(fault(*one_, 1, Access::kRead), *one_, 1);
  list_.collect(stripe(0, 0x1f), demands_);
  ahead.collect(stripe(0, 0x1f), demands_);
  ASSERT_EQ(demands_.size(), 1u);
  EXPECT_EQ(demands_[0].waiting, 0x02u);
  EXPECT_EQ(demands_[0].ahead, 0x0fu);
  demands_.clear();
  ahead.collect(stripe(0, 0xff), demands_);
  ASSERT_EQ(demands_.size(), 1u);
  EXPECT_EQ(demands_[0].ahead, 0xe0u);
  demands_.clear();
  ahead.collect(stripe(0, 0xff), demands_);
  EXPECT_TRUE(demands_.empty());
}

TEST_F(WaitingListTest, AheadListForgetsTheOldestAndRemovedMappings) {
  AheadList ahead;
  for (std::uint64_t number = 0; number < 100; ++number)
    ahead.add(number % 2 == 0 ? *one_ : *two_, stripe(number, 1), 0);
  ahead.remove(*two_);
  unsigned found = 0;
  for (std::uint64_t number = 0; number < 100; ++number) {
    demands_.clear();
    ahead.collect(stripe(number, 1), demands_);
    for (const Demand& demand : demands_) {
      EXPECT_EQ(demand.mapping, one_.get());
      EXPECT_GE(number, 100 - 64u);
    }
    found += static_cast<unsigned>(demands_.size());
  }
  EXPECT_EQ(found, 32u);
}

}  // namespace
}  // namespace gob
