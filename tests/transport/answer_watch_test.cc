#include "libgob/transport/answer_watch.h"

#include <gtest/gtest.h>

#include <functional>
#include <optional>

namespace gob {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLimit{2000};

// When the watch ends the connection, seen at its own intervals; nothing if it does not in time.
std::optional<milliseconds> ends(const std::function<AnswerWatch::Sample(milliseconds)>& kernel,
                                 milliseconds time, milliseconds limit = kLimit) {
  AnswerWatch watch(limit);
  const AnswerWatch::Clock::time_point begin{std::chrono::hours(1)};
  for (milliseconds now{0}; now < time; now += AnswerWatch::interval(limit))
    if (watch.look(kernel(now), begin + now)) return now;
  return std::nullopt;
}

TEST(AnswerWatch, AnIdlePeerThatAnswersKeepaliveLives) {
  EXPECT_FALSE(ends(
      [](milliseconds now) {
        return AnswerWatch::Sample{now % 1000, now, false, 0};
      },
      milliseconds(60'000)));
}

TEST(AnswerWatch, AnIdlePeerThatDoesNotIsSilentAfterTheLimit) {
  const auto end = ends(
      [](milliseconds now) {
        return AnswerWatch::Sample{now, now, false, static_cast<unsigned>(now.count() / 1000)};
      },
      milliseconds(60'000));
  ASSERT_TRUE(end);
  EXPECT_GE(*end, kLimit);
  EXPECT_LE(*end, kLimit + kLimit / 4);
}

TEST(AnswerWatch, DataThatNobodyAcknowledgesIsSilenceToo) {
  const auto end = ends(
      [](milliseconds now) {
        return AnswerWatch::Sample{now, now % 400, true, 0};
      },
      milliseconds(60'000));
  ASSERT_TRUE(end);
  EXPECT_GE(*end, kLimit);
  EXPECT_LE(*end, kLimit + kLimit / 4);
}

// The kernel asks whether a closed window has opened in growing intervals, each time with an
// answer.
TEST(AnswerWatch, AClosedWindowIsNoSilenceHoweverSeldomItIsProbed) {
  for (const milliseconds answer : {milliseconds(0), milliseconds(300)}) {
    for (const milliseconds interval :
         {milliseconds(3200), milliseconds(6400), milliseconds(12800)}) {
      EXPECT_FALSE(ends(
          [=](milliseconds now) {
            const milliseconds since = now % interval;  // since the last probe
            const bool waits = since < answer;
            return AnswerWatch::Sample{waits ? since + interval - answer : since - answer,
                                       now + kLimit, false, waits ? 1u : 0u};
          },
          milliseconds(120'000)))
          << interval.count() << " " << answer.count();
    }
  }
}

// A living kernel leaves out answers that would follow each other too soon.
TEST(AnswerWatch, NorAreAnswersLeftOutForTheirNumber) {
  for (milliseconds first{20}; first < milliseconds(500); first += milliseconds(20)) {
    milliseconds heard{0};
    milliseconds next = first;
    milliseconds interval = first;
    unsigned probes = 0;
    const auto kernel = [&](milliseconds now) {
      while (next <= now) {
        const bool answered = next - heard >= milliseconds(500);
        if (answered) heard = next;
        probes = answered ? 0 : probes + 1;
        interval = std::min(2 * interval, milliseconds(12'800));
        next += interval;
      }
      return AnswerWatch::Sample{now - heard, now, false, probes};
    };
    EXPECT_FALSE(ends(kernel, milliseconds(60'000), milliseconds(200))) << first.count();
  }
}

// Likewise where it was full when the data came, which is sent again and again.
TEST(AnswerWatch, NorIsDataThatFoundNoRoom) {
  EXPECT_FALSE(ends(
      [](milliseconds now) {
        const milliseconds since = now % 6400;
        return AnswerWatch::Sample{since, since, true, 0};
      },
      milliseconds(120'000)));
}

// What this process did not see because it did not run is no evidence.
TEST(AnswerWatch, TheFirstLookAfterAPauseIsNoEvidence) {
  AnswerWatch watch(kLimit);
  const AnswerWatch::Clock::time_point begin{std::chrono::hours(1)};
  EXPECT_FALSE(watch.look({milliseconds(10), milliseconds(10), false, 0}, begin));
  EXPECT_FALSE(watch.look({milliseconds(9000), milliseconds(10), false, 1},
                          begin + std::chrono::seconds(9)));
  EXPECT_FALSE(
      watch.look({milliseconds(100), milliseconds(10), false, 0}, begin + milliseconds(9250)));
}

}  // namespace
}  // namespace gob
