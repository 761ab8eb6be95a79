// The cluster's clockwork: threads, ports, and the start at rest. Programs: sim_programs.cc.
#include "gobbench/simulate/sim_cluster.h"

#include <algorithm>
#include <ranges>
#include <utility>

namespace gob::bench {
namespace {

NodeId node_id(std::size_t i) { return NodeId{static_cast<std::uint16_t>(i)}; }

CoreConfig config_of(std::size_t node, unsigned nodes, const Timing& timing) {
  CoreConfig config;
  config.self = node_id(node);
  config.cluster_size = static_cast<std::uint16_t>(nodes);
  config.hold_grants = timing.hold_us > 0;
  return config;
}

}  // namespace

SimCluster::SimCluster(const Timing& timing, unsigned nodes,
                       const std::vector<ContainerInfo>& containers)
    : timing_(timing),
      servers_(nodes),
      programs_(nodes),
      port_out_free_(nodes),
      port_in_free_(nodes),
      hold_planned_(nodes) {
  view_.epoch = Epoch{1};
  for (std::size_t i = 0; i < nodes; ++i) {
    nodes_.emplace_back(config_of(i, nodes, timing_), timing_);
    view_.members.push_back(node_id(i));
    for (const ContainerInfo& info : containers) nodes_.back().add_container(info);
  }
  start();
}

// The first view, without time. Nobody waits in it, so the order in which nodes hear of each other
// is free: the last node first, since a core that has not heard the first one yet looks no further.
void SimCluster::start() {
  std::vector<Packet> packets;
  std::vector<Packet> sync_packets;
  const auto collect = [&](Round& round) {
    round.finish();
    for (Round::Departure& departure : round.departures())
      (departure.packet.sync.empty() ? packets : sync_packets)
          .push_back(std::move(departure.packet));
  };
  for (SimNode& node : nodes_) {
    Round round(timing_, node.core().config().self, 0);
    node.step(event::NewView{view_}, round);
    collect(round);
    Round control(timing_, node.core().config().self, 0);
    static_cast<void>(node.install_sync_view(view_, control));
    collect(control);
  }
  while (!packets.empty() || !sync_packets.empty()) {
    for (const bool sync : {false, true}) {
      const std::vector<Packet> sent = std::exchange(sync ? sync_packets : packets, {});
      for (const Packet& packet : std::views::reverse(sent)) {
        SimNode& node = nodes_[packet.to.value()];
        Round round(timing_, packet.to, 0);
        if (sync)
          static_cast<void>(node.on_control_packet(packet, round));
        else
          node.on_packet(packet, round);
        collect(round);
      }
    }
  }
  for (SimNode& node : nodes_) node.counters() = {};
}

void SimCluster::settle(NodeId node, PageSet pages, Access access) {
  std::deque<Packet> packets;
  const auto finish = [&](unsigned at, Round& round) {
    round.finish();
    for (Round::Departure& departure : round.departures())
      packets.push_back(std::move(departure.packet));
    // Nobody else wants the page meanwhile: no hold has to run out.
    Round later(timing_, node_id(at), ~SimTime{0} >> 1);
    nodes_[at].expire_holds(later);
    later.finish();
    for (Round::Departure& departure : later.departures())
      packets.push_back(std::move(departure.packet));
    static_cast<void>(nodes_[at].take_wake_up());
  };
  SimNode& toucher = nodes_[node.value()];
  toucher.memory().wait_for(pages);
  Round first(timing_, node, queue_.now());
  toucher.step(::gob::event::Touch{pages, access, 0}, first);
  finish(node.value(), first);
  while (!packets.empty()) {
    const Packet packet = std::move(packets.front());
    packets.pop_front();
    Round round(timing_, packet.to, queue_.now());
    nodes_[packet.to.value()].on_packet(packet, round);
    finish(packet.to.value(), round);
  }
  for_each_page(pages, [&](PageId page) {
    if (!toucher.memory().allows(page, access))
      fail(node.value(), "an access in the preparation was not granted");
  });
}

SimTime SimCluster::transfer_ns(std::size_t bytes) const {
  if (timing_.gigabits_a_second <= 0) return 0;
  return static_cast<SimTime>(static_cast<double>(bytes) * 8 / timing_.gigabits_a_second + 0.5);
}

void SimCluster::transmit(SimTime at, Packet packet) {
  SimTime& free = port_out_free_[packet.from.value()];
  const SimTime leaves = std::max(at, free);
  free = leaves + transfer_ns(packet.bytes);
  std::uint32_t place = 0;
  if (free_packets_.empty()) {
    place = static_cast<std::uint32_t>(packets_.size());
    packets_.emplace_back();
  } else {
    place = free_packets_.back();
    free_packets_.pop_back();
  }
  const std::uint16_t to = packet.to.value();
  packets_[place] = std::move(packet);
  queue_.plan(leaves + to_ns(timing_.link_us), {What::kPacketAtPort, kShard, to, place});
}

void SimCluster::handle(const Event& event) {
  switch (event.what) {
    case What::kPacketAtPort: {
      SimTime& free = port_in_free_[event.node];
      free = std::max(queue_.now(), free) + transfer_ns(packets_[event.packet].bytes);
      const Thread thread = packets_[event.packet].sync.empty() ? kShard : kControl;
      return queue_.plan(free, {What::kPacketHere, thread, event.node, event.packet});
    }
    case What::kPacketHere:
      return give(event.thread, event.node, {What::kPacketHere, event.packet}, false);
    case What::kFault:
    case What::kBarrierCall:
    case What::kNewView:
      return give(event.thread, event.node, {event.what}, true);
    case What::kHold:
      hold_planned_[event.node] = 0;
      return give(kShard, event.node, {What::kHold}, true);
    case What::kServe:
      return serve(event.thread, event.node);
    case What::kProgram:
      return run_program(event.node);
  }
}

bool SimCluster::computes(unsigned node) const {
  return timing_.cores < 2 && programs_[node].state == Running::State::kComputing;
}

// Something for a thread to do. `awake`: the time to wake up is part of what brought it.
void SimCluster::give(Thread thread, unsigned node, Item item, bool awake) {
  Server& server = servers_[node][thread];
  server.inbox.push_back(item);
  if (server.planned) return;
  server.planned = true;
  const SimTime now = queue_.now();
  const SimTime begins = server.busy_until > now ? server.busy_until
                         : awake                 ? now
                         : computes(node)        ? now + to_ns(timing_.wake_busy_us)
                                                 : now + to_ns(timing_.wake_us);
  queue_.plan(begins, {What::kServe, thread, static_cast<std::uint16_t>(node), 0});
}

void SimCluster::serve(Thread thread, unsigned node) {
  Server& server = servers_[node][thread];
  server.planned = false;
  const std::vector<Item> items = std::exchange(server.inbox, {});
  Round round(timing_, node_id(node), queue_.now(), &computes_);
  if (thread == kShard) nodes_[node].expire_holds(round);
  bool opened = false;
  for (const Item& item : items) {
    if (thread == kShard)
      serve_shard(node, item, round);
    else if (item.what == What::kBarrierCall)
      opened |= nodes_[node].on_barrier("barrier", size(), round);
    else
      opened |= nodes_[node].on_control_packet(packets_[item.packet], round);
    if (item.what == What::kPacketHere) {
      packets_[item.packet] = Packet{};
      free_packets_.push_back(item.packet);
    }
  }
  end_round(thread, node, round);
  if (opened)
    queue_.plan(round.now() + to_ns(timing_.call_us),
                {What::kProgram, kShard, static_cast<std::uint16_t>(node), 0});
}

void SimCluster::serve_shard(unsigned node, const Item& item, Round& round) {
  SimNode& here = nodes_[node];
  const SimTime served_before = here.serving_since();
  switch (item.what) {
    case What::kPacketHere:
      here.on_packet(packets_[item.packet], round);
      break;
    case What::kFault: {
      const MissSample& miss = *programs_[node].miss;
      here.on_fault(miss.page, miss.access, round);
      break;
    }
    case What::kNewView:
      here.step(::gob::event::NewView{next_view_}, round);
      break;
    case What::kHold:
    case What::kPacketAtPort:
    case What::kBarrierCall:
    case What::kServe:
    case What::kProgram:
      break;  // a hold was looked at already; the others are not for a shard
  }
  if (here.serving_since() != served_before) ++serving_;
  wake_program(node);
}

// If its page was granted.
void SimCluster::wake_program(unsigned node) {
  if (const std::optional<SimTime> granted = nodes_[node].take_wake_up())
    queue_.plan(*granted + to_ns(timing_.resume_us),
                {What::kProgram, kShard, static_cast<std::uint16_t>(node), 0});
}

void SimCluster::end_round(Thread thread, unsigned node, Round& round) {
  round.finish();
  for (Round::Departure& departure : round.departures())
    transmit(departure.at, std::move(departure.packet));
  servers_[node][thread].busy_until = round.now();
  SimNode& here = nodes_[node];
  wake_program(node);
  // One processor: what gobd takes, the program does not get.
  Running& running = programs_[node];
  if (computes(node)) running.compute_until += round.now() - round.begin();
  if (const SimTime deadline = here.hold_deadline(); deadline != 0 && hold_planned_[node] == 0) {
    hold_planned_[node] = deadline;
    queue_.plan(deadline, {What::kHold, kShard, static_cast<std::uint16_t>(node), 0});
  }
  if (!here.failure().empty()) fail(node, here.failure());
}

void SimCluster::fail(unsigned node, const std::string& why) {
  if (failure_.empty())
    failure_ =
        "simulation, node " + std::to_string(node) + " of " + std::to_string(size()) + ": " + why;
}

Status SimCluster::drain() {
  while (!queue_.empty() && failure_.empty()) handle(queue_.take());
  if (!failure_.empty()) return make_error(ErrorCode::kProtocol, failure_);
  return {};
}

Result<SimTime> SimCluster::change_view(const View& view) {
  next_view_ = view;
  serving_ = 0;
  const SimTime begin = queue_.now();
  for (NodeId member : view.members)
    queue_.plan(begin, {What::kNewView, kShard, member.value(), 0});
  if (Status drained = drain(); !drained) return drained.error();
  if (serving_ != view.members.size())
    return make_error(ErrorCode::kProtocol, "simulation: only " + std::to_string(serving_) +
                                                " nodes serve in the new view");
  view_ = view;
  SimTime last = begin;
  for (NodeId member : view.members) last = std::max(last, nodes_[member.value()].serving_since());
  return last - begin;
}

}  // namespace gob::bench
