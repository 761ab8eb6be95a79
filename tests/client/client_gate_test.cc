// The gate through which threads go to gobd: it closes at a moment when nobody is inside.
#include "libgob/client/gate.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <future>
#include <memory>

namespace gob::client {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kLong{60'000};
constexpr milliseconds kShort{20};

TEST(Gate, ClosesAtOnceWhenNobodyIsInside) {
  Gate gate;
  { const Gate::Pass pass(gate); }
  EXPECT_TRUE(gate.close(milliseconds(0)).ok());
}

TEST(Gate, ClosesWhenTheLastOneHasLeft) {
  Gate gate;
  auto pass = std::make_unique<Gate::Pass>(gate);
  auto closed = std::async(std::launch::async, [&] { return gate.close(kLong).ok(); });
  pass.reset();
  EXPECT_TRUE(closed.get());
}

TEST(Gate, IsOpenAgainIfSomebodyStaysInside) {
  Gate gate;
  const Gate::Pass pass(gate);
  const Status closed = gate.close(kShort);
  ASSERT_FALSE(closed.ok());
  EXPECT_EQ(closed.error().errno_value, EBUSY);
  std::async(std::launch::async, [&] { const Gate::Pass other(gate); }).get();
}

TEST(Gate, LetsAThreadThatHasALockGoOnUntilItHasNone) {
  Gate gate;
  std::promise<void> locked;
  std::promise<void> go_on;
  auto holder = std::async(std::launch::async, [&] {
    {
      const Gate::Pass pass(gate);
      gate.took_lock();
    }
    locked.set_value();
    go_on.get_future().get();
    const Gate::Pass pass(gate);  // while somebody waits to close it
    gate.released_lock();
  });
  locked.get_future().get();
  EXPECT_FALSE(gate.close(kShort).ok());
  auto closed = std::async(std::launch::async, [&] { return gate.close(kLong).ok(); });
  go_on.set_value();
  holder.get();
  EXPECT_TRUE(closed.get());
}

TEST(Gate, KeepsThreadsOutWhileItIsClosed) {
  Gate gate;
  ASSERT_TRUE(gate.close(milliseconds(0)).ok());
  std::atomic<bool> opened{false};
  auto late = std::async(std::launch::async, [&] {
    const Gate::Pass pass(gate);
    return opened.load();
  });
  EXPECT_EQ(late.wait_for(kShort), std::future_status::timeout);
  opened = true;
  gate.open();
  EXPECT_TRUE(late.get());
}

}  // namespace
}  // namespace gob::client
