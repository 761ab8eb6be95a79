// Pages that CRIU did not see are found: of this process, with memory areas made up for it.
#include "libgob/migration/left_out.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "libgob/base/ids.h"

namespace gob::migration {
namespace {

constexpr std::uint64_t kPages = 16;

class LeftOut : public testing::Test {
 protected:
  // Pages 3 to 5 and 9 have bytes; CRIU would have seen 3 and 5.
  LeftOut() {
    memory_ = static_cast<char*>(::mmap(nullptr, kPages * kPageSize, PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    for (const std::uint64_t page : {3, 4, 5, 9}) std::memset(memory_ + page * kPageSize, 7, 1);
    task_.pid = 1;
    task_.areas = {{at(0), at(kPages), true}};
    task_.runs = {{at(3), 1}, {at(5), 1}};
    task_.saved = task_.runs;
  }
  ~LeftOut() override { ::munmap(memory_, kPages * kPageSize); }
  [[nodiscard]] std::uint64_t at(std::uint64_t page) const {
    return reinterpret_cast<std::uint64_t>(memory_) + page * kPageSize;
  }

  char* memory_ = nullptr;
  LazyTask task_;
};

TEST_F(LeftOut, PagesThatMayComeLaterAreAdded) {
  ASSERT_TRUE(add_left_out(::getpid(), task_));
  const std::vector<LazyRun> all{{at(3), 1}, {at(5), 1}, {at(4), 1}, {at(9), 1}};
  EXPECT_EQ(task_.runs, all);
  EXPECT_EQ(task_.saved, all);
}

TEST_F(LeftOut, NothingIsAddedWhereNothingIsMissing) {
  task_.saved = {{at(0), kPages}};
  ASSERT_TRUE(add_left_out(::getpid(), task_));
  EXPECT_EQ(task_.runs.size(), 2u);
}

TEST_F(LeftOut, APageThatHasToBeInTheImagesStopsTheMove) {
  task_.areas.front().lazy = false;
  const Status status = add_left_out(::getpid(), task_);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(status.error().errno_value, EAGAIN);
}

}  // namespace
}  // namespace gob::migration
