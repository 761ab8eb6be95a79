// The control thread: construction, loop, end.
#include "libgob/runtime/node.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>

#include "libgob/base/size.h"
#include "libgob/file/mount.h"
#include "libgob/linker/memory_io_linker.h"
#include "libgob/linker/uffd_client.h"
#include "libgob/runtime/clock.h"
#include "libgob/transport/tcp_transport.h"

namespace gob {

namespace {

enum Tag : std::uint64_t { kChannelTag, kServerTag, kMailboxTag, kStopTag };

constexpr std::size_t kMailboxCapacity = 65536;
constexpr std::uint64_t kFreeShare = 128;  // of the budget, kept free...
constexpr std::uint64_t kMostFree = 2048;  // ...or so many frames: what is read ahead at once, twice
constexpr int kTickMs = 50;  // while something has to be looked at again and again

}  // namespace

Node::Node(const DaemonConfig& config, UniqueFd epoll, Mailbox mailbox)
    : config_(config),
      self_(config.self()),
      started_ms_(monotonic_ns() / 1'000'000),
      epoll_(std::move(epoll)),
      mailbox_(std::move(mailbox)),
      links_(config.nodes.size()),
      pulse_(config.stall_timeout_ms),
      sync_(self_) {}

Node::~Node() {
  server_.reset();  // calls back into us
  // No more requests; then those under way end in the shards, while who asked is still there.
  stop_files();
  for (const auto& shard : shards_) shard->stop();
  for (const auto& shard : shards_) shard->end_files();
  close_files();
  segments_.reset();
  mailbox_.close();
}

Result<std::unique_ptr<Node>> Node::create(const DaemonConfig& config) {
  if (Status status = check_config(config); !status) return status.error();
  if (Status status = check_uffd_support(); !status) return status.error();
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return system_error("cannot create an epoll instance");
  Result<Mailbox> mailbox = Mailbox::create(kMailboxCapacity);
  if (!mailbox) return mailbox.error();
  std::unique_ptr<Node> node(new Node(config, std::move(epoll), std::move(*mailbox)));
  if (Status status = node->open(); !status) return status.error();
  return node;
}

Status Node::open() {
  uffd_device_.reset(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  // First: it forks, which threads do not survive.
  if (Status status = open_linker(); !status) return status;

  TcpConfig tcp;
  tcp.cluster = config_.cluster;
  tcp.self = self_;
  for (std::size_t i = 0; i < config_.nodes.size(); ++i)
    tcp.nodes.push_back(
        {NodeId{static_cast<std::uint16_t>(i)}, config_.nodes[i].host, config_.nodes[i].port});
  tcp.shards = config_.shards;
  tcp.peer_timeout = std::chrono::milliseconds(config_.peer_timeout_ms);
  tcp.stall_timeout =
      std::chrono::milliseconds(std::max(config_.peer_timeout_ms, config_.stall_timeout_ms));
  tcp.handshake_timeout = std::chrono::milliseconds(config_.peer_timeout_ms);
  tcp.verbs = config_.transport == "auto"    ? VerbsUse::kIfPossible
              : config_.transport == "verbs" ? VerbsUse::kRequired
                                             : VerbsUse::kNever;
  tcp.rdma_device = config_.rdma_device;
  tcp.verbs_poll = std::chrono::microseconds(config_.rdma_poll_us);
  Result<std::unique_ptr<Transport>> transport = open_tcp(std::move(tcp));
  if (!transport) return transport.error();
  transport_ = std::move(*transport);

  Result<std::unique_ptr<Channel>> control = transport_->channel(kControlChannel);
  if (!control) return control.error();
  channel_ = std::move(*control);

  std::vector<Shard*> siblings;
  std::vector<std::string> names;
  for (const NodeConfig& node : config_.nodes) names.push_back(node.name);
  const std::uint64_t budget = config_.budget_bytes / kPageSize;
  for (unsigned i = 0; i < config_.shards; ++i) {
    ShardConfig shard;
    shard.index = i;
    shard.shards = config_.shards;
    shard.core.self = self_;
    shard.core.cluster_size = static_cast<std::uint16_t>(config_.nodes.size());
    shard.core.budget_frames = budget / config_.shards;
    // Who reads a file in order takes many frames at once, and waits while room is made for them.
    shard.core.low_water_frames =
        std::clamp(shard.core.budget_frames / kFreeShare, shard.core.low_water_frames, kMostFree);
    shard.core.high_water_frames = 2 * shard.core.low_water_frames;
    shard.core.swap = !config_.swap_dir.empty();
    shard.core.hold_grants = config_.hold_us != 0;
    shard.page_timeout_ms = config_.page_timeout_ms;
    shard.hold_us = config_.hold_us;
    shard.poll_us = config_.poll_us;
    shard.read_ahead_pages = config_.read_ahead_pages;
    shard.write_back_ms = config_.write_back_ms;
    std::unique_ptr<IoLinker> swap;
    if (shard.core.swap) {
      MemoryIoLinker::Config memory;
      memory.directory = config_.swap_dir;
      memory.max_bytes = config_.swap_bytes / config_.shards;
      Result<std::unique_ptr<MemoryIoLinker>> made = MemoryIoLinker::create(memory);
      if (!made) return made.error();
      swap = std::move(*made);
    }
    Result<std::unique_ptr<Channel>> channel = transport_->channel(static_cast<std::uint8_t>(i));
    if (!channel) return channel.error();
    Result<std::unique_ptr<Shard>> made =
        Shard::create(shard, std::move(*channel), std::move(swap), *this);
    if (!made) return made.error();
    (*made)->set_node_names(names);
    if (!config_.trace_dir.empty()) {
      auto trace = PageTrace::create(config_.trace_dir, config_.node, self_, i);
      if (!trace) return trace.error();
      (*made)->trace_to(std::move(*trace));
    }
    siblings.push_back(made->get());
    shards_.push_back(std::move(*made));
  }
  for (const auto& shard : shards_) shard->connect_siblings(siblings);
  files_.emplace(self_, siblings, config_.read_ahead_pages);
  if (device_ != nullptr) {
    Result<std::unique_ptr<Segments>> segments = Segments::create(device_, siblings, mailbox_);
    if (!segments) return segments.error();
    segments_ = std::move(*segments);
  }

  table_.emplace(self_, transport_->incarnation());
  MembershipConfig membership;
  membership.self = self_;
  membership.incarnation = transport_->incarnation();
  membership.nodes = config_.nodes.size();
  membership.form_timeout_ms = config_.form_timeout_ms;
  membership.fence_timeout_ms = std::uint64_t{2} * config_.peer_timeout_ms;
  membership.stall_timeout_ms = config_.stall_timeout_ms;
  membership_.emplace(membership,
                      MembershipHooks{[this] { return table_->freeze(); }, &ContainerTable::merge});

  ControlServerOptions options;
  options.path = config_.control_socket;
  options.mode = config_.control_mode;
  Result<std::unique_ptr<ControlServer>> server = ControlServer::listen(options, *this);
  if (!server) return server.error();
  server_ = std::move(*server);

  if (Status status = open_files(); !status) return status;
  if (Status status = watch(channel_->fd(), kChannelTag); !status) return status;
  if (Status status = watch(server_->fd(), kServerTag); !status) return status;
  return watch(mailbox_.fd(), kMailboxTag);
}

Status Node::watch(int fd, std::uint64_t tag) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = tag;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return system_error("cannot watch a descriptor of the control thread");
  return {};
}

NodeEnd Node::run(int stop_fd) {
  stop_fd_ = stop_fd;
  if (const Status status = watch(stop_fd, kStopTag); !status) {
    finish(NodeEnd::kFailed, status.error().message());
    return *end_;
  }
  for (const auto& shard : shards_) {
    if (const Status status = shard->start(); !status) {
      finish(NodeEnd::kFailed, status.error().message());
      return *end_;
    }
  }
  spdlog::info("node {} of cluster {}: {} nodes, budget {}, {} shard{}, programs at {}",
               config_.node, config_.cluster, config_.nodes.size(),
               format_size(config_.budget_bytes), config_.shards, config_.shards == 1 ? "" : "s",
               config_.control_socket);
  step_membership(membership::Tick{});
  while (!end_) round();
  return *end_;
}

void Node::round() {
  std::array<epoll_event, 16> events{};
  const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), wait_ms());
  const Corked corked(*channel_);
  for (int i = 0; i < count; ++i) {
    switch (static_cast<Tag>(events[static_cast<std::size_t>(i)].data.u64)) {
      case kChannelTag:
        channel_->poll(*this);
        break;
      case kServerTag:
        server_->poll();
        break;
      case kMailboxTag:
        mailbox_.run();
        break;
      case kStopTag:
        stop_asked();
        break;
    }
  }
  send_queued();
  tick();
}

int Node::wait_ms() const {
  std::uint64_t wake_at = ~std::uint64_t{0};
  if (const auto due = membership_->next_wakeup()) wake_at = *due;
  if (const auto due = sync_.next_deadline_ms()) wake_at = std::min(wake_at, *due);
  if (const auto due = pulse_.next_wakeup()) wake_at = std::min(wake_at, *due);
  const std::uint64_t now = now_ms();
  // A peer of our view is away: is its process dead? Pages are being handed over: is there room
  // now?
  const ViewRecord* record = membership_->record();
  const bool someone_is_away =
      record != nullptr && std::ranges::any_of(record->view.members, [&](NodeId node) {
        return node != self_ && !links_[node.value()].is_up();
      });
  if (someone_is_away || leaving_ || !leave_wanted_.empty()) wake_at = std::min(wake_at, now + kTickMs);
  if (wake_at == ~std::uint64_t{0}) return -1;
  return wake_at <= now ? 0 : static_cast<int>(std::min<std::uint64_t>(wake_at - now, 60'000));
}

void Node::tick() {
  look_for_deaths();
  feel_pulse();
  if (const auto due = membership_->next_wakeup(); due && *due <= now_ms())
    step_membership(membership::Tick{});
  if (const auto due = sync_.next_deadline_ms(); due && *due <= now_ms()) {
    SyncService::Out out;
    sync_.tick(now_ms(), out);
    perform_sync(out);
  }
  if (leaving_)
    keep_leaving();
  else if (!leave_wanted_.empty() && (!has_to_stay() || now_ms() >= leave_deadline_ms_))
    begin_leaving(leave_wanted_);
  const std::string waiting = membership_->waiting_for();
  if (waiting == waiting_said_) return;
  waiting_said_ = waiting;
  if (!waiting.empty()) spdlog::info("membership: {}", waiting);
}

void Node::finish(NodeEnd end, const std::string& why) {
  if (end_) return;
  end_ = end;
  if (end == NodeEnd::kLeft)
    spdlog::info("{}", why);
  else
    spdlog::critical("{}", why);
  for (Responder& responder : leave_requests_) responder.done();
  leave_requests_.clear();
}

std::string Node::name_of(NodeId node) const {
  return node.value() < config_.nodes.size() ? config_.nodes[node.value()].name : "unknown";
}

std::uint64_t Node::now_ms() const { return monotonic_ns() / 1'000'000; }

}  // namespace gob
