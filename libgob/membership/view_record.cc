#include "libgob/membership/view_record.h"

#include <algorithm>
#include <utility>

namespace gob {

bool may_decide(const std::vector<Member>& all, const std::set<Member>& group,
                const std::set<Member>& fallen) {
  std::size_t present = 0;
  bool all_living = true;
  for (const Member& member : all) {
    if (group.contains(member))
      ++present;
    else if (!fallen.contains(member))
      all_living = false;
  }
  if (present == 0) return false;
  if (all_living || 2 * present > all.size()) return true;
  return 2 * present == all.size() && group.contains(all.front());
}

void carry_losses(const ViewRecord& base, bool base_settled, const std::vector<NodeId>& dead,
                  Epoch min_created, ViewRecord& next) {
  const Epoch epoch = next.view.epoch;
  auto& losses = next.view.losses;
  losses.clear();
  for (const Loss& loss : base.view.losses)
    if (loss.epoch > min_created) losses.push_back(loss);

  // A directory that was still on its way when the change came is lost with those who held it
  // under the older lay-out too.
  next.open_bases.clear();
  if (!base_settled) next.open_bases = base.open_bases;
  next.open_bases.push_back(base.view.members);
  for (const auto& members : next.open_bases) {
    Loss loss{epoch, members, {}};
    std::ranges::set_intersection(members, dead, std::back_inserter(loss.dead));
    if (!loss.dead.empty()) losses.push_back(std::move(loss));
  }

  // Bounded: what is too old to keep apart becomes "whatever nobody reports is lost", which errs
  // on the side of an error instead of zeros.
  const auto collapse = [](NodeId blamed, Epoch at) { return Loss{at, {blamed}, {blamed}}; };
  if (next.open_bases.size() > kMaxOpenBases) {
    next.open_bases.erase(next.open_bases.begin(),
                          next.open_bases.end() - static_cast<std::ptrdiff_t>(kMaxOpenBases));
    losses.push_back(collapse(dead.empty() ? base.view.members.front() : dead.front(), epoch));
  }
  if (losses.size() > kMaxLosses) {
    const auto surplus = static_cast<std::ptrdiff_t>(losses.size() - kMaxLosses);
    const Loss newest = losses[static_cast<std::size_t>(surplus)];
    losses.erase(losses.begin(), losses.begin() + surplus);
    losses.front() = collapse(newest.dead.front(), newest.epoch);
  }
}

std::string describe(const View& view) {
  std::string text = std::to_string(view.epoch.value()) + " {";
  for (std::size_t i = 0; i < view.members.size(); ++i)
    text += (i == 0 ? "" : ", ") + std::to_string(view.members[i].value());
  return text + "}";
}

}  // namespace gob
