// A daemon that speaks the control protocol with canned answers and shares no memory: what gobctl's
// tests start in place of gobd. FAKE_GOBD_<node> scripts one node: "mute" never gets ready, "fail"
// ends at once, "stubborn" ignores SIGTERM. One thread.
#include <poll.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>

#include <csignal>
#include <cstdlib>
#include <iostream>
#include <map>
#include <string>

#include "libgob/runtime/config.h"
#include "libgob/runtime/control_server.h"
#include "libgob/runtime/control_wire.h"

namespace {

using namespace gob;

class FakeNode : public ControlHandler {
 public:
  explicit FakeNode(DaemonConfig config) : config_(std::move(config)) {}

  void on_request(ClientId, const PeerCredentials& peer, const control::Request& request,
                  std::vector<UniqueFd>, Responder responder) override {
    control::Reply reply;
    switch (request.body_case()) {
      case control::Request::kHello:
        reply.mutable_hello()->set_protocol_version(kControlVersion);
        reply.mutable_hello()->set_cluster_name(config_.cluster);
        reply.mutable_hello()->set_node_name(config_.node);
        for (const NodeConfig& node : config_.nodes)
          reply.mutable_hello()->add_node_names(node.name);
        break;
      case control::Request::kCreateContainer:
        return create(peer, request.create_container(), std::move(responder));
      case control::Request::kRemoveContainer:
        if (containers_.erase(request.remove_container().name()) == 0)
          return responder.fail(absent(request.remove_container().name()));
        break;
      case control::Request::kListContainers:
        for (const auto& [name, container] : containers_)
          *reply.mutable_list_containers()->add_containers() = container;
        break;
      case control::Request::kStat:
        return stat(request.stat(), std::move(responder));
      case control::Request::kNodes:
        nodes(*reply.mutable_nodes());
        break;
      case control::Request::kFlush:
        if (!containers_.contains(request.flush().name()))
          return responder.fail(absent(request.flush().name()));
        reply.mutable_flush()->set_flushed_pages(12);
        reply.mutable_flush()->set_kept_pages(3);
        break;
      case control::Request::kLeave:
        return responder.fail(make_error(ErrorCode::kTimedOut, "the pages went nowhere", EBUSY));
      default:
        return responder.fail(make_error(ErrorCode::kUnsupported, "a fake has no such thing"));
    }
    responder.reply(std::move(reply));
  }
  void on_disconnect(ClientId) override {}

 private:
  static Error absent(const std::string& name) {
    return make_error(ErrorCode::kNotFound, "no container named \"" + name + "\"");
  }

  void create(const PeerCredentials& peer, const control::CreateContainer& wanted,
              Responder responder) {
    if (wanted.name() == "forbidden")
      return responder.fail(make_error(ErrorCode::kPermissionDenied, "not for you", EACCES));
    if (wanted.name() == "huge")
      return responder.fail(make_error(ErrorCode::kNoSpace, "no room", ENOSPC));
    if (containers_.contains(wanted.name()))
      return responder.fail(make_error(ErrorCode::kAlreadyExists, "the name is taken", EEXIST));
    control::Container& made = containers_[wanted.name()];
    made.set_id(++last_id_);
    made.set_name(wanted.name());
    made.set_size_bytes(wanted.size_bytes());
    made.set_mode(wanted.mode());
    made.set_uid(peer.uid);
    made.set_gid(peer.gid);
    control::Reply reply;
    *reply.mutable_container()->mutable_container() = made;
    responder.reply(std::move(reply));
  }

  void stat(const control::Stat& wanted, Responder responder) {
    ++asked_;
    control::Reply reply;
    control::NodeStat& node = *reply.mutable_stat()->mutable_node();
    node.set_name(config_.node);
    node.set_gobd_version("fake");
    node.set_epoch(7);
    node.set_shards(1);
    node.set_resident_frames(256);
    node.set_budget_frames(config_.budget_bytes / 4096);
    for (std::uint32_t id = 0; id < config_.nodes.size(); ++id) node.add_members(id);
    control::PeerStat& peer = *node.add_peers();
    peer.set_name("n2");
    peer.set_up(true);
    peer.set_transport("tcp");
    control::Path& path = *peer.add_paths();
    path.set_transport("verbs");
    path.set_device("rxe0");
    path.set_queue_pair(17);
    path.set_queue_pair_state("RTS");
    path.set_writes(4711);
    node.mutable_rdma()->set_device("rxe0 port 1");
    control::Rdma::Counter& retries = *node.mutable_rdma()->add_counters();
    retries.set_name("completer_retry_err");
    retries.set_value(3);
    node.mutable_rdma()->add_counters()->set_name("duplicate_request");  // 0
    for (const auto& [name, container] : containers_) {
      if (!wanted.name().empty() && wanted.name() != name) continue;
      fill(container, wanted, *reply.mutable_stat()->add_containers());
    }
    if (!wanted.name().empty() && reply.stat().containers().empty())
      return responder.fail(absent(wanted.name()));
    responder.reply(std::move(reply));
  }

  void fill(const control::Container& container, const control::Stat& wanted,
            control::ContainerStat& out) const {
    *out.mutable_container() = container;
    out.mutable_pages()->set_readable(11);
    out.mutable_pages()->set_writable(22);
    out.mutable_pages()->set_swapped(33);
    control::OwnerSpread& owner = *out.add_owners();
    owner.set_node_id(1);
    owner.set_pages(44);
    out.mutable_read_faults()->set_count(1000 * asked_);
    out.mutable_read_faults()->set_p50_ns(45'100);
    out.mutable_read_faults()->set_p99_ns(1'230'000);
    out.mutable_upgrades()->set_count(1);
    out.mutable_upgrades()->set_p50_ns(999);
    out.set_bytes_in(4096 * asked_);
    out.set_invalidations_in(55);
    out.set_invalidations_out(66);
    out.set_injections_out(77);
    for (std::uint32_t page = 0; page < 20 && page < wanted.top_pages(); ++page) {
      control::BouncingPage& bouncing = *out.add_bouncing();
      bouncing.set_page(100 + page);
      bouncing.set_count(1000 - page);
    }
  }

  void nodes(control::NodesReply& out) const {
    out.set_epoch(7);
    for (std::uint32_t id = 0; id < config_.nodes.size(); ++id) {
      control::NodesReply::Node& node = *out.add_nodes();
      node.set_id(id);
      node.set_name(config_.nodes[id].name);
      node.set_host(config_.nodes[id].host);
      node.set_port(config_.nodes[id].port);
      node.set_member(true);
      node.set_self(config_.nodes[id].name == config_.node);
      node.set_state("member");
    }
  }

  DaemonConfig config_;
  std::map<std::string, control::Container> containers_;
  std::uint32_t last_id_ = 0;
  std::uint64_t asked_ = 0;
};

int serve(const DaemonConfig& config, const std::string& script) {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGTERM);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  const UniqueFd signals(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  FakeNode node(config);
  auto server = ControlServer::listen({.path = config.control_socket}, node);
  if (!server) {
    std::cerr << server.error().message() << '\n';
    return 1;
  }
  ::sd_notify(1, script == "mute" ? "STATUS=waiting for godot" : "READY=1");
  while (true) {
    pollfd fds[2] = {{(*server)->fd(), POLLIN, 0}, {signals.get(), POLLIN, 0}};
    ::poll(fds, 2, -1);
    if (fds[1].revents != 0) {
      signalfd_siginfo info{};
      if (::read(signals.get(), &info, sizeof info) > 0 && script != "stubborn") return 0;
    }
    (*server)->poll();
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 || std::string(argv[1]) != "--config") {
    std::cerr << "use: fake_gobd --config FILE\n";
    return 2;
  }
  const auto config = load_config(argv[2]);
  if (!config) {
    std::cerr << config.error().message() << '\n';
    return 1;
  }
  if (Status good = check_config(*config); !good) {
    std::cerr << good.error().message() << '\n';
    return 1;
  }
  const char* script = std::getenv(("FAKE_GOBD_" + config->node).c_str());
  if (script != nullptr && std::string(script) == "fail") {
    std::cerr << "a fake failure\n";
    return 3;
  }
  return serve(*config, script == nullptr ? "" : script);
}
