// Programs that lock, wait, signal and meet at barriers on a few nodes while messages crawl, views
// change, and clients and nodes die, all from a seed. Nobody shares a lock, nobody passes a barrier
// early, a death is told, everything ends, nothing is left over.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>

#include "tests/sync/sync_cluster.h"

namespace gob::test {
namespace {

constexpr std::size_t kNodes = 5;
constexpr std::size_t kLocks = 4;

struct SimOptions {
  std::uint64_t seed = 1;
  bool clients_die = false;
  bool nodes_die = false;
};

class SyncSim {
 public:
  explicit SyncSim(const SimOptions& options)
      : options_(options), rng_(options.seed), cluster_(kNodes) {
    members_ = {0, 1, 2};
    outside_ = {3, 4};
    view_ = SyncCluster::view(++epoch_, members_);
    cluster_.install_all(view_);
    // Two groups that meet at barriers, and clients that use locks; all on nodes 0 to 2.
    for (std::size_t i = 0; i < 6; ++i) {
      Client& client = clients_.emplace_back();
      client.node = i % 3;
      client.id = 1 + i;
      client.group = i / 3;
    }
    for (std::size_t i = 0; i < 8; ++i) {
      Client& client = clients_.emplace_back();
      client.node = i % 3;
      client.id = 100 + i;
    }
  }

  std::string run(int steps) {
    for (int i = 0; i < steps && problem_.empty(); ++i) step();
    finish();
    return problem_;
  }
  [[nodiscard]] std::size_t rounds() const { return rounds_; }
  [[nodiscard]] std::size_t told_deaths() const { return told_deaths_; }

 private:
  static constexpr std::size_t kNoGroup = ~std::size_t{0};
  enum class Doing { kNothing, kLocking, kHolding, kWaiting, kNotifying, kMeeting };
  struct Client {
    std::size_t node = 0;
    std::uint64_t id = 0;
    std::size_t group = kNoGroup;
    bool alive = true;
    Doing doing = Doing::kNothing;
    std::uint64_t request = 0;
    std::string lock;
    std::size_t arrivals = 0;
    std::size_t passed = 0;
  };

  std::size_t random(std::size_t n) { return rng_() % n; }
  void fail(const std::string& text) {
    if (problem_.empty()) problem_ = text;
  }

  void step() {
    const std::size_t what = random(100);
    if (what < 55) {
      cluster_.deliver(random(kNodes), random(kNodes));
    } else if (what < 90) {
      act(clients_[random(clients_.size())]);
    } else if (what < 93) {
      now_ += 10;
      for (std::size_t i = 0; i < kNodes; ++i)
        if (!cluster_.dead.contains(i)) cluster_.tick(i, now_);
    } else if (what < 98) {
      change_view();
    } else if (what == 98) {
      if (options_.clients_die && random(4) == 0) kill_client(clients_[random(clients_.size())]);
    } else {
      if (options_.nodes_die && random(20) == 0) kill_node();
    }
    take_answers();
  }

  void act(Client& client) {
    if (!client.alive) return;
    if (client.group != kNoGroup) {
      if (client.doing == Doing::kNothing && !broken_[client.group]) arrive(client);
      return;
    }
    switch (client.doing) {
      case Doing::kNothing: {
        client.lock = "l" + std::to_string(random(kLocks));
        std::optional<std::uint64_t> deadline;
        if (random(4) == 0) deadline = now_ + 10 * random(20);
        const std::size_t kind = random(10);
        if (kind == 0) {
          client.doing = Doing::kNotifying;
          client.request =
              cluster_.notify(client.node, client.id, "c", client.lock, random(2) == 0);
        } else {
          client.doing = Doing::kLocking;
          client.request =
              kind == 1 ? cluster_.ask(client.node,
                                       {SyncKind::kTryLock, client.id, 0, client.lock, {}, 0, {}})
                        : cluster_.lock(client.node, client.id, client.lock, deadline);
        }
        return;
      }
      case Doing::kHolding:
        if (random(4) == 0) {
          // Always with an end, so that nobody waits for a signal that nobody sends.
          let_go(client);
          client.doing = Doing::kWaiting;
          client.request =
              cluster_.wait(client.node, client.id, "c", client.lock, now_ + 10 * (1 + random(20)));
        } else if (random(3) == 0) {
          let_go(client);
          client.doing = Doing::kNothing;
          cluster_.unlock(client.node, client.id, client.lock);
        }
        return;
      case Doing::kLocking:
      case Doing::kWaiting:
      case Doing::kNotifying:
      case Doing::kMeeting:
        return;
    }
  }

  void arrive(Client& client) {
    ++client.arrivals;
    client.doing = Doing::kMeeting;
    client.request =
        cluster_.barrier(client.node, client.id, "b" + std::to_string(client.group), 3);
  }

  void hold(Client& client, SyncResult result) {
    const auto [holder, fresh] = holders_.try_emplace(client.lock, client.id);
    if (!fresh) fail("two hold " + client.lock);
    client.doing = Doing::kHolding;
    if (result == SyncResult::kOkOwnerDied) {
      ++told_deaths_;
      if (!anybody_died_) fail("a death that did not happen");
      untold_.erase(client.lock);
    } else if (untold_.contains(client.lock)) {
      fail("the holder of " + client.lock + " died and nobody says so");
    }
  }
  void let_go(Client& client) { holders_.erase(client.lock); }

  void take_answers() {
    for (; taken_ < cluster_.answers.size(); ++taken_) {
      const auto [at, request, result] = cluster_.answers[taken_];
      const auto found = std::ranges::find_if(clients_, [&](const Client& client) {
        return client.node == at && client.request == request && client.alive &&
               client.doing != Doing::kNothing && client.doing != Doing::kHolding;
      });
      if (found != clients_.end()) on_answer(*found, result);
    }
  }

  void on_answer(Client& client, SyncResult result) {
    const bool ok = result == SyncResult::kOk || result == SyncResult::kOkOwnerDied;
    switch (client.doing) {
      case Doing::kLocking:
        client.doing = Doing::kNothing;
        if (ok)
          hold(client, result);
        else if (result != SyncResult::kTimedOut && result != SyncResult::kBusy)
          fail("a lock request ends oddly");
        return;
      case Doing::kWaiting:
        if (!ok && result != SyncResult::kTimedOut) return fail("a condition wait ends oddly");
        hold(client, result);
        return;
      case Doing::kNotifying:
        client.doing = Doing::kNothing;
        if (!ok) fail("a signal fails");
        return;
      case Doing::kMeeting: {
        client.doing = Doing::kNothing;
        if (result == SyncResult::kBroken) {
          if (!anybody_died_) fail("a barrier breaks though nobody died");
          broken_[client.group] = true;
          return;
        }
        if (!ok && result != SyncResult::kOkLast) return fail("a barrier ends oddly");
        ++client.passed;
        ++rounds_;
        for (const Client& other : clients_)
          if (other.group == client.group && other.arrivals < client.passed)
            fail("somebody passed the barrier before all had come");
        return;
      }
      case Doing::kNothing:
      case Doing::kHolding:
        return;
    }
  }

  // Members install a view one at a time; the next view may begin before all have.
  void change_view() {
    if (to_install_.empty()) {
      if (random(8) != 0) return;
      next_view({});
      return;
    }
    const std::size_t at = to_install_.back();
    to_install_.pop_back();
    cluster_.install(at, view_);
    take_answers();
  }
  void next_view(const std::vector<std::size_t>& dead) {
    std::vector<std::size_t> departing;
    for (const std::size_t node : dead) std::erase(members_, node);
    if (dead.empty()) {
      if (!outside_.empty() && random(2) == 0) {
        restart(outside_.back());
        members_.push_back(outside_.back());
        outside_.pop_back();
      } else if (members_.size() > 1 && members_.back() > 2) {
        departing = {members_.back()};  // none of our clients is there
        outside_.push_back(members_.back());
        members_.pop_back();
      }
    }
    std::ranges::sort(members_);
    view_ = SyncCluster::view(++epoch_, members_, departing);
    to_install_ = members_;
    to_install_.insert(to_install_.end(), departing.begin(), departing.end());
    std::ranges::shuffle(to_install_, rng_);
  }

  // A node that departed has said all it had to say before it comes back as another process.
  void restart(std::size_t at) {
    for (std::size_t other = 0; other < kNodes; ++other) {
      while (cluster_.deliver(at, other)) {
      }
      cluster_.links[{other, at}].clear();
      if (cluster_.dead.contains(other) || other == at) continue;
      SyncService::Out out;
      cluster_.services[other].peer_down(SyncCluster::node(at), out);
      cluster_.perform(other, out);
    }
    cluster_.services[at] = SyncService(SyncCluster::node(at));
    take_answers();
  }

  void forget(Client& client, bool node_died) {
    if (!client.alive) return;
    client.alive = false;
    anybody_died_ = true;
    if (client.group != kNoGroup) broken_[client.group] = true;
    if (client.doing != Doing::kHolding) return;
    let_go(client);
    if (!node_died) untold_.insert(client.lock);
  }
  void kill_client(Client& client) {
    if (!client.alive) return;
    forget(client, false);
    cluster_.gone(client.node, client.id);
  }
  void kill_node() {
    // A view at a time, as membership has it: the dead are out before anybody else comes or goes.
    if (!to_install_.empty() || members_.size() < 3) return;
    const std::size_t victim = members_[random(members_.size())];
    cluster_.kill(victim, random(2) == 0);
    anybody_died_ = true;
    for (Client& client : clients_)
      if (client.node == victim) forget(client, true);
    untold_.clear();  // its home may be what died
    next_view({victim});
  }

  void finish() {
    for (int i = 0; i < 400 && problem_.empty(); ++i) {
      while (!to_install_.empty()) change_view();
      cluster_.deliver_all();
      take_answers();
      now_ += 10;
      for (std::size_t n = 0; n < kNodes; ++n)
        if (!cluster_.dead.contains(n)) cluster_.tick(n, now_);
      take_answers();
      bool idle = true;
      for (Client& client : clients_) {
        if (!client.alive || client.doing == Doing::kNothing) continue;
        if (client.doing == Doing::kHolding) {
          let_go(client);
          client.doing = Doing::kNothing;
          cluster_.unlock(client.node, client.id, client.lock);
        }
        idle = false;
      }
      // Complete the round that is open, or give up on the group.
      for (Client& client : clients_) {
        if (!client.alive || client.group == kNoGroup || client.doing != Doing::kNothing) continue;
        const bool awaited = std::ranges::any_of(clients_, [&](const Client& other) {
          return other.alive && other.group == client.group && other.doing == Doing::kMeeting &&
                 other.arrivals > client.arrivals;
        });
        if (awaited && !broken_[client.group]) arrive(client);
      }
      if (idle) break;
    }
    // Nobody can know who was to come to a first round.
    for (const Client& client : clients_)
      if (client.alive && client.doing != Doing::kNothing &&
          !(client.doing == Doing::kMeeting && broken_[client.group] && client.passed == 0))
        fail("client " + std::to_string(client.id) + " waits for ever");
    for (Client& client : clients_) {
      if (!client.alive) continue;
      client.alive = false;
      cluster_.gone(client.node, client.id);
    }
    cluster_.deliver_all();
    for (std::size_t n = 0; n < kNodes; ++n)
      if (!cluster_.dead.contains(n) && cluster_.services[n].outstanding() != 0)
        fail("a request is left over");
    if (!anybody_died_ && cluster_.objects() != 0) fail("an object is left over");
    if (cluster_.objects() > kLocks) fail("objects are left over");
  }

  SimOptions options_;
  std::mt19937_64 rng_;
  SyncCluster cluster_;
  std::uint64_t epoch_ = 0;
  std::uint64_t now_ = 0;
  std::vector<std::size_t> members_;
  std::vector<std::size_t> outside_;
  View view_;
  std::vector<std::size_t> to_install_;
  std::vector<Client> clients_;
  std::map<std::string, std::uint64_t> holders_;
  std::set<std::string> untold_;  // locks whose holder died
  std::map<std::size_t, bool> broken_;
  bool anybody_died_ = false;
  std::size_t taken_ = 0;
  std::size_t rounds_ = 0;
  std::size_t told_deaths_ = 0;
  std::string problem_;
};

TEST(SyncSim, ViewsComeAndGo) {
  std::size_t rounds = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    SyncSim sim({.seed = seed});
    ASSERT_EQ(sim.run(4000), "") << "seed " << seed;
    rounds += sim.rounds();
  }
  EXPECT_GT(rounds, 300u);
}

TEST(SyncSim, ClientsDie) {
  std::size_t told = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    SyncSim sim({.seed = seed, .clients_die = true});
    ASSERT_EQ(sim.run(4000), "") << "seed " << seed;
    told += sim.told_deaths();
  }
  EXPECT_GT(told, 20u);
}

TEST(SyncSim, NodesDie) {
  std::size_t told = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    SyncSim sim({.seed = seed, .clients_die = true, .nodes_die = true});
    ASSERT_EQ(sim.run(4000), "") << "seed " << seed;
    told += sim.told_deaths();
  }
  EXPECT_GT(told, 20u);
}

}  // namespace
}  // namespace gob::test
