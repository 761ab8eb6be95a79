// The simulated cluster against closed forms: what one miss, one upgrade, one barrier cost is a sum
// that can be written down.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gobbench/simulate/sim_cluster.h"

namespace gob::bench {
namespace {

using Kind = ProgramStep::Kind;
constexpr ContainerId kContainer{1};

// Every part has another value, so that no two sums are alike by chance.
Timing distinct() {
  Timing t;
  t.cores = 2;
  t.fault_us = 1;
  t.resume_us = 2;
  t.call_us = 4;
  t.wake_us = 8;
  t.receive_us = 16;
  t.send_us = 32;
  t.step_us = 64;
  t.map_us = 128;
  t.protect_us = 256;
  t.unmap_us = 512;
  t.load_us = 1024;
  t.link_us = 2048;
  t.wake_busy_us = 4096;
  t.kick_us = 3;
  t.hold_us = 5;
  return t;
}

std::vector<ContainerInfo> stripes(std::uint64_t count) {
  return {{kContainer, count * kStripePages, Epoch{1}, kNoNode}};
}

PageId page(std::uint64_t index) { return {kContainer, PageIndex{index}}; }

// Given steps, one after the other.
class Script final : public Program {
 public:
  explicit Script(std::vector<ProgramStep> steps = {}) : steps_(std::move(steps)) {}
  ProgramStep next() override { return at_ < steps_.size() ? steps_[at_++] : ProgramStep{}; }

 private:
  std::vector<ProgramStep> steps_;
  std::size_t at_ = 0;
};

ProgramStep access(PageId first, std::uint32_t pages, Access how, SimTime compute_ns = 0) {
  ProgramStep step;
  step.kind = Kind::kWork;
  step.touch({first, pages, how});
  step.compute_ns = compute_ns;
  return step;
}
ProgramStep plain(Kind kind) {
  ProgramStep step;
  step.kind = kind;
  return step;
}

// Node i runs scripts[i]; the others do nothing.
void run(SimCluster& cluster, std::vector<std::vector<ProgramStep>> scripts) {
  scripts.resize(cluster.size());
  std::vector<std::unique_ptr<Program>> programs;
  for (std::vector<ProgramStep>& script : scripts) {
    script.insert(script.begin(), plain(Kind::kStartClock));
    programs.push_back(std::make_unique<Script>(std::move(script)));
  }
  const Status done = cluster.run(std::move(programs));
  ASSERT_TRUE(done) << done.error().message();
}

// The first stripe whose manager is `manager`.
std::uint64_t managed_by(const SimCluster& cluster, unsigned manager) {
  for (std::uint64_t stripe = 0;; ++stripe)
    if (cluster.view().manager(kContainer, stripe).value() == manager) return stripe;
}

// How long node 0 waits for a page that node 1 wrote and `manager` manages.
SimTime read_miss(const Timing& timing, unsigned nodes, unsigned manager) {
  SimCluster cluster(timing, nodes, stripes(nodes));
  const PageId wanted = page(managed_by(cluster, manager) * kStripePages);
  cluster.settle(NodeId{1}, PageSet::of(wanted), Access::kWrite);
  run(cluster, {{access(wanted, 1, Access::kRead)}});
  EXPECT_EQ(cluster.misses(0).size(), 1u);
  return cluster.misses(0).front().ns;
}

TEST(SimulatedMiss, OfTwoNodesIsTheSumOfItsParts) {
  const Timing t = distinct();
  const double at_owner =
      t.wake_us + t.receive_us + t.step_us + t.protect_us + t.load_us + t.send_us;
  const double at_requester = t.wake_us + t.receive_us + t.step_us + t.map_us;
  const double sum = t.fault_us + t.step_us + t.send_us + t.link_us + at_owner + t.link_us +
                     at_requester + t.resume_us;
  EXPECT_EQ(read_miss(t, 2, 0), to_ns(sum));  // the requester manages the page
  EXPECT_EQ(read_miss(t, 2, 1), to_ns(sum));  // the owner does
}

TEST(SimulatedMiss, OfThreeNodesHasOneHopMore) {
  const Timing t = distinct();
  const double hop = t.link_us + t.wake_us + t.receive_us + t.step_us + t.send_us;
  EXPECT_EQ(read_miss(t, 3, 2), read_miss(t, 3, 1) + to_ns(hop));
}

TEST(SimulatedMiss, PaysForItsBytesOnTheWireAndAtBothEnds) {
  Timing t = distinct();
  const SimTime free = read_miss(t, 2, 1);
  t.gigabits_a_second = 8;  // a nanosecond a byte
  EXPECT_EQ(read_miss(t, 2, 1), free + 64 + (64 + kPageSize));
  t.byte_ns = 3;
  EXPECT_EQ(read_miss(t, 2, 1), free + 7 * (64 + 64 + kPageSize));
}

TEST(SimulatedUpgrade, TakesNoBytesAndItsTwoAnswersComeTogether) {
  const Timing t = distinct();
  SimCluster cluster(t, 2, stripes(2));
  const PageId wanted = page(managed_by(cluster, 1) * kStripePages);
  cluster.settle(NodeId{1}, PageSet::of(wanted), Access::kWrite);
  cluster.settle(NodeId{0}, PageSet::of(wanted), Access::kRead);
  run(cluster, {{access(wanted, 1, Access::kWrite)}});
  ASSERT_EQ(cluster.misses(0).size(), 1u);
  // The grant and the acknowledgement are two messages in one packet.
  const double sum = t.fault_us + t.step_us + t.send_us + t.link_us +
                     (t.wake_us + t.receive_us + t.step_us + t.unmap_us + t.send_us) + t.link_us +
                     (t.wake_us + t.receive_us + 2 * t.step_us + t.map_us) + t.resume_us;
  EXPECT_EQ(cluster.misses(0).front().ns, to_ns(sum));
}

TEST(SimulatedBarrier, IsThePathOfTheNodeThatIsNotItsHome) {
  const Timing t = distinct();
  constexpr unsigned kRounds = 5;
  SimCluster cluster(t, 2, {});
  const std::vector<ProgramStep> rounds(kRounds, plain(Kind::kBarrier));
  run(cluster, {rounds, rounds});
  const double one_way = t.link_us + t.wake_us + t.receive_us + t.step_us;
  const double sum = t.call_us + t.step_us + t.send_us + one_way + t.send_us + one_way + t.call_us;
  EXPECT_EQ(cluster.measured_ns(), kRounds * to_ns(sum));
}

TEST(SimulatedProcessor, WithOneCoreTheProgramLosesWhatGobdTakes) {
  Timing t = distinct();
  const auto computing_owner = [&](double cores) {
    t.cores = cores;
    SimCluster cluster(t, 2, stripes(2));
    const PageId wanted = page(managed_by(cluster, 1) * kStripePages);
    const PageId own = page(managed_by(cluster, 0) * kStripePages);
    cluster.settle(NodeId{1}, PageSet::of(wanted), Access::kWrite);
    cluster.settle(NodeId{1}, PageSet::of(own), Access::kWrite);
    run(cluster,
        {{access(wanted, 1, Access::kRead)}, {access(own, 1, Access::kWrite, 50'000'000)}});
    return cluster.measured_ns();
  };
  EXPECT_EQ(computing_owner(2), 50'000'000u);
  const double served = t.receive_us + t.step_us + t.protect_us + t.load_us + t.send_us;
  EXPECT_EQ(computing_owner(1), 50'000'000u + to_ns(served));
}

TEST(SimulatedProcessor, WithOneCoreAMessageInterruptsTheProgramAtAPriceForItsSender) {
  Timing t = distinct();
  t.cores = 1;
  // How long node 0 waits for a page of node 1, whose program computes all the while.
  const auto miss = [&] {
    SimCluster cluster(t, 2, stripes(2));
    const PageId wanted = page(managed_by(cluster, 1) * kStripePages);
    const PageId own = page(wanted.page.value() + 1);
    cluster.settle(NodeId{1}, PageSet::of(wanted), Access::kWrite);
    cluster.settle(NodeId{1}, PageSet::of(own), Access::kWrite);
    run(cluster,
        {{access(wanted, 1, Access::kRead)}, {access(own, 1, Access::kWrite, 50'000'000)}});
    return cluster.misses(0).front().ns;
  };
  const double asked = t.fault_us + t.step_us + t.send_us;
  const double at_owner =
      t.wake_busy_us + t.receive_us + t.step_us + t.protect_us + t.load_us + t.send_us;
  const double answered = t.receive_us + t.step_us + t.map_us + t.resume_us;
  EXPECT_EQ(miss(), to_ns(asked + t.link_us + at_owner + t.link_us + t.wake_us + answered));
  t.kick_us = 20'000;  // node 0 is at it still when the answer comes
  EXPECT_EQ(miss(), to_ns(asked + t.kick_us + answered));
}

TEST(SimulatedStream, IsReadAheadByTheRealDetector) {
  Timing t = distinct();
  const auto read_all = [&](double window) {
    t.read_ahead_pages = window;
    SimCluster cluster(t, 2, stripes(8));
    for (std::uint64_t stripe = 0; stripe < 8; ++stripe)
      cluster.settle(NodeId{1}, {kContainer, stripe, ~std::uint64_t{0}}, Access::kWrite);
    run(cluster, {{access(page(0), 8 * kStripePages, Access::kRead)}});
    EXPECT_EQ(cluster.node(0).counters().pages_in, 8u * kStripePages);
    return cluster.node(0).counters().faults;
  };
  EXPECT_EQ(read_all(0), 8u * kStripePages);
  EXPECT_LT(read_all(64), 64u);
}

TEST(SimulatedHold, AWriterKeepsThePageForAWhileAfterItCame) {
  // Both nodes write one page in turn: each grant is worth at least the hold.
  Timing t = distinct();
  const auto bounce = [&](double hold_us) {
    t.hold_us = hold_us;
    SimCluster cluster(t, 2, stripes(1));
    const std::vector<ProgramStep> writes(4, access(page(0), 1, Access::kWrite, 1000));
    run(cluster, {writes, writes});
    return cluster.measured_ns();
  };
  EXPECT_GT(bounce(100'000), bounce(1) + 50'000'000);
}

TEST(SimulatedCluster, TheSameRunTakesTheSameTime) {
  const auto once = [] {
    SimCluster cluster(distinct(), 5, stripes(5));
    std::vector<std::vector<ProgramStep>> scripts(5);
    for (unsigned n = 0; n < 5; ++n)
      for (unsigned i = 0; i < 200; ++i)
        scripts[n].push_back(access(page((i * 37 + n * 11) % (5 * kStripePages)), 1,
                                    (i + n) % 3 == 0 ? Access::kWrite : Access::kRead, 700));
    run(cluster, scripts);
    std::vector<SimTime> all{cluster.measured_ns(), cluster.events()};
    for (unsigned n = 0; n < 5; ++n)
      for (const MissSample& miss : cluster.misses(n)) all.push_back(miss.ns);
    return all;
  };
  const std::vector<SimTime> first = once();
  EXPECT_GT(first.size(), 200u);
  EXPECT_EQ(first, once());
}

TEST(SimulatedCluster, AViewChangeEndsWithAllServing) {
  SimCluster cluster(distinct(), 6, stripes(6));
  for (std::uint64_t stripe = 0; stripe < 6; ++stripe)
    cluster.settle(NodeId{static_cast<std::uint16_t>(5 - stripe)},
                   {kContainer, stripe, ~std::uint64_t{0}}, Access::kWrite);
  View next = cluster.view();
  next.epoch = Epoch{2};
  const Result<SimTime> took = cluster.change_view(next);
  ASSERT_TRUE(took) << took.error().message();
  // Markers, then reports: at least two ways over the network.
  EXPECT_GT(*took, 2 * to_ns(distinct().link_us));
  run(cluster, {{access(page(0), 1, Access::kRead)}});
  EXPECT_EQ(cluster.misses(0).size(), 1u);
}

TEST(SimulatedCluster, AProgramThatWaitsForEverIsAnError) {
  SimCluster cluster(distinct(), 2, stripes(1));
  std::vector<std::unique_ptr<Program>> programs;
  programs.push_back(std::make_unique<Script>(std::vector<ProgramStep>{plain(Kind::kBarrier)}));
  programs.push_back(std::make_unique<Script>());
  const Status done = cluster.run(std::move(programs));
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message(), ::testing::HasSubstr("1 programs wait"));
}

}  // namespace
}  // namespace gob::bench
