#include "gobbench/simulate/scale_cases.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace gob::bench {
namespace {

using Kind = ProgramStep::Kind;
constexpr ContainerId kContainer{1};

NodeId node_id(std::size_t i) { return NodeId{static_cast<std::uint16_t>(i)}; }

PageSet whole_stripe(std::uint64_t stripe) { return {kContainer, stripe, ~std::uint64_t{0}}; }

// Touches single pages one after the other, then perhaps meets the others some times.
class ListProgram final : public Program {
 public:
  ListProgram(std::vector<std::uint64_t> pages, Access access, unsigned barriers = 0)
      : pages_(std::move(pages)), access_(access), barriers_(barriers) {}

  ProgramStep next() override {
    ProgramStep step;
    if (!started_) {
      started_ = true;
      step.kind = Kind::kStartClock;
    } else if (at_ < pages_.size()) {
      step.kind = Kind::kWork;
      step.touch({{kContainer, PageIndex{pages_[at_++]}}, 1, access_});
    } else if (barriers_ > 0) {
      --barriers_;
      step.kind = Kind::kBarrier;
    }
    return step;
  }

 private:
  std::vector<std::uint64_t> pages_;
  Access access_;
  unsigned barriers_;
  std::size_t at_ = 0;
  bool started_ = false;
};

Latency latency_of(std::vector<SimTime> samples) {
  if (samples.empty()) return {};
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double fraction) {
    const auto rank = static_cast<std::size_t>(fraction * static_cast<double>(samples.size() - 1));
    return static_cast<double>(samples[rank]) * 1e-3;
  };
  double sum = 0;
  for (const SimTime sample : samples) sum += static_cast<double>(sample);
  return {at(0.5), at(0.99), sum * 1e-3 / static_cast<double>(samples.size())};
}

std::vector<ContainerInfo> container_of(std::uint64_t pages) {
  return {{kContainer, pages, Epoch{1}, kNoNode}};
}

// The same on every machine, unlike std::shuffle.
template <class T>
void shuffle(std::vector<T>& values, std::mt19937_64& random) {
  for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[random() % i]);
}

}  // namespace

Result<IndependentPages> independent_pages(const Timing& timing, unsigned nodes,
                                           const ScaleOptions& options) {
  const std::uint64_t stripes = options.pages / kStripePages;
  SimCluster cluster(timing, nodes, container_of(stripes * kStripePages));
  // Each node wrote its share of the stripes: it owns these pages.
  std::mt19937_64 random(1);
  std::vector<std::uint64_t> order(stripes);
  for (std::uint64_t s = 0; s < stripes; ++s) order[s] = s;
  shuffle(order, random);
  std::vector<std::uint16_t> owner(stripes);
  for (std::uint64_t i = 0; i < stripes; ++i) {
    owner[order[i]] = static_cast<std::uint16_t>(i % nodes);
    cluster.settle(node_id(i % nodes), whole_stripe(order[i]), Access::kWrite);
  }
  // Each stripe is read by one other node: whose share it is in another shuffle.
  shuffle(order, random);
  std::vector<std::vector<std::uint64_t>> wanted(nodes);
  for (std::uint64_t i = 0; i < stripes; ++i) {
    const std::uint64_t stripe = order[i];
    std::size_t reader = i % nodes;
    if (reader == owner[stripe]) reader = (reader + 1 + random() % (nodes - 1)) % nodes;
    for (unsigned page = 0; page < kStripePages; ++page)
      wanted[reader].push_back(stripe * kStripePages + page);
  }
  std::vector<std::unique_ptr<Program>> programs;
  for (std::vector<std::uint64_t>& pages : wanted) {
    shuffle(pages, random);
    if (pages.size() > options.misses) pages.resize(options.misses);
    programs.push_back(std::make_unique<ListProgram>(std::move(pages), Access::kRead));
  }
  IndependentPages result;
  // Of the data as they were written; reading adds no entry.
  for (unsigned n = 0; n < nodes; ++n) {
    const auto bytes = static_cast<double>(cluster.node(n).core().directory().memory_bytes());
    result.directory_bytes_max = std::max(result.directory_bytes_max, bytes);
    result.directory_bytes_mean += bytes / nodes;
  }
  if (Status s = cluster.run(std::move(programs)); !s) return s.error();

  std::vector<SimTime> all;
  std::vector<SimTime> two_hops;
  std::vector<SimTime> three_hops;
  std::uint64_t messages = 0;
  std::uint64_t managed_max = 0;
  std::uint64_t managed = 0;
  for (unsigned n = 0; n < nodes; ++n) {
    for (const MissSample& miss : cluster.misses(n)) {
      all.push_back(miss.ns);
      const std::uint64_t stripe = miss.page.page.value() / kStripePages;
      const NodeId manager = cluster.view().manager(kContainer, stripe);
      const bool three = manager != node_id(n) && manager != node_id(owner[stripe]);
      (three ? three_hops : two_hops).push_back(miss.ns);
    }
    const NodeCounters& counters = cluster.node(n).counters();
    messages += counters.messages_out;
    managed += counters.manager_messages;
    managed_max = std::max(managed_max, counters.manager_messages);
  }
  result.three_hop_share = static_cast<double>(three_hops.size()) / static_cast<double>(all.size());
  result.messages_a_miss = static_cast<double>(messages) / static_cast<double>(all.size());
  result.manager_load_max_over_mean = static_cast<double>(managed_max) * nodes /
                                      static_cast<double>(std::max<std::uint64_t>(managed, 1));
  result.all = latency_of(std::move(all));
  result.two_hops = latency_of(std::move(two_hops));
  result.three_hops = latency_of(std::move(three_hops));
  return result;
}

Result<SharedPages> shared_pages(const Timing& timing, unsigned nodes, unsigned readers,
                                 unsigned pages) {
  // A stripe for each page, so that their managers are different nodes and nothing is read ahead.
  SimCluster cluster(timing, nodes, container_of(std::uint64_t{pages} * kStripePages));
  std::vector<std::uint64_t> set;
  for (unsigned i = 0; i < pages; ++i) {
    set.push_back(std::uint64_t{i} * kStripePages);
    cluster.settle(node_id(0), PageSet::of({kContainer, PageIndex{set.back()}}), Access::kWrite);
  }
  // Readers are spread over the nodes between the first, which wrote, and the last, which will.
  readers = std::min(readers, nodes - 2);
  std::vector<bool> reads_set(nodes);
  for (unsigned i = 0; i < readers; ++i)
    reads_set[1 + static_cast<std::size_t>(i) * (nodes - 2) / readers] = true;
  std::vector<std::unique_ptr<Program>> reading;
  for (unsigned n = 0; n < nodes; ++n)
    reading.push_back(std::make_unique<ListProgram>(
        reads_set[n] ? set : std::vector<std::uint64_t>{}, Access::kRead));
  if (Status s = cluster.run(std::move(reading)); !s) return s.error();
  SharedPages result;
  std::vector<SimTime> reads;
  for (unsigned n = 0; n < nodes; ++n)
    for (const MissSample& miss : cluster.misses(n)) reads.push_back(miss.ns);
  result.read = latency_of(std::move(reads));

  std::vector<std::unique_ptr<Program>> writing;
  for (unsigned n = 0; n < nodes; ++n)
    writing.push_back(std::make_unique<ListProgram>(
        n + 1 == nodes ? set : std::vector<std::uint64_t>{}, Access::kWrite));
  if (Status s = cluster.run(std::move(writing)); !s) return s.error();
  std::vector<SimTime> writes;
  for (const MissSample& miss : cluster.misses(nodes - 1)) writes.push_back(miss.ns);
  std::uint64_t messages = 0;
  for (unsigned n = 0; n < nodes; ++n) messages += cluster.node(n).counters().messages_out;
  result.messages_a_write = static_cast<double>(messages) / static_cast<double>(pages);
  result.write = latency_of(std::move(writes));
  return result;
}

Result<double> barrier_us(const Timing& timing, unsigned nodes) {
  constexpr unsigned kRounds = 4;
  SimCluster cluster(timing, nodes, {});
  std::vector<std::unique_ptr<Program>> programs;
  for (unsigned n = 0; n < nodes; ++n)
    programs.push_back(
        std::make_unique<ListProgram>(std::vector<std::uint64_t>{}, Access::kRead, kRounds));
  if (Status s = cluster.run(std::move(programs)); !s) return s.error();
  return static_cast<double>(cluster.measured_ns()) * 1e-3 / kRounds;
}

Result<ViewChange> view_change(const Timing& timing, unsigned nodes, std::uint64_t pages) {
  const std::uint64_t stripes = pages / kStripePages;
  SimCluster cluster(timing, nodes, container_of(stripes * kStripePages));
  for (std::uint64_t s = 0; s < stripes; ++s)
    cluster.settle(node_id(mix64(s + 1) % nodes), whole_stripe(s), Access::kWrite);
  for (unsigned n = 0; n < nodes; ++n) cluster.node(n).counters() = {};
  View next = cluster.view();
  next.epoch = Epoch{next.epoch.value() + 1};
  const Result<SimTime> took = cluster.change_view(next);
  if (!took) return took.error();
  ViewChange result;
  result.ms = static_cast<double>(*took) * 1e-6;
  for (unsigned n = 0; n < nodes; ++n)
    result.messages += static_cast<double>(cluster.node(n).counters().messages_out);
  return result;
}

}  // namespace gob::bench
