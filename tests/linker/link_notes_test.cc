// What is noted of the pages of a link: those that are lost, and those that leave while a file is written
// to its disk; and that writing, of files that are not linked: it needs no kernel with linkers.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "libgob/base/unique_fd.h"
#include "libgob/linker/file_sync.h"
#include "libgob/linker/lost_pages.h"

namespace gob {
namespace {

TEST(LostPages, RunsAreNamedByTheirEnds) {
  const auto runs = runs_of({4, 17, 18, 19, 21});
  ASSERT_EQ(runs.size(), 3u);
  EXPECT_EQ(runs[1].first, 17u);
  EXPECT_EQ(runs[1].count, 3u);
  EXPECT_EQ(to_words(runs, 3), "4, 17-19, 21");
  EXPECT_EQ(to_words(runs, 1), "4 and 2 more runs");
  EXPECT_EQ(to_words({}, 1), "");
}

TEST(LostPages, WhatIsZeroIsToldInOrderAndOnce) {
  LostPages lost;
  EXPECT_FALSE(lost.zeros_accepted());
  lost.note(PageIndex{7});
  EXPECT_TRUE(lost.contains(7));
  EXPECT_FALSE(lost.contains(8));
  for (const std::uint64_t page : {9, 2, 9}) lost.note_zeros(PageIndex{page});
  EXPECT_EQ(lost.zeros(), (std::vector<std::uint64_t>{2, 9}));
}

TEST(TakenPages, OnlyWatchedPagesAreNoted) {
  TakenPages taken;
  taken.note(PageIndex{5}, 3);
  EXPECT_TRUE(taken.taken().empty());
  taken.watch(6, 10);
  taken.note(PageIndex{0}, 8);
  taken.note(PageIndex{15}, 64);
  EXPECT_EQ(taken.taken(), (std::vector<std::uint64_t>{6, 7, 15}));
  taken.watch(6, 1);
  EXPECT_TRUE(taken.taken().empty());
}

class FileSync : public testing::Test {
 protected:
  static constexpr std::uint64_t kPages = 150;
  FileSync() { EXPECT_EQ(::ftruncate(file_.get(), kPages * kPageSize - 100), 0); }

  UniqueFd file_{::memfd_create("synced", MFD_CLOEXEC)};
  TakenPages taken_;
};

TEST_F(FileSync, EveryPageIsWritten) {
  EXPECT_TRUE(sync_linked_file(file_.get(), kPages, taken_));
  taken_.note(PageIndex{0}, kPages);
  EXPECT_TRUE(taken_.taken().empty());  // nobody watches any more
}

using Runs = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

TEST(WriteInRuns, WhatIsTakenMeanwhileIsWrittenAgain) {
  TakenPages taken;
  Runs written;
  EXPECT_TRUE(write_in_runs(150, taken, [&](std::uint64_t first, std::uint64_t count) {
    written.emplace_back(first, count);
    if (count == 64 && first == 64) taken.note(PageIndex{60}, 7);  // 64, 65 and 66 are of this run
    if (first == 65 && written.size() < 6) taken.note(PageIndex{65}, 1);
    return 0;
  }));
  EXPECT_EQ(written, (Runs{{0, 64}, {64, 64}, {64, 1}, {65, 1}, {65, 1}, {65, 1}, {66, 1}, {128, 22}}));
}

TEST(WriteInRuns, APageThatIsTakenAgainAndAgainEndsIt) {
  TakenPages taken;
  const Status status = write_in_runs(150, taken, [&](std::uint64_t, std::uint64_t) {
    taken.note(PageIndex{70}, 1);
    return 0;
  });
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kUnavailable);
  EXPECT_NE(status.error().message().find("page 70"), std::string::npos);
}

TEST_F(FileSync, APageThatCannotBeHadIsNamed) {
  const Status status = sync_linked_file(file_.get(), kPages + 64, taken_);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kLost);
  EXPECT_NE(status.error().message().find("pages 128 to 191"), std::string::npos)
      << status.error().message();
}

}  // namespace
}  // namespace gob
