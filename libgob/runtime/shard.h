// Shard: one protocol core, the thread that owns it, and what the core's actions act on: the
// channel to the same shard of every peer, the map linker, the I/O linker. The miss path runs here
// from end to end: fault -> Touch -> Send ... Deliver -> Install -> program runs. Other threads
// post().
#pragma once

#include <array>
#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <thread>
#include <unordered_map>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/linker/file_io_linker.h"
#include "libgob/linker/io_linker.h"
#include "libgob/linker/link_table.h"
#include "libgob/linker/lost_memory.h"
#include "libgob/linker/map_linker.h"
#include "libgob/linker/stream_detector.h"
#include "libgob/protocol/core.h"
#include "libgob/runtime/counters.h"
#include "libgob/runtime/file_access.h"
#include "libgob/runtime/held_messages.h"
#include "libgob/runtime/kernel_drops.h"
#include "libgob/runtime/mailbox.h"
#include "libgob/runtime/page_trace.h"
#include "libgob/runtime/read_window.h"
#include "libgob/transport/channel.h"

namespace gob {

struct ShardConfig {
  unsigned index = 0;
  unsigned shards = 1;
  CoreConfig core;
  std::uint32_t page_timeout_ms = 15000;
  std::uint32_t hold_us = 100;
  std::uint32_t poll_us = 0;
  std::uint32_t read_ahead_pages = StreamDetector::kMaxWindow;
  std::uint32_t write_back_ms = 5000;  // what programs wrote goes to its file so often; 0: never
};

// What a shard tells the rest of the daemon. Called on the shard's thread; implementations post.
class ShardListener {
 public:
  virtual ~ShardListener() = default;
  virtual void on_peer_up(unsigned shard, NodeId peer, std::uint64_t incarnation) = 0;
  virtual void on_peer_down(unsigned shard, NodeId peer, DownReason reason,
                            const std::string& detail) = 0;
  virtual void on_serving(unsigned shard, Epoch epoch) = 0;
  // Every page is handed over, or (`stranded`) nobody is left to take the rest.
  virtual void on_left(unsigned shard, bool stranded) = 0;
  // The shard cannot go on without risking wrong bytes: the daemon must end.
  virtual void on_fatal(unsigned shard, const Error& error) = 0;
};

// One container as one shard sees it.
struct ContainerSnapshot {
  ContainerCounters counters;
  std::uint64_t readable = 0;  // pages on this node
  std::uint64_t writable = 0;
  std::uint64_t swapped = 0;
  std::uint64_t waiting = 0;
  std::uint64_t lost = 0;                 // of the pages managed here
  std::map<NodeId, std::uint64_t> owned;  // of the pages managed here, by owner
};

struct ShardSnapshot {
  unsigned index = 0;  // of the shard
  std::map<ContainerId, ContainerSnapshot> containers;
  std::uint64_t resident_frames = 0;
  std::uint64_t budget_frames = 0;
  std::uint64_t swap_used_pages = 0;
  std::uint64_t directory_entries = 0;
  std::uint64_t directory_bytes = 0;
  std::uint64_t frame_table_bytes = 0;
  std::vector<PeerCounters> peers;                        // by node id
  std::vector<PathInfo> paths;                            // by node id
  std::vector<std::optional<std::uint64_t>> free_frames;  // by node id, as each said last
};

class Shard final : private ChannelSink {
 public:
  // `listener` and the shards in `siblings` (set by connect_siblings) outlive the shard's thread.
  static Result<std::unique_ptr<Shard>> create(const ShardConfig& config,
                                               std::unique_ptr<Channel> channel,
                                               std::unique_ptr<IoLinker> io_linker,
                                               ShardListener& listener);
  ~Shard() override;
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  // Before start(): where pages of other shards' stripes go.
  void connect_siblings(std::vector<Shard*> siblings) { siblings_ = std::move(siblings); }
  Status start();
  // Before start(): this shard reads the kernel's requests for linked segments, for all shards.
  Status serve_links(std::shared_ptr<GobDevice> device, std::shared_ptr<const LinkTable> links);
  // Before start(): records what happens to pages.
  void trace_to(std::unique_ptr<PageTrace> trace) { trace_ = std::move(trace); }
  // Ends the thread and waits for it. Programs that wait stay waiting.
  void stop();
  // After all shards have stopped: reads, writes and jobs of files end with an error.
  void end_files();

  // Runs `work` on the shard's thread. False when the shard is overloaded or stopped.
  [[nodiscard]] bool post(std::function<void(Shard&)> work);
  // Also when it is overloaded: what ends something that it has accepted. False when it is stopped.
  bool post_reply(std::function<void(Shard&)> work);
  // Handles the pages of `stripe` of every container.
  [[nodiscard]] static unsigned index_of(std::uint64_t stripe, unsigned shards) {
    return static_cast<unsigned>(stripe % shards);
  }

  // --- on the shard's thread only, through post() ---
  void feed(const Event& event);
  // `awaits_file`: its file will be bound, or the container removed; reads of it wait until then.
  void add_container(const ContainerInfo& info, std::shared_ptr<const FramePool> pool,
                     bool awaits_file = false);
  void remove_container(ContainerId id);
  // Every shard knows every mapping; the one that `polls` it reads its faults.
  Status add_mapping(const std::shared_ptr<Mapping>& mapping, bool polls);
  // `lost`: the program may still have the memory, for whoever made the mapping is gone.
  void remove_mapping(MappingId id, bool lost = false);
  // Of a mapping that this shard polls or polled: they are sent when there is room.
  [[nodiscard]] bool has_unsent_news(MappingId id) const;
  // What is to be done with requests of a link has changed.
  void retry_requests();
  // MapLinker::begin_cut, cut_some.
  void begin_cut(ContainerId id) { linker_.begin_cut(id); }
  Result<bool> cut_some(ContainerId id, std::size_t pages) { return linker_.cut_some(id, pages); }
  void drop_peer(NodeId peer, const std::string& why);
  // One part of a read or write without a mapping: pages of one stripe of this shard. `ahead`: of
  // the same stripe, nobody waits for them.
  void start_access(const std::shared_ptr<FileAccess>& access, PageSet pages, std::uint64_t ahead);
  [[nodiscard]] Status has_frames(ContainerId id) const;
  void ask_file_ahead(PageSet pages, Access access);
  // At the home of a file container.
  Status bind_file(ContainerId id, const std::shared_ptr<const Backing>& file);
  void start_job(const std::shared_ptr<FileJob>& job);
  // The kernel has none of these pages and may be told so: it asks for them.
  void kernel_has_none(PageSet pages);
  // An access of which this shard has a part was answered; settle_files() follows.
  void on_answered(PageSet pages, const std::shared_ptr<FileAccess>& access);
  // Looks at the accesses and jobs for which something has changed.
  void settle_files();
  void set_kernel_cache(KernelCache* cache) { kernel_ = cache; }
  void on_written(std::function<void(ContainerId)> written) { written_ = std::move(written); }
  // Pages of the container that this shard holds, to be flushed.
  std::uint64_t flush_container(ContainerId id);
  [[nodiscard]] ShardSnapshot snapshot() const;
  // Why pages may not be had, for the log after an access was refused.
  void set_node_names(std::vector<std::string> names) { node_names_ = std::move(names); }

 private:
  struct Waited {
    std::uint64_t since_ns;
    enum class Kind : std::uint8_t { kRead, kWrite, kUpgrade } kind;
  };
  struct PolledMapping {
    std::shared_ptr<Mapping> mapping;
    StreamDetector streams;
  };
  // Which sibling's streams asked for pages of this shard ahead of need.
  struct Asker {
    unsigned shard = 0;
    PageSet pages;
  };
  struct HeldUntil {
    std::uint64_t deadline_ns;
    PageSet pages;
  };

  using FileStripe = std::pair<ContainerId, std::uint64_t>;
  struct File {
    NodeId home;
    Epoch created;
  };
  struct KeptUntil {
    std::uint64_t deadline_ns = 0;
    std::shared_ptr<FilePart> part;
  };
  enum class FileWrite : std::uint8_t { kLeaves, kStays };  // SwapOut, WriteBack
  // The home asks the managers of a file: for `jobs`, while those of `next` wait.
  struct FileSurvey {
    std::vector<std::shared_ptr<FileJob>> jobs;
    std::vector<std::shared_ptr<FileJob>> next;
  };
  // Who waits for the write-back or discard of a page that is under way, and for one after it.
  struct FileWork {
    std::vector<std::shared_ptr<FileJob>> jobs;
    std::vector<std::shared_ptr<FileJob>> next;
  };

  Shard(const ShardConfig& config, std::unique_ptr<Channel> channel,
        std::unique_ptr<IoLinker> io_linker, ShardListener& listener, MapLinker linker,
        Mailbox mailbox, UniqueFd epoll);

  // shard.cc: the loop
  void run();
  void wait_for_work();
  [[nodiscard]] std::int64_t wait_ns() const;
  void fire_timers();
  void refuse_overdue();
  void finish_io();
  Status watch(int fd, std::uint64_t tag);
  void fatal(const Error& error);

  // shard_faults.cc: programs' side
  void drain_mapping(MappingId id);
  void drain_device();
  void take_request(const abi::Request& request);
  void look_after_news(const std::shared_ptr<Mapping>& mapping);
  void retry_news();
  void wake_for_news();
  void watch_events(const Mapping& mapping, std::uint32_t events);
  void on_fault(PolledMapping& polled, const Fault& fault);
  void refuse_here(const Fault& fault, unsigned owner);
  void take_fault(const Fault& fault, const StreamDetector::Run& ahead);
  void ask_ahead(MappingId mapping, const StreamDetector::Run& run, Access access);
  [[nodiscard]] Shard& shard_of(std::uint64_t stripe) {
    return *siblings_[index_of(stripe, static_cast<unsigned>(siblings_.size()))];
  }
  void remember_asker(unsigned shard, PageSet pages);
  void note_taken(PageSet pages);
  void note_resolved(PageSet pages);

  // shard_files.cc: reads and writes of files
  void revisit(PageSet pages);
  void advance(const std::shared_ptr<FilePart>& part);
  Status transfer(const std::shared_ptr<FilePart>& part, PageSet pages);
  Status read_frames(const FramePool& pool, FileAccess& access, PageSet pages);
  void end_part(FilePart& part, const std::optional<Error>& error);
  void refuse_parts(PageSet pages, Refusal refusal, NodeId blamed);
  void expire_parts(std::uint64_t since_ns);
  void forget_file(ContainerId id);

  // shard_kernel_cache.cc: what the kernel keeps of them
  void kernel_has(PageSet pages, bool written);
  std::uint64_t changes(PageSet pages, const FilePart* except, bool leaves = false);
  [[nodiscard]] bool undo(FilePart& part, std::uint64_t mask);
  void keep_in_answer(const std::shared_ptr<FilePart>& part, PageSet pages);
  void end_kept(FilePart& part);
  void expire_kept();
  void left_node(PageSet pages);
  void drop_from_kernel(PageSet pages, std::function<void()> then);
  void tell_kernel(std::uint64_t drop);
  void dropped(std::uint64_t id);
  std::uint64_t wait_for_kernel(PageSet pages);
  bool hold_back(NodeId to, const Message& message, std::span<const std::byte> payload);
  bool hold_back(const action::JobDone& done);
  void finish_discards();
  void send_what_may_go(const PageSet& changed);

  // shard_file_jobs.cc: write-back and discard at the home
  void start_survey(ContainerId id);
  void go_on(const std::shared_ptr<FileJob>& job);
  void ask_core(PageSet pages, bool discard);
  void write_to_file(PageSet pages, FileWrite kind);
  void wrote_to_file(PageSet pages, FileWrite kind, const Status& status);
  void finish_file_io();
  void write_back_some();
  Status watch_file_linker();

  // shard_actions.cc: the core's wishes
  void step(const Event& event);
  void step_with(const PageBytes& payload, const Event& event);
  void perform(const Action& action);
  void perform_one(const action::Send& send);
  void perform_one(const action::Install& install);
  void perform_one(const action::Map& map);
  void perform_one(const action::SwapOut& swap);
  void perform_one(const action::SwapIn& swap);
  void perform_one(const action::WriteBack& write);
  void perform_one(const action::JobDone& done);
  void perform_one(const action::Synced& synced);
  void perform_one(const action::DropContainer& drop);
  void perform_one(const action::Refuse& refuse);
  [[nodiscard]] bool lost_for_good(const action::Refuse& refuse) const;
  void perform_one(const action::Violation& violation);
  [[nodiscard]] std::string name_of(NodeId node) const;
  // Programs may do `access` from now on; said before the linker is told.
  void trace_granted(PageSet pages, Access access) {
    if (trace_ != nullptr) trace_->note(TraceKind::kGranted, pages, access);
  }
  // Programs cannot any more; said after the linker has seen to it.
  void trace_taken(TraceKind kind, PageSet pages) {
    if (trace_ != nullptr) trace_->note(kind, pages);
  }
  void transmit(NodeId to, const Message& message, std::byte* payload, std::size_t bytes);
  void count_sent(const Message& message);
  void count_downgraded(PageSet pages);
  [[nodiscard]] bool count_received(const Message& message);  // false: it knows no such container
  void must(const Status& status);

  // ChannelSink
  void on_up(NodeId peer, std::uint64_t incarnation) override;
  void on_message(NodeId from, std::span<const std::byte> header,
                  std::span<const std::byte> payload) override;
  void on_down(NodeId peer, DownReason reason, const std::string& detail) override;

  const ShardConfig config_;
  std::unique_ptr<Channel> channel_;
  std::unique_ptr<IoLinker> io_linker_;
  ShardListener& listener_;
  std::vector<Shard*> siblings_;
  Mailbox mailbox_;
  UniqueFd epoll_;
  std::thread thread_;
  std::atomic<bool> stop_ = false;

  // The shard's thread only.
  Core core_;
  MapLinker linker_;
  std::map<MappingId, PolledMapping> polled_;
  std::map<MappingId, std::shared_ptr<Mapping>> unsent_;   // with news that wait for room
  std::map<MappingId, std::shared_ptr<Mapping>> starved_;  // for which no event says when
  LostMemory lost_;
  std::uint64_t next_news_ns_ = 0;  // when these are looked after again
  std::uint64_t next_news_warning_ns_ = 0;
  std::shared_ptr<GobDevice> device_;  // the shard that reads it; else null
  std::shared_ptr<const LinkTable> links_;
  std::vector<abi::Request> early_requests_;  // of links that are held
  std::array<Asker, 64> askers_;              // the latest; the oldest are forgotten
  std::size_t next_asker_ = 0;
  std::unordered_map<PageKey, Waited> waited_;
  std::map<ContainerId, ContainerCounters> counters_;
  std::map<NodeId, std::uint64_t> free_frames_;  // of peers, as each said last
  std::deque<HeldUntil> holds_;
  std::uint64_t now_ns_ = 0;
  std::uint64_t next_overdue_check_ns_ = 0;
  bool overdue_put_off_ = false;  // once, as this thread stood still
  std::uint64_t last_work_ns_ = 0;
  bool failed_ = false;
  bool stepping_ = false;
  std::deque<Event> next_events_;  // caused by an action: taken when the step is done
  Actions actions_;
  PageBytes payload_;  // of the message being delivered, or what a disk has read
  PageSet fresh_;      // of these: the frames were filled from them and have not changed since
  std::vector<std::byte> staging_;
  std::vector<Fault> faults_;
  std::vector<IoCompletion> completions_;
  std::vector<std::string> node_names_;
  std::unique_ptr<PageTrace> trace_;  // null unless asked for

  std::map<ContainerId, std::shared_ptr<const FramePool>> pools_;  // of all containers

  // Files. The linker is made with the first file that is on this node.
  std::unique_ptr<FileIoLinker> file_linker_;
  std::map<ContainerId, File> files_;
  std::map<ContainerId, std::vector<PageSet>> awaited_files_;  // reads that wait for bind_file()
  std::map<FileStripe, std::vector<std::shared_ptr<FilePart>>> parts_;
  std::set<FileStripe> revisit_;
  ReadWindow read_window_;
  bool settling_ = false;
  KernelCache* kernel_ = nullptr;
  std::map<FileStripe, std::uint64_t> kernel_pages_;  // pages that the kernel may hold
  KernelDrops drops_;
  std::deque<KeptUntil> kept_;  // reads with pages that left
  static constexpr std::size_t kMostHeldBytes = std::size_t{64} << 20;  // for one peer
  HeldMessages held_messages_{kMostHeldBytes};
  std::vector<action::JobDone> held_discards_;
  std::map<FileStripe, std::deque<FileWrite>> file_writes_;  // under way
  std::map<ContainerId, FileSurvey> surveys_;
  std::map<std::pair<PageKey, bool>, FileWork> work_;  // by page, and whether it is a discard
  std::deque<std::shared_ptr<FileJob>> jobs_to_go_on_;
  std::map<ContainerId, Error> file_errors_;  // of the disk, until somebody was told
  std::function<void(ContainerId)> written_;
  std::set<ContainerId> background_;  // written back on our own account now
  std::uint64_t next_write_back_ns_ = 0;
};

}  // namespace gob
