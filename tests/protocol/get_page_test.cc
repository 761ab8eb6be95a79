// get_page, the requester's end: a readable copy arrives.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/protocol/core_driver.h"

namespace gob::test {
namespace {

Message page_message(PageSet about, Payload payload, bool confirm) {
  return message(MessageType::kPage, about, [=](Message& m) {
    m.payload = payload;
    m.confirm = confirm;
  });
}

class GetPage : public ::testing::Test {
 protected:
  const std::uint64_t p = page_of_manager(1, 4);
  const std::string name = std::to_string(p);
  CoreDriver d;
};

TEST_F(GetPage, InstallsConfirmsAndHolds) {
  d.read(p);
  EXPECT_EQ(d.deliver(2, page_message(pages({p}), Payload::kCopy, true)),
            "Install " + name + " (read); Confirm " + name + " to 1; Hold " + name);
  EXPECT_EQ(d.situation(p).page, "Read held");
  EXPECT_EQ(d.core().pending(page(p)), nullptr);
  EXPECT_EQ(d.core().resident_frames(), 1u);
}

TEST_F(GetPage, FromTheManagerItselfNeedsNoConfirmation) {
  d.read(p);
  EXPECT_EQ(d.deliver(1, page_message(pages({p}), Payload::kCopy, false)),
            "Install " + name + " (read); Hold " + name);
}

TEST_F(GetPage, ARunArrivesAsARun) {
  const PageSet all = run(p, p + 9);
  const std::string text = pages_text(all);
  d.touch(all, Access::kRead);
  EXPECT_EQ(d.deliver(2, page_message(all, Payload::kCopy, true)),
            "Install " + text + " (read); Confirm " + text + " to 1; Hold " + text);
}

TEST_F(GetPage, WithoutHoldsWhenTheyAreSwitchedOff) {
  CoreDriver plain({.hold_grants = false});
  plain.read(p);
  EXPECT_EQ(plain.deliver(2, page_message(pages({p}), Payload::kCopy, true)),
            "Install " + name + " (read); Confirm " + name + " to 1");
  EXPECT_EQ(plain.situation(p).page, "Read");
}

TEST_F(GetPage, AheadOfNeedIsInstalledWithoutAHold) {
  d.touch(pages({p}), Access::kRead, run(p, p + 1).mask);
  const std::string next = std::to_string(p + 1);
  EXPECT_EQ(d.deliver(2, page_message(pages({p + 1}), Payload::kCopy, true)),
            "Install " + next + " (read); Confirm " + next + " to 1");
  EXPECT_FALSE(d.core().local(page(p + 1)).referenced) << "replacement may take it first";
}

TEST_F(GetPage, AWriterWhoCameMeanwhileGoesOnToGrab) {
  d.read(p);
  d.write(p);
  EXPECT_EQ(d.deliver(2, page_message(pages({p}), Payload::kCopy, true)),
            "Install " + name + " (read); Confirm " + name + " to 1; Grab " + name + " to 1");
  EXPECT_EQ(d.situation(p).request, "asked Grab");
}

TEST_F(GetPage, WithoutBytesMapsTheCopyThatWasInjectedMeanwhile) {
  d.read(p);
  EXPECT_EQ(d.deliver(3, message(MessageType::kInject, pages({p}),
                                 [](Message& m) { m.payload = Payload::kCopy; })),
            "Install " + name + " (unmapped); InjectReply " + name + " (accepted) to 3");
  EXPECT_EQ(d.deliver(1, page_message(pages({p}), Payload::kNone, false)),
            "Map " + name + " (read); Hold " + name);
  EXPECT_EQ(d.core().resident_frames(), 1u);
}

TEST_F(GetPage, WithoutBytesAndWithoutACopyIsAViolationAndTheProgramStillWaits) {
  d.read(p);
  EXPECT_EQ(d.deliver(1, page_message(pages({p}), Payload::kNone, false)), "violation");
  EXPECT_NE(d.core().pending(page(p)), nullptr) << "the next view asks again";
}

TEST_F(GetPage, ThatNobodyAskedForIsAViolation) {
  EXPECT_EQ(d.deliver(2, page_message(pages({p}), Payload::kCopy, true)), "violation");
  EXPECT_EQ(d.state(p), PageState::kInvalid);
}

TEST_F(GetPage, InAnswerToAGrabIsAViolation) {
  d.write(p);
  EXPECT_EQ(d.deliver(2, page_message(pages({p}), Payload::kCopy, true)), "violation");
  EXPECT_EQ(d.situation(p).request, "asked Grab");
}

}  // namespace
}  // namespace gob::test
