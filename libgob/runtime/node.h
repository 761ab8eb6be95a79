// Node: one gobd. Its thread is the control thread: programs' and gobctl's requests, the control
// channel to the peers, membership, the table of containers, synchronisation. The miss path is not
// here but in the shards, which it feeds with views, containers and mappings.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "libgob/base/unique_fd.h"
#include "libgob/container/container_table.h"
#include "libgob/file/file_client.h"
#include "libgob/file/file_server.h"
#include "libgob/membership/membership.h"
#include "libgob/runtime/config.h"
#include "libgob/runtime/control_server.h"
#include "libgob/runtime/files.h"
#include "libgob/runtime/lent_buffer.h"
#include "libgob/runtime/mailbox.h"
#include "libgob/runtime/peer_link.h"
#include "libgob/runtime/pulse.h"
#include "libgob/runtime/segments.h"
#include "libgob/runtime/shard.h"
#include "libgob/sync/sync_service.h"
#include "libgob/transport/transport.h"

namespace gob {

namespace file {
class Mount;
}

// How a node ended, for the process's exit status.
enum class NodeEnd : std::uint8_t {
  kLeft,    // in good order
  kFenced,  // put out of the cluster: to be started again, empty
  kFailed,  // could not go on without risking wrong bytes
};

class Node final : private ControlHandler, private ChannelSink, private ShardListener {
 public:
  // Checks the kernel, listens, makes the shards. Nothing is served before run().
  static Result<std::unique_ptr<Node>> create(const DaemonConfig& config);
  ~Node() override;
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  // Called once, when the node first serves.
  void on_ready(std::function<void()> ready) { ready_ = std::move(ready); }
  // Serves until the node has left or cannot go on. `stop_fd` becoming readable means: leave (a
  // signalfd); a second time: at once.
  NodeEnd run(int stop_fd);

 private:
  struct LocalContainer {
    std::shared_ptr<const FramePool> pool;
    bool has_device = false;  // a file's, or a segment's or processes' with a home
    bool bound = false;       // of processes: they are known
  };
  // A program's right to a container, from OpenContainer.
  struct Opened {
    bool read = false;
    bool write = false;
  };
  struct Client {
    std::map<ContainerId, Opened> open;
    std::set<MappingId> mappings;
    std::set<std::string> stays;  // locks that it holds, with which this node stays
    std::shared_ptr<LentBuffer> buffer;
    std::uint64_t moving = 0;  // pages on their way into the buffer or out of it
    // What it has said of a container of processes so far.
    std::pair<std::string, std::vector<UniqueFd>> processes;
  };
  struct LocalMapping {
    ClientId client;
    Mapping::Config config;
    bool ready = false;
    std::optional<Responder> waiting;  // MappingReady, until every shard knows the mapping
    unsigned shards_missing = 0;
    Status status;
  };
  struct StatRequest;

  Node(const DaemonConfig& config, UniqueFd epoll, Mailbox mailbox);
  Status open();
  Status open_swap(unsigned shard, std::unique_ptr<IoLinker>& linker) const;
  Status watch(int fd, std::uint64_t tag);

  // node.cc: the loop
  void round();
  [[nodiscard]] int wait_ms() const;
  void tick();
  void stop_asked();
  void finish(NodeEnd end, const std::string& why);
  [[nodiscard]] std::string name_of(NodeId node) const;
  [[nodiscard]] std::uint64_t now_ms() const;

  // node_links.cc: peers
  void on_up(NodeId peer, std::uint64_t incarnation) override;
  void on_message(NodeId from, std::span<const std::byte> header,
                  std::span<const std::byte> payload) override;
  void on_down(NodeId peer, DownReason reason, const std::string& detail) override;
  void on_peer_up(unsigned shard, NodeId peer, std::uint64_t incarnation) override;
  void on_peer_down(unsigned shard, NodeId peer, DownReason reason,
                    const std::string& detail) override;
  void on_serving(unsigned shard, Epoch epoch) override;
  void on_left(unsigned shard, bool stranded) override;
  void on_fatal(unsigned shard, const Error& error) override;
  void link_up(unsigned channel, NodeId peer, std::uint64_t incarnation);
  void link_down(unsigned channel, NodeId peer, DownReason reason, const std::string& detail);
  void look_for_deaths();
  void feel_pulse();
  void send_to_peer(NodeId to, const std::string& bytes);

  // node_views.cc: what the pure machines want
  void step_membership(const membership::Event& event);
  void perform(const membership::Action& action);
  void install_view(const ViewRecord& record, const std::string& blob);
  void perform(const container::Actions& actions);
  void perform(const container::Action& action);
  void add_local(const ContainerRecord& record);
  void perform_sync(const SyncService::Out& out);
  void shard_serves(unsigned shard, Epoch epoch);
  void ask_to_leave(const std::string& why);
  [[nodiscard]] bool has_to_stay() const;
  void begin_leaving(const std::string& why);
  void hand_over(const std::string& why);
  void keep_leaving();
  void shard_left(unsigned shard, bool stranded);
  void each_shard(const std::function<void(Shard&)>& work);

  // node_requests.cc: programs
  void on_request(ClientId client, const PeerCredentials& peer, const control::Request& request,
                  std::vector<UniqueFd> fds, Responder responder) override;
  void on_disconnect(ClientId client) override;
  void hello(Responder responder);
  void create_container(ClientId client, const PeerCredentials& peer,
                        const control::CreateContainer& request, Responder responder);
  void open_file(ClientId client, const control::OpenFile& request, Responder responder);
  void open_container(ClientId client, const PeerCredentials& peer,
                      const control::OpenContainer& request, Responder responder);
  void remove_container(ClientId client, const PeerCredentials& peer,
                        const control::RemoveContainer& request, Responder responder);
  void await_table(std::uint64_t request, ClientId client, Opened rights, Responder responder,
                   const container::Actions& actions);
  void answer_table(const container::Reply& answer);
  void list_containers(Responder responder);
  void map_container(ClientId client, const control::MapContainer& request, Responder responder);
  void mapping_ready(ClientId client, const control::MappingReady& request,
                     std::vector<UniqueFd> fds, Responder responder);
  void mapping_added(MappingId id, const Status& status);
  void unmap_container(ClientId client, const control::UnmapContainer& request,
                       Responder responder);
  // `lost`: whoever made it did not end it.
  void end_mapping(MappingId id, bool lost = false);
  void flush(const PeerCredentials& peer, const control::Flush& request, Responder responder);
  void leave(const PeerCredentials& peer, Responder responder);
  [[nodiscard]] bool not_serving(Responder& responder) const;

  // node_pages.cc: bytes of pages without a mapping
  void lend_buffer(ClientId client, const control::LendBuffer& request, std::vector<UniqueFd> fds,
                   Responder responder);
  Result<std::span<std::byte>> find_pages(ClientId client, std::uint32_t container,
                                          std::uint64_t first, std::uint64_t pages,
                                          std::uint64_t at, bool copy);
  void take_pages(ClientId client, const control::TakePages& request, Responder responder);
  void put_pages(ClientId client, const control::PutPages& request, Responder responder);
  void copy_pages(ClientId client, const control::CopyPages& request, Responder responder);
  void serve_processes(const PeerCredentials& peer, ClientId client,
                       const control::ServeProcesses& request, std::vector<UniqueFd> fds,
                       Responder responder);
  FileData::Done answer_pages(ClientId client, std::uint64_t pages, Responder responder);

  // node_files.cc
  class Containers;
  Status open_files();
  void make_file_container(const std::string& name, const std::string& source,
                           const std::shared_ptr<UniqueFd>& file, std::uint64_t size_bytes,
                           const std::function<void(Result<ContainerId>)>& done);
  [[nodiscard]] bool is_of_earlier_life(const ContainerRecord& record) const;
  void recover_file(const ContainerRecord& record);
  void drop_file_container(const std::string& name);
  void stop_files();
  void close_files();
  bool send_file_message(NodeId to, peer::FileBody body);
  void give_lease_back(NodeId home, const peer::FileRevoke& revoke);
  void queue_for_peer(NodeId to, std::string bytes);
  void send_queued();
  void receive_file_message(NodeId from, peer::FileBody body);
  void add_tree(const ContainerRecord& record);
  void remove_tree(ContainerId id);
  void attach(const PeerCredentials& peer, ClientId client, const control::Attach& request,
              Responder responder);

  // node_detach.cc
  void detach(const PeerCredentials& peer, ClientId client, const control::Detach& request,
              Responder responder);
  void detach_tree(const ContainerRecord& record, const Credentials& who, bool lossy,
                   Responder responder);
  [[nodiscard]] bool may_have_unwritten(const ContainerRecord& tree) const;
  void write_tree_back(const ContainerRecord& tree, std::function<void(const Status&)> then);
  void remove_written_tree(const ContainerRecord& tree, const Credentials& who, bool lossy,
                           const std::shared_ptr<Responder>& responder);

  // node_segments.cc
  Status open_linker();
  void attach_segment(const control::Attach& request, Responder responder);
  void link_segment(const std::string& name, std::shared_ptr<Linkable> segment,
                    const std::shared_ptr<Responder>& responder);
  void make_segment_container(const std::string& name, std::shared_ptr<Linkable> segment,
                              std::shared_ptr<Responder> responder);
  void join_segment(const ContainerRecord& record, std::shared_ptr<Linkable> segment,
                    const std::shared_ptr<Responder>& responder);
  void segment_taken(const ContainerRecord& record, Result<UniqueFd> image,
                     const std::shared_ptr<Responder>& responder);
  void serve_segment(const ContainerRecord& record, bool joined,
                     const std::shared_ptr<Responder>& responder);
  void detach_segment(const std::string& name, bool lossy, Responder responder);
  void sync(const PeerCredentials& peer, const control::Sync& request, Responder responder);
  void cut_segments(std::function<void()> then);

  // node_sync.cc
  void synchronise(ClientId client, const control::Request& request, Responder responder);

  void answer_sync(const SyncService::Answer& answer);

  // node_stat.cc
  void stat(const control::Stat& request, Responder responder);
  void answer_stat(StatRequest& request);
  void nodes(Responder responder);

  const DaemonConfig config_;
  const NodeId self_;
  const std::uint64_t started_ms_;
  UniqueFd epoll_;
  Mailbox mailbox_;
  UniqueFd uffd_device_;  // /dev/userfaultfd, lent to programs that may not open it
  UniqueFd guardian_;     // ends with this process: LinkGuardian
  std::string linker_reason_;
  int stop_fd_ = -1;
  std::function<void()> ready_;

  std::unique_ptr<Transport> transport_;
  std::unique_ptr<Channel> channel_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::optional<Files> files_;          // bytes of pages without a mapping: the mount's, too
  std::shared_ptr<GobDevice> device_;   // null: no linkers in this kernel, or not to be used
  std::unique_ptr<Segments> segments_;  // null likewise
  std::vector<PeerLink> links_;         // by node id
  Pulse pulse_;                         // of the peers that are up

  std::optional<Membership> membership_;
  std::optional<ContainerTable> table_;
  SyncService sync_;
  std::map<ContainerId, LocalContainer> containers_;
  std::set<ContainerId> trees_;  // containers without pages
  std::map<unsigned, Epoch> shard_epochs_;
  Epoch serving_;
  std::string waiting_said_;

  std::unique_ptr<ControlServer> server_;
  std::map<ClientId, Client> clients_;
  std::map<MappingId, LocalMapping> mappings_;
  std::uint64_t next_mapping_ = 1;
  struct TableRequest {
    Responder responder;
    ClientId client;
    Opened opens;  // rights that a good answer gives the client
  };
  std::map<std::uint64_t, TableRequest> table_requests_;
  struct SyncRequest {
    Responder responder;
    control::Request::BodyCase body;
    std::string what;
    ClientId client;
    std::string stay;  // the lock, if this node stays while it is held
  };
  std::map<std::uint64_t, SyncRequest> sync_requests_;

  std::string leave_wanted_;  // why; not empty: it leaves when it need not stay any more
  bool leaving_ = false;
  bool files_written_ = false;  // then pages are handed over
  bool handed_over_ = false;
  std::uint64_t leave_deadline_ms_ = 0;
  std::uint64_t next_leave_try_ms_ = 0;
  std::set<unsigned> left_shards_;
  std::vector<Responder> leave_requests_;

  // Files: this node as a home, this node's requests, and where programs see them (null: nowhere).
  std::unique_ptr<file::FileStore> file_store_;
  std::map<std::uint64_t, std::function<void(const Result<ContainerRecord>&)>>
      own_containers_;  // of files and segments, being made or removed, by the table's request
  std::unique_ptr<file::FileServer> file_server_;
  std::unique_ptr<file::FileClient> file_client_;
  std::unique_ptr<file::Mount> mount_;
  // File messages that wait until the link has room: bytes of files must not crowd out membership,
  // nor fill a link so that it breaks.
  std::map<NodeId, std::deque<std::string>> file_messages_;

  std::optional<NodeEnd> end_;
};

}  // namespace gob
