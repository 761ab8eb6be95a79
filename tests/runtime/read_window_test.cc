// ReadWindow: who may ask, who waits, and in which order.
#include "libgob/runtime/read_window.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace gob {
namespace {

using Part = std::shared_ptr<FilePart>;
constexpr unsigned kWhole = kStripePages;

Part part(std::uint64_t stripe, unsigned pages = kWhole) {
  auto made = std::make_shared<FilePart>();
  made->pages = {ContainerId{7}, stripe, ~std::uint64_t{0} >> (kStripePages - pages)};
  return made;
}

class ReadWindowTest : public ::testing::Test {
 protected:
  // Whole stripes, until the window is full.
  void fill() {
    while (window_.asked() + kWhole <= ReadWindow::kMostPages) {
      inside_.push_back(part(inside_.size()));
      ASSERT_TRUE(window_.enter(inside_.back(), kWhole));
    }
  }
  std::vector<Part> leave(const Part& who) {
    std::vector<Part> next;
    window_.leave(*who, [&](const Part& each) { next.push_back(each); });
    return next;
  }

  ReadWindow window_;
  std::vector<Part> inside_;
};

TEST_F(ReadWindowTest, LetsInAsManyAsFitAndTheOthersInOrder) {
  fill();
  EXPECT_EQ(window_.asked(), ReadWindow::kMostPages);
  EXPECT_TRUE(window_.busy());
  const Part first = part(100);
  const Part second = part(101);
  EXPECT_FALSE(window_.enter(first, kWhole));
  EXPECT_FALSE(window_.enter(second, kWhole));
  EXPECT_FALSE(window_.enter(first, kWhole));  // asking again does not help
  EXPECT_EQ(leave(inside_[0]), std::vector<Part>{first});
  EXPECT_TRUE(window_.enter(first, kWhole));
  EXPECT_FALSE(window_.enter(second, kWhole));
  EXPECT_EQ(leave(inside_[1]), std::vector<Part>{second});
  EXPECT_EQ(window_.asked(), ReadWindow::kMostPages);
  for (std::size_t i = 2; i < inside_.size(); ++i) EXPECT_TRUE(leave(inside_[i]).empty());
  leave(first);
  leave(second);
  EXPECT_EQ(window_.asked(), 0u);
}

TEST_F(ReadWindowTest, NobodyOvertakesButSmallReads) {
  fill();
  const Part first = part(100);
  EXPECT_FALSE(window_.enter(first, kWhole));
  const Part later = part(101, 16);
  EXPECT_FALSE(window_.enter(later, 16));
  const Part small = part(102, ReadWindow::kSmallPages);
  EXPECT_TRUE(window_.enter(small, ReadWindow::kSmallPages));
  EXPECT_TRUE(leave(small).empty());
  EXPECT_EQ(leave(inside_[0]), std::vector<Part>{first});
}

TEST_F(ReadWindowTest, OneThatEndedInLineIsPassedOver) {
  fill();
  const Part ended = part(100);
  const Part next = part(101);
  EXPECT_FALSE(window_.enter(ended, kWhole));
  EXPECT_FALSE(window_.enter(next, kWhole));
  ended->counted = true;  // by pages that another asked for, or refused
  EXPECT_TRUE(leave(ended).empty());
  EXPECT_EQ(leave(inside_[0]), std::vector<Part>{next});
}

// Its pages left before the answer: it asks once more.
TEST_F(ReadWindowTest, OneThatLeftMayComeAgain) {
  const Part again = part(1);
  EXPECT_TRUE(window_.enter(again, kWhole));
  leave(again);
  EXPECT_TRUE(window_.enter(again, kWhole));
  EXPECT_EQ(window_.asked(), kWhole);
  EXPECT_FALSE(window_.busy());
  leave(again);
  EXPECT_EQ(window_.asked(), 0u);
}

}  // namespace
}  // namespace gob
