// Page replacement and leaving.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <set>

#include "tests/protocol/core_driver.h"

namespace gob::test {
namespace {

using ::testing::HasSubstr;

// This node is 0; node 1 manages the pages from `p` on.
class Reclaim : public ::testing::Test {
 protected:
  // Takes and writes `count` pages, each held no longer.
  static void fill(CoreDriver& d, std::uint64_t first, unsigned count) {
    for (unsigned i = 0; i < count; ++i) d.give_write(first + i);
  }
  // Pages of the Flush messages of the last step.
  static std::set<std::uint64_t> flushed(const CoreDriver& d) {
    std::set<std::uint64_t> out;
    for (const Action& a : d.last_actions())
      if (const auto* send = std::get_if<action::Send>(&a);
          send && send->message.type == MessageType::kFlush)
        for_each_page(send->message.pages, [&](PageId id) { out.insert(id.page.value()); });
    return out;
  }
  static unsigned flushing(const CoreDriver& d) {
    unsigned count = 0;
    d.core().locals().for_each([&](PageKey, const LocalPage& l) { count += l.flushing ? 1u : 0u; });
    return count;
  }

  const std::uint64_t p = page_of_manager(1, 4);
};

TEST_F(Reclaim, DoesNothingWhileEnoughIsFree) {
  CoreDriver d({.budget_frames = 100, .low_water_frames = 8, .high_water_frames = 16});
  fill(d, p, 60);
  EXPECT_EQ(flushing(d), 0u);
}

TEST_F(Reclaim, FlushesDownToTheHighWaterMark) {
  CoreDriver d({.budget_frames = 64, .low_water_frames = 4, .high_water_frames = 12});
  fill(d, p, 59);
  EXPECT_EQ(flushing(d), 0u) << "five frames are free";
  d.give_write(p + 59);
  EXPECT_EQ(d.core().free_frames() + flushing(d), 12u);
}

TEST_F(Reclaim, GivesAPageThatWasUsedASecondChance) {
  CoreDriver d({.budget_frames = 64, .low_water_frames = 4, .high_water_frames = 12});
  fill(d, p, 59);
  // The first pass takes every mark; whoever is used after it keeps its place.
  d.give_write(p + 59);
  const unsigned first = flushing(d);
  EXPECT_EQ(first, 8u);
  std::uint64_t used = 0;
  for (std::uint64_t i = p; i < p + 60; ++i) {
    const LocalPage local = d.core().local(page(i));
    if (local.state != PageState::kWrite || local.flushing) continue;
    d.read(i);
    used = i;
    EXPECT_TRUE(d.core().local(page(used)).referenced);
  }
  d.give_write(p + 60);
  for (std::uint64_t i = p; i <= p + 60; ++i) {
    if (d.core().local(page(i)).flushing) continue;
    used = i;
  }
  EXPECT_FALSE(d.core().local(page(used)).flushing);
}

TEST_F(Reclaim, TakesPagesNobodyUsedBeforePagesSomebodyUses) {
  CoreDriver d({.budget_frames = 64, .low_water_frames = 4, .high_water_frames = 8});
  // Pages that were injected or read ahead were never used here.
  for (std::uint64_t i = 0; i < 20; ++i)
    d.deliver(2, message(MessageType::kInject, pages({p + i}),
                         [](Message& m) { m.payload = Payload::kCopy; }));
  fill(d, p + 20, 39);
  d.give_write(p + 59);
  const std::set<std::uint64_t> chosen = [&] {
    std::set<std::uint64_t> out;
    for (std::uint64_t i = p; i < p + 60; ++i)
      if (d.core().local(page(i)).flushing) out.insert(i);
    return out;
  }();
  EXPECT_EQ(chosen.size(), 4u);
  for (std::uint64_t i : chosen) EXPECT_LT(i, p + 20) << "a page in use was taken first";
}

TEST_F(Reclaim, NeverTakesAHeldPage) {
  CoreDriver d({.budget_frames = 2});
  d.write(p);
  d.deliver(
      1, message(MessageType::kGrant, pages({p}), [](Message& m) { m.payload = Payload::kZero; }));
  ASSERT_EQ(d.situation(p).page, "Write held");
  d.give_write(p + 1);
  d.read(p + 2);
  EXPECT_EQ(d.situation(p).page, "Write held");
  EXPECT_EQ(d.situation(p + 1).page, "Write flushing");
}

TEST_F(Reclaim, ABudgetOfOneFrameStillServes) {
  CoreDriver d({.budget_frames = 1});
  d.give_write(p);
  EXPECT_EQ(d.situation(p).page, "Write flushing");
  EXPECT_EQ(d.write(p + 1), "-");
  d.deliver(1, message(MessageType::kFlushAlone, pages({p}), [](Message& m) { m.sole = true; }));
  EXPECT_THAT(d.refuse_injections(), HasSubstr("SwapOut " + std::to_string(p)));
  EXPECT_EQ(d.swapped_out(p, true), "FlushDone " + std::to_string(p) + " (owner 0) to 1; Grab " +
                                        std::to_string(p + 1) + " to 1");
}

// Answers as a manager that knows of no other holder, as peers without room, as a linker and a
// clock, until nothing is left to answer.
void answer_everything(CoreDriver& d, std::uint64_t budget) {
  std::deque<Action> work(d.last_actions().begin(), d.last_actions().end());
  for (int steps = 0; !work.empty(); ++steps) {
    ASSERT_LT(steps, 10000) << "the core never comes to rest";
    const Action action = work.front();
    work.pop_front();
    if (const auto* send = std::get_if<action::Send>(&action)) {
      if (send->message.type == MessageType::kFlush)
        d.deliver(1, message(MessageType::kFlushAlone, send->message.pages,
                             [](Message& m) { m.sole = true; }));
      else if (send->message.type == MessageType::kGrab)
        d.deliver(1, message(MessageType::kGrant, send->message.pages,
                             [](Message& m) { m.payload = Payload::kZero; }));
      else if (send->message.type == MessageType::kInject)
        d.deliver(send->to.value(), message(MessageType::kInjectReply, send->message.pages));
      else
        continue;
    } else if (const auto* out = std::get_if<action::SwapOut>(&action)) {
      d.step(event::SwappedOut{out->pages, true});
    } else if (const auto* hold = std::get_if<action::Hold>(&action)) {
      d.step(event::HoldExpired{hold->pages});
    } else {
      continue;
    }
    EXPECT_LE(d.core().resident_frames(), budget);
    work.insert(work.end(), d.last_actions().begin(), d.last_actions().end());
  }
}

TEST_F(Reclaim, NeverKeepsMoreFramesThanItsBudget) {
  for (const std::uint64_t budget : {1u, 2u, 3u, 5u, 8u, 13u}) {
    CoreDriver d({.budget_frames = budget});
    for (std::uint64_t i = 0; i < 40; ++i) {
      d.write(p + i);
      answer_everything(d, budget);
      ASSERT_EQ(d.core().pending(page(p + i)), nullptr)
          << "page " << i << " with a budget of " << budget << ": "
          << d.core().describe(page(p + i));
      EXPECT_TRUE(d.core().at_rest());
    }
    EXPECT_EQ(d.core().locals().size(), 40u) << "every page is somewhere";
  }
}

TEST_F(Reclaim, RestsWhenNoPageHasAPlaceElsewhere) {
  CoreDriver d({.budget_frames = 3, .swap = false});
  for (std::uint64_t i = 0; i < 3; ++i) {
    d.write(p + i);
    answer_everything(d, 3);
  }
  EXPECT_TRUE(d.core().at_rest()) << "it does not offer the same pages for ever";
  // A program that needs a frame is worth another round.
  EXPECT_THAT(d.write(p + 3), HasSubstr("Flush"));
  answer_everything(d, 3);
  EXPECT_EQ(d.situation(p + 3).request, "parked Grab");
  EXPECT_EQ(flushing(d), 0u);
  EXPECT_EQ(d.expire(p + 3), "Refused " + std::to_string(p + 3) + " (NoRoom, blames 0)");
}

TEST_F(Reclaim, OffersPagesToNodesThatWereFullOnceAProgramWaitsForAFrame) {
  CoreDriver d({.budget_frames = 1, .swap = false});
  d.write(p);
  answer_everything(d, 1);
  d.write(p + 1);
  ASSERT_EQ(flushed(d), std::set<std::uint64_t>{p});
  EXPECT_THAT(d.deliver(1, message(MessageType::kFlushAlone, pages({p}),
                                   [](Message& m) { m.sole = true; })),
              HasSubstr("Inject " + std::to_string(p) + " (copy) to "));
}

TEST_F(Reclaim, APageWantedAsItLeavesDoesNotTakeTheFrameThatOthersWaitFor) {
  CoreDriver d({.budget_frames = 1});
  d.give_write(p);
  EXPECT_EQ(d.write(p + 1), "-");  // parked
  d.deliver(1, message(MessageType::kFlushAlone, pages({p}), [](Message& m) { m.sole = true; }));
  d.refuse_injections();
  EXPECT_EQ(d.write(p), "-");
  EXPECT_EQ(d.swapped_out(p, true), "FlushDone " + std::to_string(p) + " (owner 0) to 1; Grab " +
                                        std::to_string(p + 1) + " to 1");
}

TEST_F(Reclaim, AParkedPageIsQueuedOnceHoweverOftenItExpires) {
  CoreDriver d({.nodes = 4, .budget_frames = 1, .swap = false});
  d.give_write(p);
  d.read(p + 1);
  const Core once = d.core();
  for (int i = 0; i < 5; ++i) {
    d.expire(p + 1);
    d.read(p + 1);
  }
  EXPECT_TRUE(d.core() == once);
}

class Leaving : public Reclaim {};

TEST_F(Leaving, AnEmptyNodeHasLeftAtOnce) {
  CoreDriver d;
  EXPECT_EQ(d.leave(), "Left");
  EXPECT_EQ(d.leave(), "-") << "said once";
}

TEST_F(Leaving, FlushesEveryPageAndOffersTheLastCopiesEvenToNodesThatSaidNothing) {
  CoreDriver d;
  fill(d, p, 1);
  const std::string name = std::to_string(p);
  EXPECT_EQ(d.leave(), "Flush " + name + " to 1");
  EXPECT_EQ(d.deliver(1, message(MessageType::kFlushAlone, pages({p}),
                                 [](Message& m) { m.sole = true; })),
            "Downgrade " + name + "; Inject " + name + " (copy, leaving) to 1");
  EXPECT_EQ(d.deliver(1, message(MessageType::kInjectReply, pages({p}),
                                 [](Message& m) { m.accepted = true; })),
            "Invalidate " + name + "; FlushDone " + name + " (owner 1) to 1; Left");
}

TEST_F(Leaving, KeepsAPageThatNobodyTakesAndTriesAgainWhenToldTo) {
  CoreDriver d({.nodes = 2});
  const std::uint64_t q = page_of_manager(1, 2);
  const std::string name = std::to_string(q);
  d.give_write(q);
  d.leave();
  d.deliver(1, message(MessageType::kFlushAlone, pages({q}), [](Message& m) { m.sole = true; }));
  EXPECT_EQ(d.deliver(1, message(MessageType::kInjectReply, pages({q}))),
            "FlushDone " + name + " (owner 0) to 1");
  EXPECT_EQ(d.state(q), PageState::kRead);
  EXPECT_EQ(d.leave(), "Flush " + name + " to 1");
}

TEST_F(Leaving, RefusesProgramsFromThenOn) {
  CoreDriver d;
  fill(d, p, 1);
  d.read(p + 1);
  const std::string text = d.leave();
  EXPECT_THAT(text, HasSubstr("Refused " + std::to_string(p + 1) + " (Leaving, blames 0)"));
  EXPECT_EQ(d.read(p), "Refused " + std::to_string(p) + " (Leaving, blames 0)");
  EXPECT_EQ(d.write(p + 2), "Refused " + std::to_string(p + 2) + " (Leaving, blames 0)");
}

TEST_F(Leaving, WaitsForAnAnswerThatIsUnderWay) {
  CoreDriver d;
  d.write(p);
  EXPECT_EQ(d.leave(), "Refused " + std::to_string(p) + " (Leaving, blames 0)");
  EXPECT_THAT(d.deliver(1, message(MessageType::kGrant, pages({p}),
                                   [](Message& m) { m.payload = Payload::kZero; })),
              HasSubstr("Install"));
  EXPECT_EQ(d.leave(), "Flush " + std::to_string(p) + " to 1");
}

TEST_F(Leaving, BringsSwappedPagesBackToGiveThemAway) {
  CoreDriver d;
  fill(d, p, 1);
  d.flush(p);
  d.deliver(1, message(MessageType::kFlushAlone, pages({p}), [](Message& m) { m.sole = true; }));
  d.swapped_out(p, true);
  const std::string name = std::to_string(p);
  EXPECT_EQ(d.leave(), "SwapIn " + name);
  EXPECT_EQ(d.swapped_in(p, true), "FreeSwap " + name);
  EXPECT_EQ(d.leave(), "Flush " + name + " to 1");
}

TEST_F(Leaving, MakesRoomForASwappedPageThatOthersAskFor) {
  CoreDriver d({.budget_frames = 1});
  const auto last_copy = [&](std::uint64_t index) {
    d.deliver(1,
              message(MessageType::kFlushAlone, pages({index}), [](Message& m) { m.sole = true; }));
    return d.refuse_injections();
  };
  d.give_write(p);
  last_copy(p);
  d.swapped_out(p, true);
  d.give_write(p + 1);
  d.leave();
  d.deliver(
      1, message(MessageType::kForwardGrab, pages({p}), [](Message& m) { m.requester = node(2); }));
  EXPECT_THAT(last_copy(p + 1), HasSubstr("SwapOut " + std::to_string(p + 1)));
  EXPECT_THAT(d.swapped_out(p + 1, true), HasSubstr("SwapIn " + std::to_string(p)));
}

TEST_F(Leaving, ServesWhatItHoldsUntilItIsGone) {
  CoreDriver d;
  fill(d, p, 1);
  const std::string name = std::to_string(p);
  d.leave();
  EXPECT_EQ(d.deliver(1, message(MessageType::kForwardGrab, pages({p}),
                                 [](Message& m) { m.requester = node(2); })),
            "Grant " + name + " (move, confirm) to 2");
  EXPECT_EQ(d.deliver(1, message(MessageType::kFlushDiscard, pages({p}))), "Left");
}

TEST_F(Leaving, TheLastNodeIsStrandedWithItsPages) {
  CoreDriver d({.nodes = 1});
  EXPECT_EQ(CoreDriver({.nodes = 1}).leave(), "Left");
  d.give_write(0);
  EXPECT_THAT(d.leave(), HasSubstr("Left, stranded"));
  EXPECT_THAT(d.leave(), ::testing::Not(HasSubstr("Left"))) << "said once";
}

TEST_F(Leaving, IsStrandedWhenEveryOtherMemberLeavesToo) {
  CoreDriver d({.nodes = 3});
  const std::uint64_t q = page_of_manager(1, 3);
  const std::string name = std::to_string(q);
  const Message refusal =
      message(MessageType::kInjectReply, pages({q}), [](Message& m) { m.leaving = true; });
  d.give_write(q);
  d.leave();
  d.deliver(1, message(MessageType::kFlushAlone, pages({q}), [](Message& m) { m.sole = true; }));
  EXPECT_EQ(d.deliver(1, refusal), "Inject " + name + " (copy, leaving) to 2");
  EXPECT_EQ(d.deliver(2, refusal), "FlushDone " + name + " (owner 0) to 1; Left, stranded");
}

TEST_F(Leaving, AMemberThatStaysIsWaitedFor) {
  CoreDriver d({.nodes = 3});
  const std::uint64_t q = page_of_manager(1, 3);
  d.give_write(q);
  d.leave();
  d.deliver(1, message(MessageType::kFlushAlone, pages({q}), [](Message& m) { m.sole = true; }));
  d.deliver(1,
            message(MessageType::kInjectReply, pages({q}), [](Message& m) { m.leaving = true; }));
  EXPECT_EQ(d.deliver(2, message(MessageType::kInjectReply, pages({q}))),
            "FlushDone " + std::to_string(q) + " (owner 0) to 1")
      << "node 2 is only full, it may have room later";
}

TEST_F(Leaving, GoesOnAsManagerWhenItsPagesAreGone) {
  CoreDriver d;
  const std::uint64_t mine = page_of_manager(0, 4);
  d.leave();
  EXPECT_EQ(d.deliver(2, message(MessageType::kGet, pages({mine}))),
            "Grant " + std::to_string(mine) + " (zero) to 2");
}

}  // namespace
}  // namespace gob::test
