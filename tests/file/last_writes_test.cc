#include "libgob/file/last_writes.h"

#include <gtest/gtest.h>

#include <optional>

namespace gob::file {
namespace {

const ContainerId kTree{5};
const ContainerId kOther{6};

class Told {
 public:
  std::shared_ptr<Gathered> gather() {
    return std::make_shared<Gathered>([this](const Status& status) { status_ = status; });
  }
  [[nodiscard]] bool told() const { return status_.has_value(); }
  [[nodiscard]] bool failed() const { return status_ && !*status_; }

 private:
  std::optional<Status> status_;
};

TEST(LastWrites, WhoWaitsHearsOfThoseOfTheAttachmentThatHaveBegun) {
  LastWrites writes;
  auto first = writes.begin({kTree});
  auto second = writes.begin({kTree});
  const auto other = writes.begin({kOther});
  Told told;
  writes.await(kTree, told.gather());
  const auto later = writes.begin({kTree});
  first->end({});
  first.reset();
  EXPECT_FALSE(told.told());
  second->end(make_error(ErrorCode::kNoSpace, "full", ENOSPC));
  EXPECT_FALSE(told.told());
  second.reset();
  EXPECT_TRUE(told.failed());
}

TEST(LastWrites, WhoWantsAFileWaitsForThatFileOnly) {
  LastWrites writes;
  int begun = 0;
  const auto wants = [&](const char* file) {
    return writes.after([file] { return std::string(file); }, [&begun] { ++begun; });
  };
  const auto nameless = writes.begin({kTree});
  EXPECT_FALSE(wants(""));
  auto write = writes.begin({kTree}, "one");
  EXPECT_FALSE(wants("other"));
  EXPECT_TRUE(wants("one"));
  EXPECT_EQ(begun, 0);
  write->end({});
  write.reset();
  EXPECT_EQ(begun, 1);
  EXPECT_FALSE(wants("one"));
}

TEST(LastWrites, AWriteHasManyHolders) {
  LastWrites writes;
  auto write = writes.begin({kTree});
  auto same = write;
  Told told;
  writes.await_all(told.gather());
  write->end({});
  write.reset();
  EXPECT_FALSE(told.told());
  same.reset();
  EXPECT_TRUE(told.told());
  EXPECT_FALSE(told.failed());
}

TEST(LastWrites, WithNothingUnderWayWhoWaitsHearsAtOnce) {
  LastWrites writes;
  const auto other = writes.begin({kOther});
  Told told;
  writes.await(kTree, told.gather());
  EXPECT_TRUE(told.told());
  EXPECT_FALSE(told.failed());
}

TEST(LastWrites, AFailureThatNobodyWaitedForIsToldOnceToWhoAsksLater) {
  LastWrites writes;
  writes.begin({kTree})->end(make_error(ErrorCode::kNoSpace, "full", ENOSPC));
  Told of_another;
  writes.await(kOther, of_another.gather());
  EXPECT_TRUE(of_another.told());
  EXPECT_FALSE(of_another.failed());
  Told first;
  writes.await(kTree, first.gather());
  EXPECT_TRUE(first.failed());
  Told second;
  writes.await(kTree, second.gather());
  EXPECT_TRUE(second.told());
  EXPECT_FALSE(second.failed());
}

// As a home does that ends before its disk had it.
TEST(LastWrites, WhatIsDroppedHasFailed) {
  LastWrites writes;
  auto write = writes.begin({kTree});
  Told told;
  writes.await(kTree, told.gather());
  write.reset();
  EXPECT_TRUE(told.failed());
}

TEST(Gathered, HearsOfAPartThatWasDropped) {
  Told told;
  {
    const auto all = told.gather();
    Part(all).end({});
    const Part dropped(all);
  }
  EXPECT_TRUE(told.failed());
}

TEST(Gathered, HearsThatAllPartsEndedWell) {
  Told told;
  {
    const auto all = told.gather();
    Part(all).end({});
  }
  EXPECT_TRUE(told.told());
  EXPECT_FALSE(told.failed());
}

// Who is told may ask again at once.
TEST(LastWrites, WhoIsToldMayWaitAnew) {
  LastWrites writes;
  auto write = writes.begin({kTree});
  Told told;
  writes.await(kTree, std::make_shared<Gathered>(
                          [&](const Status&) { writes.await(kTree, told.gather()); }));
  write.reset();
  EXPECT_TRUE(told.told());
}

}  // namespace
}  // namespace gob::file
