#include "tests/history/access_check.h"

#include <algorithm>
#include <map>
#include <unordered_map>

namespace gob::history {
namespace {

using Kind = LoggedAccess::Kind;
constexpr std::size_t kNowhere = ~std::size_t{0};

// An access by its place in `all`.
struct Placed {
  LoggedAccess access;
  std::size_t thread;
};

// A write and the reads that saw it. All must happen around one moment: they happen without another
// write in between.
struct Cluster {
  std::size_t write = kNowhere;  // kNowhere: the value that a location holds at first
  std::vector<std::size_t> reads;
  std::uint64_t first_end = LoggedAccess::kNever;
  std::uint64_t last_begin = 0;
  // It lasts from the first end to the last begin; if these are the other way round, it fits into
  // any one moment between them.
  [[nodiscard]] bool lasts() const { return first_end < last_begin; }
};

class Checker {
 public:
  explicit Checker(const std::vector<ThreadLog>& threads) {
    for (std::size_t t = 0; t < threads.size(); ++t)
      for (const LoggedAccess& access : threads[t])
        if (access.kind != Kind::kNone) all_.push_back({access, t});
  }

  Findings run() {
    assign_reads();
    for (auto& [value, cluster] : clusters_) locations_[value.first].push_back(&cluster);
    for (auto& [location, clusters] : locations_) check_location(location, clusters);
    if (findings_.empty()) check_sequence();  // which write comes before which is known only then
    return std::move(findings_);
  }

 private:
  using Value = std::pair<std::uint32_t, std::uint64_t>;  // location, value

  // Puts each access into the cluster of its value.
  void assign_reads() {
    for (std::size_t i = 0; i < all_.size(); ++i) {
      const LoggedAccess& access = all_[i].access;
      if (access.kind != Kind::kWrite) continue;
      Cluster& cluster = clusters_[{access.location, access.value}];
      if (cluster.write != kNowhere || access.value == 0) {
        add(i, "writes a value that is not its own");
        continue;
      }
      cluster.write = i;
      note_times(cluster, access);
    }
    for (std::size_t i = 0; i < all_.size(); ++i) {
      const LoggedAccess& access = all_[i].access;
      // A read that was under way at the end saw nothing.
      if (access.kind != Kind::kRead || access.end_ns == LoggedAccess::kNever) continue;
      const auto found = clusters_.find({access.location, access.value});
      if (found == clusters_.end() && access.value != 0) {
        add(i, "sees a value that nobody wrote there");
        continue;
      }
      Cluster& cluster = found != clusters_.end() ? found->second : clusters_[{access.location, 0}];
      if (access.value == 0) note_first(cluster);
      cluster.reads.push_back(i);
      if (cluster.write != kNowhere && access.end_ns < all_[cluster.write].access.begin_ns)
        add(i, "sees a value before it is written");
      note_times(cluster, access);
    }
    // A write that may or may not have happened, and that nobody saw, is taken not to have.
    std::erase_if(clusters_, [&](const auto& entry) {
      const Cluster& cluster = entry.second;
      return cluster.reads.empty() && cluster.write != kNowhere &&
             all_[cluster.write].access.end_ns == LoggedAccess::kNever;
    });
  }

  // The value at first was written before all time.
  static void note_first(Cluster& cluster) { cluster.first_end = 0; }

  static void note_times(Cluster& cluster, const LoggedAccess& access) {
    if (access.timeless) return;
    cluster.first_end = std::min(cluster.first_end, access.end_ns);
    cluster.last_begin = std::max(cluster.last_begin, access.begin_ns);
  }

  // Is there an order of the location's writes in which every access happens in its time?
  void check_location(std::uint32_t location, const std::vector<Cluster*>& clusters) {
    std::vector<const Cluster*> lasting;
    for (const Cluster* cluster : clusters)
      if (cluster->lasts()) lasting.push_back(cluster);
    std::ranges::sort(lasting, {}, &Cluster::first_end);
    for (std::size_t i = 1; i < lasting.size(); ++i)
      if (lasting[i]->first_end < lasting[i - 1]->last_begin)
        stale(location, *lasting[i - 1], *lasting[i]);
    for (const Cluster* cluster : clusters) {
      if (cluster->lasts()) continue;
      // Any moment in [last_begin, first_end] that no lasting cluster takes up.
      const std::uint64_t moment = cluster->last_begin;
      const auto later = std::ranges::upper_bound(lasting, moment, {}, &Cluster::first_end);
      if (later == lasting.begin()) continue;
      const Cluster& around = **std::prev(later);
      if (around.first_end < moment && cluster->first_end < around.last_begin)
        stale(location, around, *cluster);
    }
  }

  // No order: one cluster would have to happen inside another.
  void stale(std::uint32_t location, const Cluster& one, const Cluster& other) {
    findings_.add("location " + std::to_string(location) + ": " + words(one) + ", and " +
                  words(other) + ": one of them is seen when it was overwritten");
  }

  [[nodiscard]] std::string words(const Cluster& cluster) const {
    const std::string what = cluster.write == kNowhere
                                 ? std::string("the first value")
                                 : "value " + std::to_string(all_[cluster.write].access.value) +
                                       " of thread " + std::to_string(all_[cluster.write].thread);
    return what + " is there from " + std::to_string(cluster.first_end) + " to " +
           std::to_string(cluster.last_begin) + " ns";
  }

  // A location's clusters that are sure to come right after one of them: what somebody had seen or
  // written before somebody else saw or wrote another came before that. Which of two writes came
  // first that were under way at the same time nobody knows, and a timeless read may have seen them
  // either way. `by_begin`: all of the location's, by last_begin. Those that come after one that
  // `f` is called for may be left out.
  template <class F>
  static void for_successors(const std::vector<Cluster*>& by_begin, const Cluster& cluster, F&& f) {
    std::uint64_t first_end = LoggedAccess::kNever;
    for (auto next =
             std::ranges::upper_bound(by_begin, cluster.first_end, {}, &Cluster::last_begin);
         next != by_begin.end() && (*next)->last_begin <= first_end; ++next) {
      if (*next == &cluster) continue;
      first_end = std::min(first_end, (*next)->first_end);
      f(**next);
    }
  }

  // One order of everything: each thread's own, each read after the write it saw and before those
  // that are sure to come next at its location. There is one if these make no circle.
  void check_sequence() {
    std::vector<std::vector<std::size_t>> next(all_.size());
    std::vector<std::size_t> before(all_.size(), 0);
    const auto edge = [&](std::size_t from, std::size_t to) {
      next[from].push_back(to);
      ++before[to];
    };
    for (std::size_t i = 1; i < all_.size(); ++i)
      if (all_[i].thread == all_[i - 1].thread) edge(i - 1, i);
    for (auto& [location, clusters] : locations_) {
      std::ranges::sort(clusters, {}, &Cluster::last_begin);
      for (const Cluster* cluster : clusters) {
        if (cluster->write != kNowhere)
          for (const std::size_t read : cluster->reads) edge(cluster->write, read);
        for_successors(clusters, *cluster, [&](const Cluster& later) {
          if (later.write == kNowhere) return;
          if (cluster->write != kNowhere) edge(cluster->write, later.write);
          for (const std::size_t read : cluster->reads) edge(read, later.write);
        });
      }
    }
    std::vector<std::size_t> ready;
    for (std::size_t i = 0; i < all_.size(); ++i)
      if (before[i] == 0) ready.push_back(i);
    std::size_t placed = 0;
    while (!ready.empty()) {
      const std::size_t i = ready.back();
      ready.pop_back();
      ++placed;
      for (const std::size_t after : next[i])
        if (--before[after] == 0) ready.push_back(after);
    }
    if (placed == all_.size()) return;
    for (std::size_t i = 0; i < all_.size(); ++i)
      if (before[i] != 0) add(i, "stands in a circle: no order of all accesses explains it");
  }

  void add(std::size_t i, const std::string& what) {
    const LoggedAccess& access = all_[i].access;
    findings_.add(std::to_string(access.begin_ns) + " ns: the " +
                  (access.kind == Kind::kRead ? "read" : "write") + " of value " +
                  std::to_string(access.value) + " at location " + std::to_string(access.location) +
                  " by thread " + std::to_string(all_[i].thread) + " " + what);
  }

  std::vector<Placed> all_;
  std::map<Value, Cluster> clusters_;
  std::map<std::uint32_t, std::vector<Cluster*>> locations_;
  Findings findings_;
};

}  // namespace

Findings check_accesses(const std::vector<ThreadLog>& threads) { return Checker(threads).run(); }

}  // namespace gob::history
