// Histories of real nodes: daemons' traces and programs' logs of one stress, checked together. And
// the proof that the checkers look: corrupted, the same histories fail, and so does a daemon with a
// bug.
#include "tests/history/stress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>

namespace gob::history {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

// A directory for traces, and swap if wanted.
class Folder {
 public:
  Folder() {
    char pattern[] = "/tmp/gob-history-XXXXXX";
    if (::mkdtemp(pattern) == nullptr) ADD_FAILURE() << "cannot make a folder for traces";
    path_ = pattern;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

DaemonConfig settings(const Folder& folder, std::uint64_t budget_bytes) {
  DaemonConfig config;
  config.cluster = "history";
  config.budget_bytes = budget_bytes;
  config.trace_dir = folder.path();
  config.page_timeout_ms = 20'000;
  return config;
}

struct History {
  StressPlan plan;
  StressLog log;
  std::vector<NodeTrace> traces;
};

// Runs the stress. The nodes have ended when this returns, in good order but for one that is
// killed.
History record(const DaemonConfig& config, const StressPlan& plan, const std::string& gobd = GOBD) {
  History history{plan, {}, {}};
  {
    Nodes nodes(plan.nodes, config, gobd);
    history.log = run_stress(nodes, plan);
  }
  const Result<std::vector<NodeTrace>> traces = read_traces(config.trace_dir);
  EXPECT_TRUE(traces.ok()) << traces.error().message();
  if (traces.ok()) history.traces = *traces;
  EXPECT_EQ(history.log.failure, "");
  EXPECT_EQ(history.traces.size(), plan.nodes);
  return history;
}

std::uint64_t accesses_of(const History& history) {
  std::uint64_t count = 0;
  for (const ThreadLog& thread : history.log.threads)
    for (const LoggedAccess& access : thread) count += access.kind != LoggedAccess::Kind::kNone;
  return count;
}

void expect_clean(const History& history) {
  const HistoryCheck check = check_history(history.plan, history.log, history.traces);
  EXPECT_TRUE(check.clean()) << check.text();
  // It was a stress: pages did move.
  EXPECT_GT(check.pages.writers, 1000u);
  EXPECT_GT(check.pages.moves, 1000u);
  std::printf(
      "%llu accesses, %llu refused; %llu records of %llu pages: %llu grants, %llu writers, "
      "%llu moves\n",
      static_cast<unsigned long long>(accesses_of(history)),
      static_cast<unsigned long long>(history.log.refused),
      static_cast<unsigned long long>(check.pages.records),
      static_cast<unsigned long long>(check.pages.pages),
      static_cast<unsigned long long>(check.pages.grants),
      static_cast<unsigned long long>(check.pages.writers),
      static_cast<unsigned long long>(check.pages.moves));
}

// The first record of `kind` in the second half of the trace after which `matters`.
std::size_t find_record(const NodeTrace& trace, TraceKind kind,
                        const std::function<bool(const TraceRecord&)>& matters) {
  for (std::size_t i = trace.records.size() / 2; i < trace.records.size(); ++i)
    if (trace.records[i].kind == kind && matters(trace.records[i])) return i;
  return trace.records.size();
}

TEST(History, OfThreeNodesIsSound) {
  const Folder folder;
  const History history = record(settings(folder, 64 * kMiB), {});
  expect_clean(history);
  EXPECT_EQ(history.log.refused, 0u);

  // Every invalidation after which another node wrote soon: without it, two nodes had the page.
  std::uint64_t dropped = 0;
  std::uint64_t found = 0;
  for (std::size_t n = 0; n < history.traces.size(); ++n) {
    const NodeTrace& trace = history.traces[n];
    const std::size_t at = find_record(trace, TraceKind::kGone, [&](const TraceRecord& gone) {
      // Another node got the page, before this one had it again.
      const auto next_grant = [&](const NodeTrace& of) {
        const auto grant = std::ranges::find_if(of.records, [&](const TraceRecord& r) {
          return r.time_ns > gone.time_ns && r.page == gone.page && r.kind == TraceKind::kGranted;
        });
        return grant == of.records.end() ? ~std::uint64_t{0} : grant->time_ns;
      };
      const auto written = [&](const NodeTrace& of) {
        const auto grant = std::ranges::find_if(of.records, [&](const TraceRecord& r) {
          return r.time_ns > gone.time_ns && r.page == gone.page && r.kind == TraceKind::kGranted &&
                 r.access == static_cast<std::uint8_t>(Access::kWrite);
        });
        return grant == of.records.end() ? ~std::uint64_t{0} : grant->time_ns;
      };
      return std::ranges::any_of(history.traces, [&](const NodeTrace& of) {
        return of.node != trace.node && written(of) < next_grant(trace);
      });
    });
    ASSERT_LT(at, trace.records.size());
    std::vector<NodeTrace> corrupted = history.traces;
    corrupted[n].records.erase(corrupted[n].records.begin() + static_cast<std::ptrdiff_t>(at));
    ++dropped;
    if (!check_pages(corrupted).findings.empty()) ++found;
  }
  EXPECT_EQ(found, dropped);

  // A page that came with bytes of another time.
  std::vector<NodeTrace> corrupted = history.traces;
  const std::size_t at =
      find_record(corrupted[1], TraceKind::kStored, [](const TraceRecord&) { return true; });
  ASSERT_LT(at, corrupted[1].records.size());
  corrupted[1].records[at].digest ^= 1;
  EXPECT_THAT(check_pages(corrupted).findings.text(),
              testing::HasSubstr("bytes that are not its last"));

  // A program that wrote while its node was only allowed to read.
  corrupted = history.traces;
  for (TraceRecord& record : corrupted[0].records)
    if (record.kind == TraceKind::kGranted)
      record.access = static_cast<std::uint8_t>(Access::kRead);
  EXPECT_THAT(check_history(history.plan, history.log, corrupted).rights.text(),
              testing::HasSubstr("although n1 has no right to"));

  // A program that read what was there before the last write to the place.
  StressLog log = history.log;
  std::uint64_t stale = 0;
  for (LoggedAccess& access : log.threads[3]) {
    if (access.kind != LoggedAccess::Kind::kRead || access.value == 0) continue;
    for (const ThreadLog& thread : history.log.threads)
      for (const LoggedAccess& other : thread)
        if (other.location == access.location && other.kind == LoggedAccess::Kind::kWrite &&
            other.value == access.value && other.end_ns < access.begin_ns)
          stale = other.value;
    if (stale == 0) continue;
    access.value = 0;  // as at first
    break;
  }
  ASSERT_NE(stale, 0u);
  EXPECT_FALSE(check_accesses(log.threads).empty());
}

TEST(History, OfPagesThatDoNotFitIsSound) {
  const Folder folder;
  DaemonConfig config = settings(folder, 64 * kPageSize);
  StressPlan plan;
  plan.pages = 160;  // 64 fit on a node: the others' frames are needed, too
  plan.accesses = 10'000;
  expect_clean(record(config, plan));
}

TEST(History, OfPagesInSwapIsSound) {
  const Folder folder;
  DaemonConfig config = settings(folder, 64 * kPageSize);
  config.swap_dir = folder.path() + "/swap";
  config.swap_bytes = 16 * kMiB;
  StressPlan plan;
  plan.nodes = 2;
  plan.pages = 224;  // more than both nodes have frames for
  plan.accesses = 10'000;
  expect_clean(record(config, plan));
}

TEST(History, OfANodeThatIsKilledIsSound) {
  const Folder folder;
  StressPlan plan;
  plan.kill_node = 2;
  const History history = record(settings(folder, 64 * kMiB), plan);
  expect_clean(history);
  EXPECT_GT(history.log.refused, 0u) << "the killed node had pages";
}

TEST(History, OfSeveralShardsIsSound) {
  const Folder folder;
  DaemonConfig config = settings(folder, 64 * kMiB);
  config.shards = 2;
  StressPlan plan;
  plan.pages = 192;  // three stripes: both shards have some
  plan.accesses = 10'000;
  expect_clean(record(config, plan));
}

// A daemon that says a page is write-protected and does not do it: its own trace gives it away, and
// the programs saw it. Whether its programs meet the bug is a matter of who runs when; on a machine
// that has much else to do it may take several runs.
TEST(History, OfADaemonWithABugIsNot) {
  StressPlan plan;
  plan.accesses = 5'000;
  HistoryCheck check;
  for (plan.seed = 1; plan.seed <= 10 && check.accesses.empty(); ++plan.seed) {
    const Folder folder;
    const History history = record(settings(folder, 64 * kMiB), plan, GOBD_SKIPPING_PROTECTION);
    check = check_history(history.plan, history.log, history.traces);
    if (check.pages.findings.text().find("bytes that are not its last") == std::string::npos)
      check = {};
  }
  EXPECT_THAT(check.pages.findings.text(), testing::HasSubstr("bytes that are not its last"));
  EXPECT_FALSE(check.accesses.empty());
}

}  // namespace
}  // namespace gob::history
