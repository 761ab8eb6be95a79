// Random creates, removals, deliveries and view changes from a seed. Ends must meet: every request
// of a member is answered, all tables agree, a name that somebody was told exists can be opened.
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>

#include "tests/container/table_cluster.h"

namespace gob::test {
namespace {

class TableSim {
 public:
  TableSim(std::size_t nodes, std::uint64_t seed) : rng_(seed), cluster_(nodes) {
    for (std::size_t i = 0; i < nodes; ++i) members_.push_back(i);
    cluster_.change_view(++epoch_, members_);
    installed_ = members_;
  }

  std::string run(int steps) {
    for (int i = 0; i < steps && cluster_.problem.empty(); ++i) step();
    finish_change();
    cluster_.deliver_all();
    check();
    return cluster_.problem;
  }

 private:
  std::size_t random(std::size_t n) { return rng_() % n; }

  void step() {
    const std::size_t at = members_[random(members_.size())];
    const std::string name = "c" + std::to_string(random(6));
    switch (random(12)) {
      case 0:
        asked_.emplace_back(at, cluster_.create(at, name));
        return;
      case 1:
        asked_.emplace_back(at, cluster_.remove(at, name));
        return;
      case 2:
        asked_.emplace_back(at, cluster_.open(at, name));
        return;
      case 3:
        if (random(4) == 0) change();
        return;
      default: {
        const std::size_t to = members_[random(members_.size())];
        cluster_.deliver(TableCluster::node(at), TableCluster::node(to));
        check_visible();
        return;
      }
    }
  }

  // One step of a view change: some member more freezes, or some member more installs.
  void change() {
    if (!merged_) {
      if (frozen_.empty() && members_.size() > 2 && random(6) == 0) {
        const std::size_t victim = members_[random(members_.size())];
        std::erase(members_, victim);
        std::erase(installed_, victim);
        std::erase_if(asked_, [&](const auto& each) { return each.first == victim; });
      }
      for (const std::size_t i : members_) {
        if (std::ranges::count(frozen_, i) != 0) continue;
        frozen_.push_back(i);
        blobs_.push_back(cluster_.tables[i].freeze());
        if (frozen_.size() < members_.size()) return;
        merged_ = ContainerTable::merge(blobs_);
        ++epoch_;
        installed_.clear();
        return;
      }
      return;
    }
    View view;
    view.epoch = Epoch{epoch_};
    for (const std::size_t i : members_) view.members.push_back(TableCluster::node(i));
    for (const std::size_t i : members_) {
      if (std::ranges::count(installed_, i) != 0) continue;
      installed_.push_back(i);
      cluster_.install(i, view, *merged_);
      break;
    }
    if (installed_.size() < members_.size()) return;
    merged_.reset();
    frozen_.clear();
    blobs_.clear();
  }
  void finish_change() {
    while (!frozen_.empty()) change();
  }

  // What one member shows, every core knows (or has installed the view in which it will).
  void check_visible() {
    if (merged_) return;
    for (const std::size_t i : members_)
      for (const ContainerRecord& record : cluster_.tables[i].list())
        for (const std::size_t j : members_)
          if (!cluster_.ever_added.contains({j, record.info.id}))
            cluster_.problem = "shown before all know it";
  }

  void check() {
    for (const auto& [at, request] : asked_)
      if (cluster_.answer(at, request) == nullptr) cluster_.problem = "a request has no answer";
    const auto first = cluster_.tables[members_.front()].list();
    for (const std::size_t i : members_) {
      if (cluster_.tables[i].list() != first) cluster_.problem = "the tables differ";
      std::set<ContainerId> ids;
      for (const ContainerRecord& record : first) ids.insert(record.info.id);
      if (cluster_.added[i] != ids) cluster_.problem = "the cores differ";
    }
    // Ids are given once: two creates that succeeded never have the same.
    std::map<ContainerId, RequestId> given;
    for (const auto& [key, result] : cluster_.replies) {
      if (!result.ok() || result.value().creator.node != TableCluster::node(key.first) ||
          result.value().creator.sequence != key.second)
        continue;
      if (!given.insert({result.value().info.id, result.value().creator}).second)
        cluster_.problem = "an id was given twice";
    }
  }

  std::mt19937_64 rng_;
  TableCluster cluster_;
  std::uint64_t epoch_ = 0;
  std::vector<std::size_t> members_;
  std::vector<std::size_t> frozen_;
  std::vector<std::size_t> installed_;
  std::vector<std::string> blobs_;
  std::optional<std::string> merged_;
  std::vector<std::pair<std::size_t, std::uint64_t>> asked_;
};

TEST(ContainerTableSim, RandomChangesConverge) {
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    TableSim sim(2 + seed % 4, seed);
    ASSERT_EQ(sim.run(1500), "") << "seed " << seed;
  }
}

}  // namespace
}  // namespace gob::test
