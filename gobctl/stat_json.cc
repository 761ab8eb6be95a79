#include "gobctl/stat_json.h"

#include <array>
#include <cstdio>

namespace gob::ctl {
namespace {

Json to_json(const control::Latency& latency) {
  return {{"count", latency.count()},
          {"p50_ns", latency.p50_ns()},
          {"p99_ns", latency.p99_ns()},
          {"max_ns", latency.max_ns()}};
}

// Nodes are named as the cluster's configuration does; by number if it does not.
Json node_name(const control::HelloReply& hello, std::uint32_t id) {
  if (id < static_cast<std::uint32_t>(hello.node_names_size()))
    return hello.node_names(static_cast<int>(id));
  return std::to_string(id);
}

Json to_json(const control::ContainerStat& stat, const control::HelloReply& hello) {
  Json json = ctl::to_json(stat.container());
  json["pages"] = {{"readable", stat.pages().readable()},
                   {"writable", stat.pages().writable()},
                   {"swapped", stat.pages().swapped()},
                   {"waiting", stat.pages().waiting()},
                   {"lost", stat.pages().lost()}};
  json["owners"] = Json::array();
  for (const auto& owner : stat.owners())
    json["owners"].push_back(
        {{"node", node_name(hello, owner.node_id())}, {"pages", owner.pages()}});
  json["faults"] = {{"read", to_json(stat.read_faults())},
                    {"write", to_json(stat.write_faults())},
                    {"upgrade", to_json(stat.upgrades())}};
  json["bytes_in"] = stat.bytes_in();
  json["bytes_out"] = stat.bytes_out();
  json["messages_in"] = stat.messages_in();
  json["messages_out"] = stat.messages_out();
  json["invalidations_in"] = stat.invalidations_in();
  json["invalidations_out"] = stat.invalidations_out();
  json["injections_in"] = stat.injections_in();
  json["injections_out"] = stat.injections_out();
  json["swap_in_pages"] = stat.swap_in();
  json["swap_out_pages"] = stat.swap_out();
  json["refused"] = stat.refused();
  json["mappings"] = stat.mappings();
  json["segment_key"] = stat.segment_key() == 0 ? Json(nullptr) : Json(stat.segment_key());
  json["linked_file"] = stat.linked_file().empty() ? Json(nullptr) : Json(stat.linked_file());
  json["bouncing"] = Json::array();
  for (const auto& page : stat.bouncing())
    json["bouncing"].push_back({{"page", page.page()}, {"count", page.count()}});
  return json;
}

Json to_json(const control::Path& path) {
  Json json{{"transport", path.transport()},
            {"reason", path.reason()},
            {"fall_backs", path.fall_backs()},
            {"bytes_in", path.bytes_in()},
            {"bytes_out", path.bytes_out()}};
  if (path.transport() != "verbs") return json;
  json["device"] = path.device();
  json["port"] = path.port();
  json["gid"] = path.gid();
  json["mtu_bytes"] = path.mtu_bytes();
  json["queue_pair"] = path.queue_pair();
  json["queue_pair_state"] = path.queue_pair_state();
  json["writes"] = path.writes();
  json["acknowledgements"] = path.acknowledgements();
  json["no_room"] = path.no_room();
  json["completion_errors"] = path.completion_errors();
  return json;
}

Json to_json(const control::Rdma& rdma) {
  Json json{{"device", rdma.device()}, {"reason", rdma.reason()}, {"counters", Json::object()}};
  for (const auto& counter : rdma.counters()) json["counters"][counter.name()] = counter.value();
  return json;
}

Json to_json(const control::NodeStat& stat, const control::HelloReply& hello) {
  Json json{{"name", stat.name()},
            {"id", stat.node_id()},
            {"version", stat.gobd_version()},
            {"uptime_ms", stat.uptime_ms()},
            {"epoch", stat.epoch()},
            {"members", Json::array()},
            {"shards", stat.shards()},
            {"resident_frames", stat.resident_frames()},
            {"budget_frames", stat.budget_frames()},
            {"swap_used_pages", stat.swap_used_pages()},
            {"swap_limit_pages", stat.swap_limit_pages()},
            {"directory_entries", stat.directory_entries()},
            {"directory_bytes", stat.directory_bytes()},
            {"frame_table_bytes", stat.frame_table_bytes()},
            {"clients", stat.clients()},
            {"mappings", stat.mappings()},
            {"peers", Json::array()}};
  for (const std::uint32_t id : stat.members()) json["members"].push_back(node_name(hello, id));
  json["rdma"] = to_json(stat.rdma());
  json["linker"] = {{"name", stat.linker()}, {"reason", stat.linker_reason()}};
  for (const auto& peer : stat.peers()) {
    json["peers"].push_back({{"name", peer.name()},
                             {"id", peer.node_id()},
                             {"up", peer.up()},
                             {"state", peer.state()},
                             {"transport", peer.transport()},
                             {"transport_reason", peer.transport_reason()},
                             {"paths", Json::array()},
                             {"bytes_in", peer.bytes_in()},
                             {"bytes_out", peer.bytes_out()},
                             {"messages_in", peer.messages_in()},
                             {"messages_out", peer.messages_out()}});
    for (const auto& path : peer.paths()) json["peers"].back()["paths"].push_back(to_json(path));
  }
  return json;
}

}  // namespace

const char* kind_of(const control::Container& container) {
  constexpr const char* kKinds[] = {"memory", "file", "tree", "segment", "process"};
  return container.kind() < std::size(kKinds) ? kKinds[container.kind()] : "unknown";
}

Json to_json(const control::Container& container) {
  std::array<char, 16> mode{};
  std::snprintf(mode.data(), mode.size(), "%04o", container.mode());
  return {{"name", container.name()},
          {"kind", kind_of(container)},
          {"home_node", container.kind() == 0 ? Json(nullptr) : Json(container.home_node())},
          {"id", container.id()},
          {"size_bytes", container.size_bytes()},
          {"mode", mode.data()},
          {"uid", container.uid()},
          {"gid", container.gid()},
          {"created_unix_ms", container.created_unix_ms()}};
}

Json to_json(const control::StatReply& stat, const control::HelloReply& hello) {
  Json json{{"node", to_json(stat.node(), hello)}, {"containers", Json::array()}};
  for (const auto& container : stat.containers())
    json["containers"].push_back(to_json(container, hello));
  return json;
}

}  // namespace gob::ctl
