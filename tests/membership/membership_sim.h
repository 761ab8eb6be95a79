// A cluster of Membership machines in one thread: links with random delays, crashes, restarts,
// cuts, departures, all from one seed. Checks after every event what docs/MEMBERSHIP.md promises.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "libgob/membership/membership.h"

namespace gob::test {

struct SimOptions {
  std::size_t nodes = 3;
  std::uint64_t seed = 1;
  bool crashes = true;
  bool cuts = true;
  bool departures = true;
  unsigned faults = 20;
};

class MembershipSim {
 public:
  explicit MembershipSim(const SimOptions& options);

  // Faults at random moments, then none any more and every node restarted: all must end up in one
  // view. Returns what went wrong, or nothing.
  std::string run();

  // For scripted scenarios.
  void start(NodeId node);
  void crash(NodeId node, bool host_answers);
  void cut(NodeId a, NodeId b);
  void heal(NodeId a, NodeId b);
  void leave(NodeId node);
  void stall(NodeId node, TimeMs duration) { stalled_until_[node] = now_ + duration; }
  void run_for(TimeMs duration);
  [[nodiscard]] const Membership* machine(NodeId node) const;
  [[nodiscard]] bool alive(NodeId node) const { return processes_[node.value()] != nullptr; }
  // How the last process of the node ended: "fenced: ...", "left", "crashed"; empty while it lives.
  [[nodiscard]] const std::string& ending(NodeId node) const { return endings_[node.value()]; }
  [[nodiscard]] bool one_view(const std::vector<NodeId>& nodes) const;
  [[nodiscard]] const std::string& problem() const { return problem_; }
  [[nodiscard]] const std::string& history() const { return history_; }  // a line an event
  [[nodiscard]] std::size_t views() const { return by_epoch_.size(); }

 private:
  struct Process {
    Process(const MembershipConfig& config, MembershipHooks hooks)
        : incarnation(config.incarnation), machine(config, std::move(hooks)) {}
    std::uint64_t incarnation;
    Membership machine;
    bool leave_asked = false;
    std::optional<TimeMs> wakeup;
  };
  // One connection between two processes.
  struct Link {
    NodeId ends[2];
    std::uint64_t incarnations[2] = {0, 0};
    bool alive = false;               // carries messages
    bool open[2] = {false, false};    // the end believes in it
    TimeMs last_arrival[2] = {0, 0};  // towards end i
  };
  struct Happening {
    TimeMs at;
    std::uint64_t order;
    std::function<void()> what;
    bool operator<(const Happening& other) const {
      return at != other.at ? at > other.at : order > other.order;
    }
  };

  void after(TimeMs delay, std::function<void()> what);
  TimeMs random(TimeMs low, TimeMs high);
  void feed(NodeId node, const membership::Event& event);
  void perform(NodeId node, const membership::Action& action);
  void end_process(NodeId node, const std::string& how, bool host_answers);
  void close_link(std::size_t link, unsigned end, LinkEnd how, TimeMs delay);
  void try_connect(NodeId a, NodeId b);
  void send(NodeId from, NodeId to, const MembershipMessage& message);
  void check_install(NodeId node, const ViewRecord& record, const std::string& blob);
  void random_fault();
  void fail(const std::string& text);
  [[nodiscard]] std::pair<NodeId, NodeId> pair(NodeId a, NodeId b) const {
    return a < b ? std::pair{a, b} : std::pair{b, a};
  }

  SimOptions options_;
  std::mt19937_64 rng_;
  TimeMs now_ = 1000;
  std::uint64_t order_ = 0;
  std::priority_queue<Happening> queue_;
  std::vector<std::unique_ptr<Process>> processes_;
  std::vector<std::string> endings_;
  std::map<NodeId, TimeMs> stalled_until_;  // what happens to them waits until then
  std::vector<bool> refused_;               // the host answers that nobody listens
  std::vector<std::unique_ptr<Link>> links_;
  std::map<std::pair<NodeId, NodeId>, std::size_t> current_;  // latest link of a pair
  std::set<std::pair<NodeId, NodeId>> cut_;
  std::set<Member> living_;
  std::map<std::pair<std::uint64_t, Epoch>, std::pair<ViewRecord, std::string>> by_epoch_;
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::map<Epoch, std::set<Member>>> by_index_;
  std::map<Member, ViewRecord> last_;
  bool faulty_ = true;
  std::string problem_;
  std::string history_;
};

}  // namespace gob::test
