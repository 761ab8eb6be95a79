// ViewRecord: a view as membership knows it, with the incarnations behind the node ids and what the
// next view change needs. Values: no thread affinity. docs/MEMBERSHIP.md has the reasoning.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "libgob/base/ids.h"
#include "libgob/protocol/view.h"

namespace gob {

// One run of one node's process. A node that restarts is another member.
struct Member {
  NodeId node;
  std::uint64_t incarnation = 0;  // random, chosen when the process starts; never 0
  friend auto operator<=>(const Member&, const Member&) = default;
};

// Number of a proposal: round in the upper bits, proposer in the lower 10, so that no two nodes
// ever use the same. A view's epoch is the ballot under which it was first proposed.
using Ballot = std::uint64_t;
inline constexpr unsigned kBallotNodeBits = 10;
static_assert((std::size_t{1} << kBallotNodeBits) >= kMaxNodes);
constexpr Ballot make_ballot(std::uint64_t round, NodeId proposer) {
  return (round << kBallotNodeBits) | proposer.value();
}
constexpr std::uint64_t round_of(Ballot ballot) { return ballot >> kBallotNodeBits; }

// The view that a proposal continues. All zero: there is none, the proposal is for the first view.
struct Slot {
  std::uint64_t cluster = 0;
  std::uint64_t index = 0;
  Epoch epoch;
  friend bool operator==(const Slot&, const Slot&) = default;
};

inline constexpr std::size_t kMaxLosses = 1024;
inline constexpr std::size_t kMaxOpenBases = 64;

struct ViewRecord {
  View view;
  std::uint64_t cluster = 0;                // incarnation of the node that proposed the first view
  std::uint64_t index = 0;                  // 1 for the first view, then one more for each
  std::vector<std::uint64_t> incarnations;  // of view.members, in the same order
  std::vector<std::uint64_t> departing_incarnations;  // of view.departing
  // Members of the views before this one whose directories may not have been handed on completely.
  std::vector<std::vector<NodeId>> open_bases;

  [[nodiscard]] Slot slot() const { return {cluster, index, view.epoch}; }
  [[nodiscard]] std::vector<Member> members() const { return zip(view.members, incarnations); }
  [[nodiscard]] std::vector<Member> departing() const {
    return zip(view.departing, departing_incarnations);
  }
  [[nodiscard]] bool has_member(Member member) const { return among(members(), member); }
  [[nodiscard]] bool has_departing(Member member) const { return among(departing(), member); }
  friend bool operator==(const ViewRecord&, const ViewRecord&) = default;

 private:
  static std::vector<Member> zip(const std::vector<NodeId>& nodes,
                                 const std::vector<std::uint64_t>& incarnations) {
    std::vector<Member> all;
    for (std::size_t i = 0; i < nodes.size(); ++i) all.push_back({nodes[i], incarnations[i]});
    return all;
  }
  static bool among(const std::vector<Member>& all, Member member) {
    return std::binary_search(all.begin(), all.end(), member);
  }
};

// May `group` decide for `all` (ascending)? Yes if it is more than half of them, exactly half with
// the lowest id, or every one of them that has not fallen (is dead, and was in touch until then).
// Two groups that may decide have a member in common, or one of them is dead to the last.
bool may_decide(const std::vector<Member>& all, const std::set<Member>& group,
                const std::set<Member>& fallen);

// Appends what the change from `base` to `next` (members and departing set) loses with `dead`
// nodes, given what base.open_bases says; sets next.open_bases and next.view.losses.
// `base_settled`: every member of base has rebuilt its directory. Losses no younger than
// `min_created`, the oldest container's epoch, are dropped.
void carry_losses(const ViewRecord& base, bool base_settled, const std::vector<NodeId>& dead,
                  Epoch min_created, ViewRecord& next);

// "5 {0, 1, 4}", for people.
std::string describe(const View& view);

}  // namespace gob
