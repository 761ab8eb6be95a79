// The coherence core: sequential consistency by write invalidation over a static distributed
// manager (paper §3.1, §5.2). Pure: no clock, thread, socket, log or page bytes; a regular value
// that copies, compares and hashes. One thread owns a core. The same code runs in gobd, in the
// seeded simulator and in the explorer.
//
//   Core core(config);
//   core.step(event::NewView{view}, actions);   // first event
//   core.step(event::Touch{...}, actions);      // appends what the host must do, in order
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "libgob/base/page_table.h"
#include "libgob/protocol/action.h"
#include "libgob/protocol/config.h"
#include "libgob/protocol/directory.h"
#include "libgob/protocol/event.h"
#include "libgob/protocol/page_state.h"
#include "libgob/protocol/pending.h"

namespace gob {

class Core {
 public:
  enum class Phase : std::uint8_t {
    kStarting,    // no view yet
    kDraining,    // a view is proposed: absorb what older epochs still send, until every marker
    kRebuilding,  // the directory is being reported to its new managers
    kServing,
    kLeft,
  };

  explicit Core(const CoreConfig& config) : config_(config) {}

  // Takes one event, appends the actions it causes. Never blocks, never fails: what cannot be done
  // becomes an action.
  void step(const Event& event, Actions& out);

  // --- what hosts, checkers and `gobctl stat` may look at
  // -----------------------------------------
  [[nodiscard]] Phase phase() const { return phase_; }
  [[nodiscard]] const View& view() const { return view_; }
  [[nodiscard]] const CoreConfig& config() const { return config_; }
  [[nodiscard]] LocalPage local(PageId page) const;  // kInvalid if there is no entry
  [[nodiscard]] std::optional<DirectoryEntry> entry(PageId page) const;  // only at its manager
  [[nodiscard]] const Transaction* transaction(PageId page) const;
  [[nodiscard]] const Pending* pending(PageId page) const;
  [[nodiscard]] const PageTable<LocalPage>& locals() const { return locals_; }
  [[nodiscard]] const PageTable<DirectoryEntry>& directory() const { return directory_; }
  [[nodiscard]] const std::map<PageKey, Pending>& all_pending() const { return pending_; }
  // At the home of a file container: its pages that are newer than the file, or (`listed`) that
  // the last Sync with a list found in memory; by stripe.
  [[nodiscard]] std::vector<PageSet> file_pages(ContainerId id, bool listed) const;
  // Files of this node of which it knows pages that are newer: for periodic write-back.
  [[nodiscard]] std::vector<ContainerId> dirty_files() const;
  [[nodiscard]] bool has_dirty_files() const { return !file_dirty_.empty(); }
  [[nodiscard]] std::uint64_t resident_frames() const { return resident_; }
  [[nodiscard]] std::uint64_t free_frames() const {
    return resident_ >= config_.budget_frames ? 0 : config_.budget_frames - resident_;
  }
  // The page for which a frame has been waited for longest, if any is.
  [[nodiscard]] std::optional<PageId> first_for_room() const;
  // Messages wait for a hold or the I/O linker: the host may not sleep past the end of a hold.
  [[nodiscard]] bool has_deferred() const { return !deferred_.empty(); }
  // True when nothing is under way here: no request, transaction, deferred message or hold.
  [[nodiscard]] bool at_rest() const;
  // A broken local rule in words, or empty: the checkers call it after every step.
  [[nodiscard]] std::string check() const;
  // Everything this core knows of one page, for the dump after a broken invariant.
  [[nodiscard]] std::string describe(PageId page) const;

  // Content hash, independent of insertion order; equal cores hash alike.
  [[nodiscard]] std::uint64_t hash() const;
  friend bool operator==(const Core&, const Core&);

 private:
  // A message about one page that must wait until the page is no longer held or swapping.
  struct Deferred {
    NodeId from;
    Message message;
    friend bool operator==(const Deferred&, const Deferred&) = default;
  };
  // A last copy on offer.
  struct Injection {
    NodeId target = kNoNode;
    bool sole = false;      // certainly no other copy
    bool homeward = false;  // the target is the home, which has to take it when it can
    std::vector<NodeId> refused_by;
    friend bool operator==(const Injection&, const Injection&) = default;
  };
  class Out;  // collects the actions of one step, joining neighbours into runs (outbox.h)

  using Stripe = std::pair<ContainerId, std::uint64_t>;
  using Stripes = std::map<Stripe, std::uint64_t>;  // masks of their pages
  static void erase_stripes(Stripes& stripes, ContainerId id) {
    stripes.erase(stripes.lower_bound({id, 0}), stripes.upper_bound({id, ~std::uint64_t{0}}));
  }
  struct Syncing {
    bool list = false;
    std::set<NodeId> missing;  // managers that have not answered
    friend bool operator==(const Syncing&, const Syncing&) = default;
  };

  // core.cc: dispatch
  void deliver(NodeId from, const Message& message, Out& out);
  void keep_early(NodeId from, const Message& message, Out& out);
  void dispatch(NodeId from, const Message& message, Out& out);
  [[nodiscard]] const char* nonsense(NodeId from, const Message& message) const;
  void dispatch_page(NodeId from, const Message& message, PageId page, Out& out);
  void dispatch_removed(NodeId from, const Message& message, Out& out);
  void end_step(Out& out);
  void add_container(const ContainerInfo& info);
  void remove_container(ContainerId id, Out& out);
  [[nodiscard]] Message make(MessageType type, PageId page) const;
  void send(NodeId to, Message message, Out& out);
  [[nodiscard]] NodeId manager(PageId page) const;
  [[nodiscard]] bool exact_copysets() const { return config_.cluster_size <= NodeSet::kBits; }

  // frames.cc: this node's copies and the room for them
  void set_state(PageId page, PageState state);
  void invalidate_local(PageId page, Out& out);
  void forget_if_empty(PageId page);
  void defer(NodeId from, const Message& message, PageId page);
  void release_deferred(PageId page, Out& out);
  void hold(PageId page, Out& out);
  void on_hold_expired(PageId page, Out& out);
  // A frame is free for what programs here want. A home keeps one for what others want of it: two
  // nodes that are full of each other's pages could not go on otherwise.
  [[nodiscard]] bool has_room() const;
  [[nodiscard]] std::uint64_t kept_for_home() const;  // frames
  [[nodiscard]] bool has_room_at_home() const;

  // first_touch.cc: the requester's beginning
  void touch(PageId page, Access access, bool demanded, Out& out);
  void request(PageId page, Access access, bool demanded, Out& out);
  void send_request(PageId page, Pending& pending, Out& out);
  void retry(PageId page, Out& out);
  void on_expire(PageId page, Out& out);
  void drop_pending(PageId page);
  void on_refuse(NodeId from, const Message& message, PageId page, Out& out);
  void complete_refusal(PageId page, Out& out);
  void admit_parked(Out& out);
  void park_for_room(PageId page);
  void wait_at_home(PageId page);
  void look_for_room_again();
  void may_give_way(PageId page);

  // get_page.cc, grab_page.cc: the requester's end
  void on_page(NodeId from, const Message& message, PageId page, Out& out);
  void on_grant(NodeId from, const Message& message, PageId page, Out& out);
  void on_invalidate_ack(NodeId from, const Message& message, PageId page, Out& out);
  void complete_grab(PageId page, Out& out);
  void confirm(PageId page, Refusal refusal, Out& out);

  // page_manager.cc
  void on_request(NodeId from, const Message& message, PageId page, Out& out);
  [[nodiscard]] static bool asks_twice(const Transaction& transaction, QueuedRequest request);
  void start(PageId page, QueuedRequest request, bool ahead, Out& out);
  void start_get(PageId page, DirectoryEntry& entry, NodeId requester, Out& out);
  void start_grab(PageId page, DirectoryEntry& entry, NodeId requester, Out& out);
  void start_flush(PageId page, DirectoryEntry& entry, NodeId requester, Out& out);
  void first_touch_grant(PageId page, NodeId requester, Out& out);
  void forward_get(PageId page, const DirectoryEntry& entry, NodeId requester, Out& out);
  std::uint32_t invalidate_others(PageId page, NodeSet holders, NodeId keep, NodeId requester,
                                  Out& out);
  void on_confirm(NodeId from, const Message& message, PageId page, Out& out);
  void on_flush_done(NodeId from, const Message& message, PageId page, Out& out);
  void close_transaction(PageId page, Out& out);
  [[nodiscard]] NodeId heir_among(NodeSet holders) const;
  void refuse(PageId page, NodeId requester, Refusal refusal, NodeId blamed, Out& out);
  [[nodiscard]] bool may_serve(PageId page, bool takes_away, const Out& out) const;

  // page_server.cc
  void refuse_forward(const Message& message, PageId page, Refusal refusal, Out& out);
  void on_forward(NodeId from, const Message& message, PageId page, Out& out);
  void serve_copy(PageId page, NodeId requester, bool wants_confirm, Out& out);
  void serve_move(PageId page, NodeId requester, std::uint32_t acks, bool wants_confirm, Out& out);
  void on_invalidate(NodeId from, const Message& message, PageId page, Out& out);

  // flush_page.cc, injection.cc
  void flush(PageId page, Out& out);
  void on_flush_discard(NodeId from, const Message& message, PageId page, Out& out);
  void on_flush_alone(NodeId from, const Message& message, PageId page, Out& out);
  void offer(PageId page, Out& out);
  void on_inject(NodeId from, const Message& message, PageId page, Out& out);
  void on_inject_reply(NodeId from, const Message& message, PageId page, Out& out);
  void end_flush(PageId page, NodeId owner, Out& out);
  void start_swap_in(PageId page, Out& out);
  void on_swapped_out(PageId page, bool ok, Out& out);
  void on_swapped_in(PageId page, bool ok, Out& out);
  [[nodiscard]] NodeId roomiest(const Injection& injection) const;

  // file_device.cc: the home's file is where pages are that no node has
  [[nodiscard]] NodeId home_of(ContainerId id) const;  // kNoNode: not a file container, or removed
  [[nodiscard]] NodeId home_of(PageId page) const { return home_of(page.container); }
  [[nodiscard]] bool home_is_here(PageId page) const { return home_of(page) == config_.self; }
  void start_on_device(PageId page, QueuedRequest request, Out& out);
  [[nodiscard]] NodeId lost_with(PageId page) const;
  std::uint32_t note_dirty(PageId page, DirectoryEntry& entry, NodeId writer, Out& out);
  void remember_dirty(PageId page);
  void forget_dirty(PageId page);
  void read_device(PageId page, Out& out);
  bool use_reservation(PageId page);
  void on_device_grant(const Message& message, PageId page, Out& out);
  [[nodiscard]] bool waits_in_vain(PageId page) const;
  void drop_device_read(PageId page, Out& out);
  void on_device_read(PageId page, bool ok, Out& out);
  void write_out(PageId page, Out& out);
  void offer_file_page(PageId page, Injection& injection, Out& out);
  void on_device_flushed(PageId page, bool ok, Out& out);

  // file_jobs.cc: write-back, discard, what the managers know
  void start_job(PageId page, Pending::Job job, Out& out);
  void send_job(PageId page, Pending& pending, Out& out);
  void run_waiting_jobs(Out& out);
  void start_write_back(PageId page, DirectoryEntry& entry, NodeId requester, Out& out);
  void start_discard(PageId page, DirectoryEntry& entry, NodeId requester, Out& out);
  void write_back_here(PageId page, bool arrived, Out& out);
  void on_written_back(PageId page, bool ok, Out& out);
  void complete_discard(PageId page, Out& out);
  void end_all_jobs(std::optional<ContainerId> only, Out& out);
  void end_job(PageId page, Refusal refusal, bool written, Out& out);
  void start_sync(ContainerId id, bool list, Out& out);
  void ask_managers(ContainerId id, Out& out);
  void on_sync(NodeId from, const Message& message, Out& out);
  void on_sync_end(NodeId from, const Message& message, Out& out);
  void on_exists(NodeId from, const Message& message, Out& out);

  // reclaim.cc
  void reclaim(Out& out);
  bool reclaim_files(bool shared_only, bool starved, const std::function<bool()>& enough, Out& out);
  void leave(Out& out);
  void check_left(Out& out);
  [[nodiscard]] std::uint64_t low_water() const;

  // recovery.cc: view changes
  void on_new_view(const View& view, Out& out);
  void on_evicted(Out& out);
  void abandon_transit();
  void absorb(const Message& message, Out& out);
  void absorb_page(const Message& message, PageId page, Out& out);
  void maybe_finish_drain(Out& out);
  void report_all(Out& out);
  void on_report(NodeId from, const Message& message, PageId page);
  void maybe_serve(Out& out);
  void replay_early(Out& out);
  [[nodiscard]] bool heard_all(const std::set<NodeId>& from) const;

  CoreConfig config_;
  View view_;
  Phase phase_ = Phase::kStarting;
  bool leaving_ = false;
  bool frames_ = true;  // of the message that was delivered last (event::Deliver)
  bool left_said_ = false;
  std::set<NodeId> leavers_;  // members that refused our last pages because they leave, too
  std::map<ContainerId, ContainerInfo> containers_;
  std::uint64_t homes_here_ = 0;  // files of this node among them

  // What this node holds.
  PageTable<LocalPage> locals_;
  std::uint64_t resident_ = 0;       // entries of locals_ that have a frame
  std::uint64_t reserved_ = 0;       // frames promised to requests under way
  std::uint64_t being_flushed_ = 0;  // of those, the ones with `flushing`
  std::uint64_t kept_in_a_row_ = 0;  // flushes that found no place, since a frame was last freed
  std::map<PageKey, std::vector<Deferred>> deferred_;
  std::map<PageKey, Injection> injections_;
  std::size_t clock_hand_ = 0;           // place of the replacement scan; no part of the content
  PageTable<std::uint8_t> file_frames_;  // keys of the resident pages of files, to be scanned first
  std::size_t file_hand_ = 0;            // the same for them
  std::size_t files_in_vain_ = 0;        // slots seen since one of them was flushed; no content
  std::map<NodeId, std::uint32_t> room_;  // latest free-memory hint of each peer, in frames

  // What this node asked for.
  std::map<PageKey, Pending> pending_;
  std::deque<PageKey> parked_for_room_;
  std::deque<PageKey> waiting_at_home_;  // pages of our files that others want, or want rid of

  // Of the files of which this node is the home.
  Stripes file_dirty_;                                   // pages newer than the file
  Stripes file_listed_;                                  // found by the last Sync with a list
  std::map<PageKey, std::uint32_t> writing_;             // WriteBack actions not answered yet
  std::map<PageKey, std::set<Pending::Job>> jobs_wait_;  // for a request of the same page to end
  std::set<PageKey> jobs_ready_;                         // of these: it has ended
  std::map<ContainerId, Syncing> syncs_;

  // What this node manages.
  PageTable<DirectoryEntry> directory_;
  std::map<PageKey, Transaction> transactions_;

  // View changes.
  std::set<NodeId> markers_;                      // peers whose marker of this epoch is here
  std::set<NodeId> report_ends_;                  // peers whose report of this epoch is complete
  std::map<NodeId, std::vector<Message>> early_;  // of an epoch that has not begun here
  std::vector<std::pair<NodeId, Message>> waiting_requests_;  // until the directory is rebuilt
};

}  // namespace gob
