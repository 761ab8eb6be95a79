#include "tests/membership/membership_sim.h"

#include <algorithm>

namespace gob::test {

using namespace membership;

namespace {
constexpr TimeMs kDetect = 800;  // a silent peer is noticed within this
NodeId node_at(std::size_t i) { return NodeId{static_cast<std::uint16_t>(i)}; }
}  // namespace

MembershipSim::MembershipSim(const SimOptions& options)
    : options_(options),
      rng_(options.seed),
      processes_(options.nodes),
      endings_(options.nodes),
      refused_(options.nodes, true) {}

void MembershipSim::after(TimeMs delay, std::function<void()> what) {
  queue_.push({now_ + delay, ++order_, std::move(what)});
}

TimeMs MembershipSim::random(TimeMs low, TimeMs high) { return low + rng_() % (high - low + 1); }

const Membership* MembershipSim::machine(NodeId node) const {
  return alive(node) ? &processes_[node.value()]->machine : nullptr;
}

void MembershipSim::fail(const std::string& text) {
  if (problem_.empty()) problem_ = text + "\n" + history_;
}

void MembershipSim::start(NodeId node) {
  if (alive(node)) return;
  MembershipConfig config;
  config.self = node;
  config.incarnation = rng_() | 1;
  config.nodes = options_.nodes;
  config.form_timeout_ms = 2000;
  config.fence_timeout_ms = 5000;
  config.stall_timeout_ms = 10'000;
  config.retry_ms = 50;
  MembershipHooks hooks;
  hooks.snapshot = [node] { return std::to_string(node.value()) + ";"; };
  hooks.merge = [](const std::vector<std::string>& blobs) {
    std::string all;
    for (const auto& blob : blobs) all += blob;
    return all;
  };
  processes_[node.value()] = std::make_unique<Process>(config, hooks);
  endings_[node.value()].clear();
  refused_[node.value()] = false;
  living_.insert({node, config.incarnation});
  history_ += "\n" + std::to_string(now_) + " start " + std::to_string(node.value());
  feed(node, Tick{});
  for (std::size_t i = 0; i < options_.nodes; ++i)
    if (node_at(i) != node) after(random(1, 100), [=, this] { try_connect(node, node_at(i)); });
}

void MembershipSim::try_connect(NodeId a, NodeId b) {
  if (!alive(a)) return;
  const auto retry = [=, this] { try_connect(a, b); };
  if (cut_.contains(pair(a, b))) {
    after(random(50, 200), retry);
    return;
  }
  const auto found = current_.find(pair(a, b));
  if (!alive(b)) {
    const Link* link = found == current_.end() ? nullptr : links_[found->second].get();
    const unsigned end = link != nullptr && link->ends[1] == a;
    if (refused_[b.value()] && link != nullptr && !link->open[end]) feed(a, ProofOfDeath{b});
    after(random(50, 200), retry);
    return;
  }
  if (found != current_.end()) {
    const Link& old = *links_[found->second];
    if (old.open[0] || old.open[1]) {  // wait until both ends have let go
      if (!old.alive) after(random(20, 60), retry);
      return;
    }
  }
  auto link = std::make_unique<Link>();
  link->ends[0] = a;
  link->ends[1] = b;
  link->alive = true;
  const std::size_t index = links_.size();
  for (unsigned end = 0; end < 2; ++end) {
    const NodeId me = link->ends[end];
    const NodeId peer = link->ends[1 - end];
    link->open[end] = true;
    link->incarnations[end] = processes_[me.value()]->incarnation;
    const std::uint64_t incarnation = processes_[peer.value()]->incarnation;
    link->last_arrival[end] = now_ + random(1, 30);
    const std::uint64_t mine = link->incarnations[end];
    queue_.push({link->last_arrival[end], ++order_, [=, this] {
                   if (alive(me) && processes_[me.value()]->incarnation == mine &&
                       links_[index]->open[end])
                     feed(me, PeerUp{peer, incarnation});
                 }});
  }
  links_.push_back(std::move(link));
  current_[pair(a, b)] = index;
}

// The end learns after `delay` that the link is gone; what is under way to it may still arrive.
void MembershipSim::close_link(std::size_t index, unsigned end, LinkEnd how, TimeMs delay) {
  Link& link = *links_[index];
  link.last_arrival[end] = std::max(link.last_arrival[end], now_ + delay);
  queue_.push({link.last_arrival[end], ++order_, [=, this] {
                 Link& l = *links_[index];
                 if (!l.open[end]) return;
                 l.open[end] = false;
                 const NodeId me = l.ends[end];
                 const NodeId peer = l.ends[1 - end];
                 if (!alive(me) || processes_[me.value()]->incarnation != l.incarnations[end])
                   return;
                 feed(me, PeerDown{peer, how});
                 after(random(10, 100), [=, this] { try_connect(me, peer); });
               }});
}

void MembershipSim::end_process(NodeId node, const std::string& how, bool host_answers) {
  if (!alive(node)) return;
  living_.erase({node, processes_[node.value()]->incarnation});
  processes_[node.value()].reset();
  endings_[node.value()] = how;
  refused_[node.value()] = host_answers;
  history_ += "\n" + std::to_string(now_) + " end " + std::to_string(node.value()) + " " + how;
  for (std::size_t i = 0; i < links_.size(); ++i) {
    Link& link = *links_[i];
    if (!link.open[0] && !link.open[1]) continue;
    if (link.ends[0] != node && link.ends[1] != node) continue;
    const unsigned other = link.ends[0] == node ? 1 : 0;
    link.open[1 - other] = false;
    if (link.alive) {
      link.alive = false;
      if (host_answers)
        close_link(i, other, random(0, 1) == 0 ? LinkEnd::kProcessDead : LinkEnd::kClosed,
                   random(1, 20));
      else
        close_link(i, other, LinkEnd::kSilence, random(1, kDetect));
    }
  }
}

void MembershipSim::crash(NodeId node, bool host_answers) {
  end_process(node, "crashed", host_answers);
}

void MembershipSim::cut(NodeId a, NodeId b) {
  history_ += "\n" + std::to_string(now_) + " cut " + std::to_string(a.value()) + "-" +
              std::to_string(b.value());
  cut_.insert(pair(a, b));
  const auto found = current_.find(pair(a, b));
  if (found == current_.end() || !links_[found->second]->alive) return;
  links_[found->second]->alive = false;
  for (unsigned end = 0; end < 2; ++end)
    close_link(found->second, end, LinkEnd::kSilence, random(1, kDetect));
}

void MembershipSim::heal(NodeId a, NodeId b) { cut_.erase(pair(a, b)); }

void MembershipSim::leave(NodeId node) {
  if (!alive(node)) return;
  history_ += "\n" + std::to_string(now_) + " leave " + std::to_string(node.value());
  processes_[node.value()]->leave_asked = true;
  feed(node, Leave{});
}

void MembershipSim::send(NodeId from, NodeId to, const MembershipMessage& message) {
  const auto found = current_.find(pair(from, to));
  if (found == current_.end()) return;
  const std::size_t index = found->second;
  Link& link = *links_[index];
  if (!link.alive) return;
  const unsigned end = link.ends[0] == to ? 0 : 1;
  link.last_arrival[end] = std::max(link.last_arrival[end], now_ + random(1, 40));
  queue_.push({link.last_arrival[end], ++order_, [=, this] {
                 const Link& l = *links_[index];
                 if (!l.open[end] || !alive(to) ||
                     processes_[to.value()]->incarnation != l.incarnations[end])
                   return;
                 feed(to, Deliver{from, message});
               }});
}

void MembershipSim::feed(NodeId node, const membership::Event& event) {
  Process* process = processes_[node.value()].get();
  if (process == nullptr) return;
  const std::uint64_t incarnation = process->incarnation;
  if (const auto stall = stalled_until_.find(node);
      stall != stalled_until_.end() && now_ < stall->second) {
    queue_.push({stall->second, ++order_, [=, this] {
                   if (alive(node) && processes_[node.value()]->incarnation == incarnation)
                     feed(node, event);
                 }});
    return;
  }
  membership::Actions actions;
  process->machine.step(event, now_, actions);
  for (const auto& action : actions) {
    if (!alive(node) || processes_[node.value()]->incarnation != incarnation) return;
    perform(node, action);
  }
  if (!alive(node)) return;
  const auto wakeup = process->machine.next_wakeup();
  if (!wakeup || (process->wakeup && *process->wakeup <= *wakeup && *process->wakeup > now_))
    return;
  process->wakeup = std::max(*wakeup, now_ + 1);
  queue_.push({*process->wakeup, ++order_, [=, this] {
                 if (alive(node) && processes_[node.value()]->incarnation == incarnation)
                   feed(node, Tick{});
               }});
}

void MembershipSim::perform(NodeId node, const membership::Action& action) {
  if (const auto* s = std::get_if<Send>(&action)) {
    send(node, s->to, s->message);
  } else if (const auto* install = std::get_if<InstallView>(&action)) {
    check_install(node, install->record, install->blob);
    const std::uint64_t incarnation = processes_[node.value()]->incarnation;
    const Epoch epoch = install->record.view.epoch;
    after(random(1, 100), [=, this] {
      if (alive(node) && processes_[node.value()]->incarnation == incarnation)
        feed(node, Serving{epoch});
    });
  } else if (const auto* f = std::get_if<Fence>(&action)) {
    end_process(node, "fenced: " + f->reason, true);
  } else {
    if (!processes_[node.value()]->leave_asked) fail("left without being asked");
    end_process(node, "left", true);
  }
}

void MembershipSim::check_install(NodeId node, const ViewRecord& record, const std::string& blob) {
  const Member me{node, processes_[node.value()]->incarnation};
  std::string text = std::to_string(now_) + " install " + std::to_string(node.value()) + ": " +
                     describe(record.view);
  for (NodeId d : record.view.departing) text += " -" + std::to_string(d.value());
  history_ += "\n" + text;
  // Same epoch, same view.
  const auto key = std::pair{record.cluster, record.view.epoch};
  const auto [it, fresh] = by_epoch_.try_emplace(key, record, blob);
  if (!fresh && !(it->second.first == record && it->second.second == blob))
    fail("two views of one epoch: " + text);
  // One successor for each view, as far as anybody lives to tell.
  auto& branches = by_index_[{record.cluster, record.index}];
  branches[record.view.epoch].insert(me);
  for (const auto& [epoch, members] : branches) {
    const auto lives = [&](const Member& m) { return living_.contains(m); };
    if (epoch != record.view.epoch && std::ranges::any_of(members, lives))
      fail("two successors of one view: " + text);
  }
  const auto previous = last_.find(me);
  if (previous != last_.end()) {
    const ViewRecord& base = previous->second;
    if (record.index != base.index + 1 || record.view.epoch <= base.view.epoch)
      fail("a view was skipped: " + text);
    std::set<Member> group;
    for (const Member& m : record.members())
      if (base.has_member(m)) group.insert(m);
    for (const Member& m : record.departing())
      if (base.has_member(m)) group.insert(m);
    std::set<Member> dead;
    for (const Member& m : base.members())
      if (!living_.contains(m)) dead.insert(m);
    if (!may_decide(base.members(), group, dead)) fail("no quorum of the view before: " + text);
    // Everybody who is gone is accounted for.
    for (const Member& m : base.members()) {
      if (record.has_member(m) || record.has_departing(m)) continue;
      const auto names = [&](const Loss& loss) {
        return loss.epoch == record.view.epoch && std::ranges::count(loss.dead, m.node) != 0;
      };
      if (std::ranges::none_of(record.view.losses, names)) fail("a loss is not recorded: " + text);
    }
  }
  last_[me] = record;
}

bool MembershipSim::one_view(const std::vector<NodeId>& nodes) const {
  for (NodeId node : nodes) {
    const Membership* m = machine(node);
    if (m == nullptr || m->record() == nullptr) return false;
    if (m->record()->view.members != nodes) return false;
    if (!(*m->record() == *machine(nodes.front())->record())) return false;
  }
  return true;
}

void MembershipSim::run_for(TimeMs duration) {
  const TimeMs end = now_ + duration;
  while (!queue_.empty() && queue_.top().at <= end && problem_.empty()) {
    const Happening next = queue_.top();
    queue_.pop();
    now_ = next.at;
    next.what();
  }
  now_ = end;
}

void MembershipSim::random_fault() {
  const NodeId a = node_at(random(0, options_.nodes - 1));
  const NodeId b = node_at(random(0, options_.nodes - 1));
  switch (random(0, 5)) {
    case 0:
      if (options_.crashes) crash(a, random(0, 1) == 0);
      return;
    case 1:
    case 2:
      start(a);
      return;
    case 3:
      if (options_.cuts && a != b) cut(a, b);
      return;
    case 4:
      if (a != b) heal(a, b);
      return;
    default:
      if (options_.departures && random(0, 1) == 0) leave(a);
      return;
  }
}

std::string MembershipSim::run() {
  for (std::size_t i = 0; i < options_.nodes; ++i) {
    const NodeId node = node_at(i);
    after(random(1, 500), [=, this] { start(node); });
  }
  if (random(0, 2) != 0) run_for(random(500, 4000));
  for (unsigned i = 0; i < options_.faults && problem_.empty(); ++i) {
    random_fault();
    run_for(random(0, 3) == 0 ? random(500, 8000) : random(0, 150));
  }
  cut_.clear();
  for (int i = 0; i < 60 && problem_.empty(); ++i) {
    for (std::size_t n = 0; n < options_.nodes; ++n) {
      refused_[n] = true;
      start(node_at(n));
    }
    run_for(2000);
  }
  std::vector<NodeId> all;
  for (std::size_t n = 0; n < options_.nodes; ++n) all.push_back(node_at(n));
  if (problem_.empty() && !one_view(all)) {
    std::string states;
    for (NodeId node : all) {
      states += "\nnode " + std::to_string(node.value()) + ": ";
      const Membership* m = machine(node);
      if (m == nullptr)
        states += "gone, " + ending(node);
      else if (m->record() != nullptr)
        states += "view " + describe(m->record()->view) + " " + m->waiting_for();
      else
        states += m->waiting_for();
    }
    fail("the nodes do not end in one view:" + states);
  }
  return problem_;
}

}  // namespace gob::test
