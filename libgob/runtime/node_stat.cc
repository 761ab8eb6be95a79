// What `gobctl stat` and `gobctl nodes` show.
#include <algorithm>

#include "libgob/runtime/describe.h"
#include "libgob/runtime/node.h"

namespace gob {

namespace {

void fill(const Histogram& from, control::Latency& to) {
  to.set_count(from.count());
  to.set_p50_ns(from.percentile(0.5));
  to.set_p99_ns(from.percentile(0.99));
  to.set_max_ns(from.max());
}

void add(const ContainerSnapshot& from, ContainerSnapshot& to) {
  const ContainerCounters& a = from.counters;
  ContainerCounters& b = to.counters;
  b.read_faults.merge(a.read_faults);
  b.write_faults.merge(a.write_faults);
  b.upgrades.merge(a.upgrades);
  for (const auto member :
       {&ContainerCounters::bytes_in, &ContainerCounters::bytes_out,
        &ContainerCounters::messages_in, &ContainerCounters::messages_out,
        &ContainerCounters::invalidations_in, &ContainerCounters::invalidations_out,
        &ContainerCounters::injections_in, &ContainerCounters::injections_out,
        &ContainerCounters::swap_in, &ContainerCounters::swap_out, &ContainerCounters::refused})
    b.*member += a.*member;
  for (const auto member :
       {&ContainerSnapshot::readable, &ContainerSnapshot::writable, &ContainerSnapshot::swapped,
        &ContainerSnapshot::waiting, &ContainerSnapshot::lost})
    to.*member += from.*member;
  for (const auto& [node, pages] : from.owned) to.owned[node] += pages;
}

void fill(const PathInfo& from, const PeerCounters& counters, control::Path& to) {
  to.set_transport(from.transport);
  to.set_reason(from.reason);
  to.set_fall_backs(from.fall_backs);
  to.set_device(from.device);
  to.set_port(from.port);
  to.set_gid(from.gid);
  to.set_mtu_bytes(from.mtu_bytes);
  to.set_queue_pair(from.queue_pair);
  to.set_queue_pair_state(from.queue_pair_state);
  to.set_writes(from.chunks_out);
  to.set_acknowledgements(from.acknowledgements_out);
  to.set_no_room(from.no_room);
  to.set_completion_errors(from.completion_errors);
  to.set_bytes_in(counters.bytes_in);
  to.set_bytes_out(counters.bytes_out);
}

void fill(const RdmaInfo& from, control::Rdma& to) {
  to.set_device(from.device);
  to.set_reason(from.reason);
  for (const auto& [name, value] : from.counters) {
    control::Rdma::Counter& counter = *to.add_counters();
    counter.set_name(name);
    counter.set_value(value);
  }
}

}  // namespace

// One request's way round the shards.
struct Node::StatRequest {
  Responder responder;
  std::string name;
  std::uint32_t top_pages;
  unsigned missing;
  std::vector<ShardSnapshot> shards;
};

void Node::stat(const control::Stat& request, Responder responder) {
  if (!request.name().empty() && table_->find(request.name()) == nullptr)
    return responder.fail(make_error(ErrorCode::kNotFound,
                                     "there is no container " + quoted(request.name()), ENOENT));
  const auto asked = std::make_shared<StatRequest>(
      StatRequest{std::move(responder), request.name(), request.top_pages(), config_.shards, {}});
  each_shard([this, asked](Shard& shard) {
    auto snapshot = std::make_shared<ShardSnapshot>(shard.snapshot());
    static_cast<void>(mailbox_.post([this, asked, snapshot] {
      asked->shards.push_back(std::move(*snapshot));
      if (--asked->missing == 0) answer_stat(*asked);
    }));
  });
}

void Node::answer_stat(StatRequest& request) {
  std::ranges::sort(request.shards, {}, &ShardSnapshot::index);
  control::Reply reply;
  control::NodeStat& node = *reply.mutable_stat()->mutable_node();
  node.set_node_id(self_.value());
  node.set_name(config_.node);
  node.set_gobd_version(GOB_VERSION);
  node.set_uptime_ms(now_ms() - started_ms_);
  node.set_shards(config_.shards);
  if (const ViewRecord* record = membership_->record()) {
    node.set_epoch(record->view.epoch.value());
    for (NodeId member : record->view.members) node.add_members(member.value());
  }
  node.set_clients(static_cast<std::uint32_t>(clients_.size()));
  node.set_mappings(static_cast<std::uint32_t>(mappings_.size()));
  std::vector<PeerCounters> peers(config_.nodes.size());
  for (const ShardSnapshot& shard : request.shards) {
    node.set_resident_frames(node.resident_frames() + shard.resident_frames);
    node.set_budget_frames(node.budget_frames() + shard.budget_frames);
    node.set_swap_used_pages(node.swap_used_pages() + shard.swap_used_pages);
    node.set_directory_entries(node.directory_entries() + shard.directory_entries);
    node.set_directory_bytes(node.directory_bytes() + shard.directory_bytes);
    node.set_frame_table_bytes(node.frame_table_bytes() + shard.frame_table_bytes);
    for (std::size_t i = 0; i < peers.size() && i < shard.peers.size(); ++i) {
      peers[i].bytes_in += shard.peers[i].bytes_in;
      peers[i].bytes_out += shard.peers[i].bytes_out;
      peers[i].messages_in += shard.peers[i].messages_in;
      peers[i].messages_out += shard.peers[i].messages_out;
    }
  }
  if (!config_.swap_dir.empty()) node.set_swap_limit_pages(config_.swap_bytes / kPageSize);
  for (std::size_t i = 0; i < peers.size(); ++i) {
    const NodeId id{static_cast<std::uint16_t>(i)};
    if (id == self_) continue;
    const PeerCounters control = channel_->counters(id);
    control::PeerStat& peer = *node.add_peers();
    peer.set_node_id(id.value());
    peer.set_name(name_of(id));
    peer.set_up(links_[i].is_up());
    peer.set_bytes_in(peers[i].bytes_in + control.bytes_in);
    peer.set_bytes_out(peers[i].bytes_out + control.bytes_out);
    peer.set_messages_in(peers[i].messages_in + control.messages_in);
    peer.set_messages_out(peers[i].messages_out + control.messages_out);
    for (const ShardSnapshot& shard : request.shards) {
      if (shard.paths[i].transport.empty()) continue;
      fill(shard.paths[i], shard.peers[i], *peer.add_paths());
      // A peer is as well off as the shard that is worst off.
      if (peer.transport() == "tcp") continue;
      peer.set_transport(shard.paths[i].transport);
      peer.set_transport_reason(shard.paths[i].reason);
    }
    const auto has_said = [&](const ShardSnapshot& shard) {
      return shard.free_frames[i].has_value();
    };
    if (std::ranges::all_of(request.shards, has_said))
      for (const ShardSnapshot& shard : request.shards)
        peer.set_free_pages(peer.free_pages() + *shard.free_frames[i]);
    peer.set_state(to_string(transport_->status(id).state));
  }

  fill(transport_->rdma(), *node.mutable_rdma());
  node.set_linker(device_ != nullptr ? "kernel" : "userfaultfd");
  node.set_linker_reason(linker_reason_);

  for (const ContainerRecord& record : table_->list()) {
    const ContainerId id = record.info.id;
    if (!request.name.empty() && record.name != request.name) continue;
    ContainerSnapshot all;
    std::vector<BounceSketch::Entry> bounces;
    for (const ShardSnapshot& shard : request.shards) {
      const auto found = shard.containers.find(id);
      if (found == shard.containers.end()) continue;
      add(found->second, all);
      found->second.counters.bounces.merge_into(bounces);
    }
    control::ContainerStat& stat = *reply.mutable_stat()->add_containers();
    describe(record, *stat.mutable_container());
    stat.mutable_pages()->set_readable(all.readable);
    stat.mutable_pages()->set_writable(all.writable);
    stat.mutable_pages()->set_swapped(all.swapped);
    stat.mutable_pages()->set_waiting(all.waiting);
    stat.mutable_pages()->set_lost(all.lost);
    for (const auto& [owner, pages] : all.owned) {
      control::OwnerSpread& spread = *stat.add_owners();
      spread.set_node_id(owner.value());
      spread.set_pages(pages);
    }
    fill(all.counters.read_faults, *stat.mutable_read_faults());
    fill(all.counters.write_faults, *stat.mutable_write_faults());
    fill(all.counters.upgrades, *stat.mutable_upgrades());
    stat.set_bytes_in(all.counters.bytes_in);
    stat.set_bytes_out(all.counters.bytes_out);
    stat.set_messages_in(all.counters.messages_in);
    stat.set_messages_out(all.counters.messages_out);
    stat.set_invalidations_in(all.counters.invalidations_in);
    stat.set_invalidations_out(all.counters.invalidations_out);
    stat.set_injections_in(all.counters.injections_in);
    stat.set_injections_out(all.counters.injections_out);
    stat.set_swap_in(all.counters.swap_in);
    stat.set_swap_out(all.counters.swap_out);
    stat.set_refused(all.counters.refused);
    for (const auto& [mapping, local] : mappings_)
      if (local.config.container == id) stat.set_mappings(stat.mappings() + 1);
    if (const Linkable* linked = segments_ == nullptr ? nullptr : segments_->of(id)) {
      stat.set_segment_key(linked->key);
      stat.set_linked_file(linked->path);
    }
    if (request.name.empty()) continue;
    BounceSketch::keep_top(bounces, request.top_pages);
    for (const BounceSketch::Entry& entry : bounces) {
      control::BouncingPage& page = *stat.add_bouncing();
      page.set_page(entry.page.value());
      page.set_count(entry.count);
    }
  }
  request.responder.reply(std::move(reply));
}

void Node::nodes(Responder responder) {
  control::Reply reply;
  control::NodesReply& list = *reply.mutable_nodes();
  const ViewRecord* record = membership_->record();
  if (record != nullptr) list.set_epoch(record->view.epoch.value());
  for (std::size_t i = 0; i < config_.nodes.size(); ++i) {
    const NodeId id{static_cast<std::uint16_t>(i)};
    auto& node = *list.add_nodes();
    node.set_id(id.value());
    node.set_name(config_.nodes[i].name);
    node.set_host(config_.nodes[i].host);
    node.set_port(config_.nodes[i].port);
    node.set_self(id == self_);
    const bool member = record != nullptr && record->view.contains(id);
    node.set_member(member);
    node.set_state(member        ? leaving_ && id == self_ ? "leaving" : "member"
                   : id == self_ ? "waiting: " + membership_->waiting_for()
                                 : to_string(transport_->status(id).state));
  }
  responder.reply(std::move(reply));
}

}  // namespace gob
