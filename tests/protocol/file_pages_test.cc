// File containers: read from the home's file, written back only there, discarded; what a view
// change makes of them.
#include <gtest/gtest.h>

#include "tests/protocol/core_driver.h"

namespace gob::test {
namespace {

using enum MessageType;

constexpr unsigned kNodes = 4;
constexpr unsigned kOther = 2;

CoreDriver::Options options_of(unsigned self, unsigned home) {
  CoreDriver::Options options;
  options.self = self;
  options.nodes = kNodes;
  options.home = node(home);
  return options;
}
PageSet one(std::uint64_t index) { return PageSet::of(page(index)); }

// This node is the home, node 1 manages the page.
class HomeTest : public ::testing::Test {
 protected:
  HomeTest() : d(options_of(0, 0)) {}
  void serve_from_file(unsigned requester) {
    d.deliver(1, message(kForwardGet, one(p), [=](Message& m) {
                m.requester = node(requester);
                m.device = true;
              }));
    d.swapped_in(p, true);
  }
  void write_here() {
    d.write(p);
    d.deliver(1, message(kGrant, one(p), [](Message& m) { m.device = m.confirm = true; }));
    d.swapped_in(p, true);
    d.hold_expired(p);
  }

  const std::uint64_t p = page_of_manager(1, kNodes);
  CoreDriver d;
};

TEST_F(HomeTest, AReaderElsewhereIsServedFromTheFile) {
  EXPECT_EQ(d.deliver(1, message(kForwardGet, one(p),
                                 [](Message& m) {
                                   m.requester = node(kOther);
                                   m.device = true;
                                 })),
            "SwapIn " + std::to_string(p));
  const std::string text = d.swapped_in(p, true);
  EXPECT_NE(text.find("Install"), std::string::npos) << text;
  EXPECT_NE(text.find("Page"), std::string::npos) << text;
  EXPECT_EQ(d.state(p), PageState::kRead);
}

TEST_F(HomeTest, AFileThatCannotBeReadIsAnIoErrorAndLeavesNoFrame) {
  d.deliver(1, message(kForwardGet, one(p), [](Message& m) {
              m.requester = node(kOther);
              m.device = true;
            }));
  const std::string text = d.swapped_in(p, false);
  EXPECT_NE(text.find("Refuse"), std::string::npos) << text;
  EXPECT_NE(text.find("Io"), std::string::npos) << text;
  EXPECT_EQ(d.core().resident_frames(), 0u);
}

TEST_F(HomeTest, OwnReadsComeFromTheFileWithoutAnotherNode) {
  d.read(p);
  EXPECT_EQ(d.deliver(1, message(kPage, one(p), [](Message& m) { m.device = m.confirm = true; })),
            "SwapIn " + std::to_string(p));
  d.swapped_in(p, true);
  EXPECT_EQ(d.state(p), PageState::kRead);
  EXPECT_FALSE(d.core().has_dirty_files());
}

TEST_F(HomeTest, TheFileIsReadOnlyOnTheManagersWord) {
  d.deliver(1, message(kForwardGet, one(p), [](Message& m) { m.requester = node(kOther); }));
  EXPECT_EQ(d.violations().size(), 1u);
}

TEST_F(HomeTest, AReadThatAViewChangeHasOvertakenKeepsNoFrame) {
  d.deliver(1, message(kForwardGet, one(p), [](Message& m) {
              m.requester = node(kOther);
              m.device = true;
            }));
  d.new_view(view_of(2, kNodes));
  d.finish_view();
  EXPECT_EQ(d.swapped_in(p, true), "-");
  EXPECT_EQ(d.state(p), PageState::kInvalid);
  EXPECT_EQ(d.core().resident_frames(), 0u);
}

TEST_F(HomeTest, AWriteBackConfirmsOnlyWhenTheFileHasTheBytes) {
  write_here();
  EXPECT_TRUE(d.core().has_dirty_files());
  d.step(event::WriteBack{one(p)});
  const std::string asked =
      d.deliver(1, message(kPage, one(p), [](Message& m) { m.confirm = true; }));
  EXPECT_NE(asked.find("WriteBack"), std::string::npos) << asked;
  EXPECT_EQ(asked.find("Confirm"), std::string::npos) << asked;
  EXPECT_EQ(d.state(p), PageState::kRead);  // nobody writes meanwhile
  const std::string ended = d.step(event::WrittenBack{one(p), true});
  EXPECT_NE(ended.find("Confirm"), std::string::npos) << ended;
  EXPECT_NE(ended.find("written"), std::string::npos) << ended;
  EXPECT_FALSE(d.core().has_dirty_files());
}

TEST_F(HomeTest, BytesThatComeToBeWrittenTakeNoFrame) {
  d.step(event::WriteBack{one(p)});
  const std::string came = d.deliver(1, message(kPage, one(p), [](Message& m) {
                                       m.payload = Payload::kCopy;
                                       m.dirty = m.confirm = true;
                                     }));
  EXPECT_EQ(came, "WriteBack " + std::to_string(p) + " (arrived)");
  EXPECT_EQ(d.core().resident_frames(), 0u);
  const std::string ended = d.step(event::WrittenBack{one(p), true});
  EXPECT_NE(ended.find("Confirm"), std::string::npos) << ended;
  EXPECT_EQ(d.state(p), PageState::kInvalid);
}

TEST_F(HomeTest, ADiscardWaitsForWhatIsOnItsWayToTheDisk) {
  write_here();
  d.step(event::WriteBack{one(p)});
  d.deliver(1, message(kPage, one(p), [](Message& m) { m.confirm = true; }));
  d.new_view(view_of(2, kNodes));  // the write-back is forgotten, what it began is not
  d.finish_view();
  d.deliver(1, message(kRefuse, one(p), [](Message& m) { m.refusal = Refusal::kSkipped; }));
  EXPECT_EQ(d.step(event::Discard{one(p)}), "-");
  const std::string text = d.step(event::WrittenBack{one(p), true});
  EXPECT_NE(text.find("Discard "), std::string::npos) << text;
}

TEST_F(HomeTest, APageComesHomeWhileAWishToFlushItIsOnItsWay) {
  serve_from_file(kOther);
  d.flush(p);
  d.deliver(1, message(kInvalidate, one(p), [](Message& m) { m.requester = node(kOther); }));
  const std::string text = d.deliver(kOther, message(kInject, one(p), [](Message& m) {
                                       m.payload = Payload::kCopy;
                                       m.device = m.dirty = true;
                                     }));
  EXPECT_NE(text.find("accepted"), std::string::npos) << text;
  // An answer that speaks of the copy it had before leaves it alone.
  d.deliver(1, message(kFlushDiscard, one(p)));
  EXPECT_EQ(d.state(p), PageState::kRead);
}

TEST_F(HomeTest, AWriteBackThatFailsLeavesThePageDirty) {
  write_here();
  d.step(event::WriteBack{one(p)});
  d.deliver(1, message(kPage, one(p), [](Message& m) { m.confirm = true; }));
  const std::string ended = d.step(event::WrittenBack{one(p), false});
  EXPECT_NE(ended.find("WrittenBack " + std::to_string(p) + " (Io)"), std::string::npos) << ended;
  EXPECT_EQ(ended.find("written)"), std::string::npos) << ended;
  EXPECT_TRUE(d.core().has_dirty_files());
}

TEST_F(HomeTest, APageGivenAwayToBeWrittenIsRemembered) {
  d.deliver(1, message(kForwardGrab, one(p), [](Message& m) {
              m.requester = node(kOther);
              m.device = true;
            }));
  d.swapped_in(p, true);
  EXPECT_EQ(d.state(p), PageState::kInvalid);
  ASSERT_EQ(d.core().file_pages(kContainer, false).size(), 1u);
  EXPECT_EQ(d.core().file_pages(kContainer, false)[0], one(p));
}

TEST_F(HomeTest, AWriteBackIsAskedAgainAfterAViewChange) {
  write_here();
  d.step(event::WriteBack{one(p)});
  d.deliver(1, message(kPage, one(p), [](Message& m) { m.confirm = true; }));
  d.new_view(view_of(2, kNodes));
  const std::string text = d.finish_view();
  // The write that was under way ends, and tells nobody anything; the new manager is asked.
  EXPECT_EQ(d.step(event::WrittenBack{one(p), true}).find("WrittenBack"), std::string::npos);
  ASSERT_NE(d.core().pending(page(p)), nullptr);
  EXPECT_EQ(d.core().pending(page(p))->job, Pending::Job::kWriteBack);
}

TEST_F(HomeTest, ALastDirtyCopyIsWrittenBeforeItGoes) {
  write_here();
  d.flush(p);
  const std::string text =
      d.deliver(1, message(kFlushAlone, one(p), [](Message& m) { m.sole = m.dirty = true; }));
  EXPECT_NE(text.find("SwapOut"), std::string::npos) << text;
  const std::string ended = d.swapped_out(p, true);
  EXPECT_NE(ended.find("Invalidate"), std::string::npos) << ended;
  EXPECT_NE(ended.find("FlushDone"), std::string::npos) << ended;
  EXPECT_EQ(d.core().resident_frames(), 0u);
  EXPECT_FALSE(d.core().has_dirty_files());
}

TEST_F(HomeTest, APageThatComesHomeWaitsForAFrame) {
  CoreDriver::Options small = options_of(0, 0);
  small.budget_frames = 1;
  small.low_water_frames = 0;
  small.high_water_frames = 0;
  CoreDriver home(small);
  home.read(p);
  home.deliver(1, message(kPage, one(p), [](Message& m) { m.device = m.confirm = true; }));
  home.swapped_in(p, true);
  const std::uint64_t other = p + 1;
  const Edit must = [](Message& m) {
    m.payload = Payload::kCopy;
    m.device = m.dirty = true;
  };
  // It is held now, so that nothing can be flushed for it.
  EXPECT_EQ(home.deliver(kOther, message(kInject, one(other), must)).find("InjectReply"),
            std::string::npos);
  home.hold_expired(p);
  home.flush(p);
  const std::string text =
      home.deliver(1, message(kFlushDiscard, one(p), [](Message& m) { m.confirm = true; }));
  // There is room now: its bytes may come again.
  EXPECT_NE(text.find("InjectReply"), std::string::npos) << text;
  EXPECT_EQ(home.state(other), PageState::kInvalid);
  EXPECT_NE(home.deliver(kOther, message(kInject, one(other), must)).find("accepted"),
            std::string::npos);
  EXPECT_EQ(home.state(other), PageState::kRead);
}

TEST_F(HomeTest, ADiscardDropsEveryCopyAndTheDirtyMark) {
  write_here();
  d.step(event::Discard{one(p)});
  const std::string text = d.deliver(1, message(kGrant, one(p), [](Message& m) {
                                       m.acks = 1;
                                       m.confirm = true;
                                     }));
  EXPECT_EQ(text, "-");
  const std::string ended =
      d.deliver(kOther, message(kInvalidateAck, one(p), [](Message& m) { m.requester = node(0); }));
  EXPECT_NE(ended.find("Discarded"), std::string::npos) << ended;
  EXPECT_EQ(d.state(p), PageState::kInvalid);
  EXPECT_FALSE(d.core().has_dirty_files());
}

TEST_F(HomeTest, JobsOfOnePageFollowEachOther) {
  write_here();
  d.step(event::WriteBack{one(p)});
  d.step(event::Discard{one(p)});
  const std::string text =
      d.deliver(1, message(kRefuse, one(p), [](Message& m) { m.refusal = Refusal::kSkipped; }));
  EXPECT_NE(text.find("WrittenBack"), std::string::npos) << text;
  EXPECT_NE(text.find("Discard "), std::string::npos) << text;
}

TEST_F(HomeTest, ASyncEndsWhenEveryManagerHasAnswered) {
  const std::string asked = d.step(event::Sync{kContainer, false});
  EXPECT_EQ(asked.find("Synced"), std::string::npos) << asked;
  d.deliver(1, message(kExists, one(p), [](Message& m) { m.dirty = true; }));
  d.deliver(1, message(kSyncEnd, one(0)));
  d.deliver(2, message(kSyncEnd, one(0)));
  EXPECT_EQ(d.deliver(3, message(kSyncEnd, one(0))), "Synced 1");
  EXPECT_EQ(d.core().file_pages(kContainer, false).size(), 1u);
}

// The home manages the page. A needless write-back waits behind readers, a write behind it.
TEST_F(HomeTest, AWriteRightAfterANeedlessWriteBackIsNotForgotten) {
  const std::uint64_t mine = page_of_manager(0, kNodes);
  d.deliver(1, message(kGet, one(mine)));
  d.swapped_in(mine, true);
  d.deliver(2, message(kGet, one(mine)));
  d.deliver(1, message(kConfirm, one(mine)));
  d.step(event::WriteBack{one(mine)});
  d.deliver(1, message(kGrab, one(mine)));
  const std::string text = d.deliver(2, message(kConfirm, one(mine)));
  EXPECT_NE(text.find("WrittenBack"), std::string::npos) << text;
  EXPECT_NE(text.find("Grant"), std::string::npos) << text;
  EXPECT_EQ(d.core().file_pages(kContainer, false), std::vector{one(mine)});
}

// Nobody waits for these bytes, but whoever asks next would be answered with them.
TEST_F(HomeTest, AListHasWhatIsStillReadThoughAViewChangeForgotForWhom) {
  d.deliver(1, message(kForwardGet, one(p), [](Message& m) {
              m.requester = node(kOther);
              m.device = true;
            }));
  d.new_view(view_of(2, kNodes, {kOther}));
  d.finish_view();
  ASSERT_EQ(d.state(p), PageState::kSwappingIn);
  d.step(event::Sync{kContainer, true});
  d.deliver(1, message(kSyncEnd, one(0)));
  EXPECT_EQ(d.deliver(3, message(kSyncEnd, one(0))), "Synced 1");
  EXPECT_EQ(d.core().file_pages(kContainer, true), std::vector{one(p)});
}

TEST_F(HomeTest, ASyncOfANodeThatDepartsIsNotCalledDone) {
  d.step(event::Sync{kContainer, false});
  View view = view_of(2, kNodes);
  std::erase(view.members, node(0));
  view.departing = {node(0)};
  d.new_view(view);
  const std::string text = d.finish_view(false);
  EXPECT_NE(text.find("Synced 1 (Leaving)"), std::string::npos) << text;
  EXPECT_EQ(d.step(event::Sync{kContainer, false}), "Synced 1 (Leaving)");
}

TEST_F(HomeTest, ARemovedContainerEndsItsJobs) {
  write_here();
  d.step(event::WriteBack{one(p)});
  const std::string text = d.remove();
  EXPECT_NE(text.find("(Removed)"), std::string::npos) << text;
}

// This node manages the page, node 1 is the home.
class FileManagerTest : public ::testing::Test {
 protected:
  FileManagerTest() : d(options_of(0, 1)) {}
  void written_by(unsigned writer) {
    d.deliver(writer, message(kGrab, one(p)));
    d.deliver(writer, message(kConfirm, one(p)));
  }
  void change_view(std::initializer_list<unsigned> dead,
                   const std::function<void()>& reports = {}) {
    View view = view_of(d.core().view().epoch.value() + 1, kNodes, dead);
    d.new_view(view);
    d.finish_view(false);
    if (reports) reports();
    for (NodeId n : view.members)
      if (n != node(0)) d.deliver(n.value(), message(kReportEnd, PageSet{}));
  }

  // This node goes on to manage it when any one of the others dies.
  static std::uint64_t managed_here() {
    for (std::uint64_t index = 0;; index += kStripePages) {
      const auto here = [&](std::initializer_list<unsigned> dead) {
        return view_of(1, kNodes, dead).manager(kContainer, index / kStripePages) == node(0);
      };
      if (here({}) && here({1}) && here({kOther}) && here({3})) return index;
    }
  }

  const std::uint64_t p = managed_here();
  CoreDriver d;
};

TEST_F(FileManagerTest, APageThatNobodyHasIsReadByTheHome) {
  const std::string text = d.deliver(kOther, message(kGet, one(p)));
  EXPECT_NE(text.find("ForwardGet"), std::string::npos) << text;
  EXPECT_FALSE(d.core().entry(page(p)).has_value());
  d.deliver(kOther, message(kConfirm, one(p)));
  ASSERT_TRUE(d.core().entry(page(p)).has_value());
  EXPECT_EQ(d.core().entry(page(p))->copyset().bits(), 0b0110u);
}

TEST_F(FileManagerTest, TheEntryGoesWithTheLastCleanCopy) {
  d.deliver(kOther, message(kGet, one(p)));
  d.deliver(kOther, message(kConfirm, one(p)));
  for (unsigned holder : {kOther, 1u}) {
    d.deliver(holder, message(kFlush, one(p)));
    d.deliver(holder, message(kFlushDone, one(p), [](Message& m) { m.written = true; }));
  }
  EXPECT_FALSE(d.core().entry(page(p)).has_value());
}

TEST_F(FileManagerTest, ALastDirtyCopyIsNotJustDropped) {
  written_by(kOther);
  d.deliver(kOther, message(kFlush, one(p)));
  d.deliver(kOther, message(kFlushDone, one(p)));
  EXPECT_EQ(d.violations().size(), 1u);
}

TEST_F(FileManagerTest, AGrabWaitsForTheWriteBack) {
  written_by(kOther);
  d.deliver(1, message(kWriteBack, one(p)));
  EXPECT_EQ(d.deliver(3, message(kGrab, one(p))), "-");
  const std::string text =
      d.deliver(1, message(kConfirm, one(p), [](Message& m) { m.written = true; }));
  EXPECT_NE(text.find("ForwardGrab"), std::string::npos) << text;
}

TEST_F(FileManagerTest, TheHomeHearsOfAPageBeforeItIsWritten) {
  d.deliver(kOther, message(kGet, one(p)));
  d.deliver(kOther, message(kConfirm, one(p)));
  const std::string text = d.deliver(kOther, message(kGrab, one(p)));
  const std::size_t told = text.find("Exists");
  ASSERT_NE(told, std::string::npos) << text;
  EXPECT_LT(told, text.find("Grant")) << text;
}

TEST_F(FileManagerTest, OnlyTheHomeSpeaksForTheFile) {
  d.deliver(kOther, message(kWriteBack, one(p)));
  EXPECT_EQ(d.violations().size(), 1u);
  d.deliver(kOther, message(kDiscard, one(p)));
  EXPECT_EQ(d.violations().size(), 1u);
}

// The home has made a hole in the file, and asks which pages have to be forgotten: this one was
// read before that, and its reader has not confirmed yet.
TEST_F(FileManagerTest, ADiscardFindsAPageThatIsJustBeingRead) {
  d.deliver(kOther, message(kGet, one(p)));
  ASSERT_FALSE(d.core().entry(page(p)).has_value());
  const std::string listed =
      d.deliver(1, message(kSync, one(0), [](Message& m) { m.sole = true; }));
  EXPECT_LT(listed.find("Exists"), listed.find("SyncEnd")) << listed;
  EXPECT_EQ(d.deliver(1, message(kDiscard, one(p))), "-");
  const std::string text = d.deliver(kOther, message(kConfirm, one(p)));
  EXPECT_NE(text.find("Invalidate"), std::string::npos) << text;
  EXPECT_NE(text.find("Grant"), std::string::npos) << text;
  d.deliver(1, message(kConfirm, one(p), [](Message& m) { m.written = m.device = true; }));
  EXPECT_FALSE(d.core().entry(page(p)).has_value());
  // What is being forgotten is named once.
  const std::string again = d.deliver(1, message(kSync, one(0), [](Message& m) { m.sole = true; }));
  EXPECT_EQ(again.find("Exists"), std::string::npos) << again;
}

TEST_F(FileManagerTest, AReaderThatDiesLosesNothing) {
  d.deliver(kOther, message(kGet, one(p)));
  d.deliver(kOther, message(kConfirm, one(p)));
  change_view({kOther}, [&] {
    d.deliver(1, message(kReport, one(p), [](Message& m) { m.holding = Holding::kRead; }));
  });
  EXPECT_EQ(d.core().entry(page(p))->lost, 0u);
  // And one of whose copies nobody else had any.
  d.deliver(1, message(kFlush, one(p)));
  d.deliver(1, message(kFlushDone, one(p), [](Message& m) { m.written = true; }));
  EXPECT_NE(d.deliver(3, message(kGet, one(p))).find("ForwardGet"), std::string::npos);
}

TEST_F(FileManagerTest, ACleanPageWhoseHoldersDiedIsInTheFile) {
  d.deliver(kOther, message(kGet, one(p)));
  d.deliver(kOther, message(kConfirm, one(p)));
  change_view({kOther});
  EXPECT_FALSE(d.core().entry(page(p)).has_value());
}

TEST_F(FileManagerTest, ADirtyPageThatDiedWithItsWriterIsLostNotOld) {
  written_by(kOther);
  change_view({kOther});
  ASSERT_TRUE(d.core().entry(page(p)).has_value());
  EXPECT_EQ(d.core().entry(page(p))->lost, 1u);
}

TEST_F(FileManagerTest, TheHomeRemembersWhatAManagerForgot) {
  change_view({kOther}, [&] {
    d.deliver(1, message(kReport, one(p), [](Message& m) {
                m.holding = Holding::kExisted;
                m.dirty = true;
              }));
  });
  ASSERT_TRUE(d.core().entry(page(p)).has_value());
  EXPECT_EQ(d.core().entry(page(p))->lost, 1u);
}

TEST_F(FileManagerTest, WithoutTheHomePagesInMemoryAreServedAndOthersRefused) {
  written_by(kOther);
  change_view({1}, [&] {
    d.deliver(kOther, message(kReport, one(p), [](Message& m) {
                m.holding = Holding::kSole;
                m.dirty = true;
              }));
  });
  EXPECT_NE(d.deliver(3, message(kGet, one(p))).find("ForwardGet"), std::string::npos);
  const std::uint64_t other = p + 1;
  const std::string text = d.deliver(3, message(kGet, one(other)));
  EXPECT_NE(text.find("Refuse"), std::string::npos) << text;
  EXPECT_NE(text.find("Io"), std::string::npos) << text;
}

TEST_F(FileManagerTest, AHomeThatComesBackIsToldWhatIsNewerThanItsFile) {
  written_by(kOther);
  change_view({1}, [&] {
    d.deliver(kOther, message(kReport, one(p), [](Message& m) {
                m.holding = Holding::kSole;
                m.dirty = true;
              }));
  });
  d.new_view(view_of(3, kNodes));
  const std::string text = d.finish_view(false);
  // Before this node says that its report is complete: the view is established after that.
  EXPECT_LT(text.find("Exists"), text.find("ReportEnd")) << text;
}

TEST_F(FileManagerTest, WhatTheHomeWroteToItsOwnMemoryEndsWithIt) {
  written_by(1);
  change_view({1});
  EXPECT_FALSE(d.core().entry(page(p)).has_value());
}

TEST_F(FileManagerTest, AWrittenPageWhoseConfirmationWasOvertakenIsNotLost) {
  written_by(1);
  d.deliver(1, message(kFlush, one(p)));
  d.new_view(view_of(2, kNodes));
  d.deliver(1, message(kFlushDone, one(p), [](Message& m) {
              m.epoch = Epoch{1};
              m.written = true;
            }));
  d.finish_view();
  EXPECT_FALSE(d.core().entry(page(p)).has_value());
}

}  // namespace
}  // namespace gob::test
