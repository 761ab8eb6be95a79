// One node as the coherence core sees it, without a machine under it: frames and what programs may
// do with them, swap slots, I/O under way, holds, and programs that wait for pages. Actions are
// performed in order and every rule a host relies on is checked on the way. A regular value, so
// that the explorer can intern it; one thread owns it.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "libgob/protocol/core.h"
#include "tests/sim/geometry.h"

namespace gob::sim {

struct Frame {
  Value value = 0;
  bool present = false;
  Access rights = Access::kNone;  // of every local mapping
  friend bool operator==(const Frame&, const Frame&) = default;
};

struct SwapSlot {
  Value value = 0;
  bool kept = false;
  friend bool operator==(const SwapSlot&, const SwapSlot&) = default;
};

// A SwapOut or SwapIn the I/O linker has not finished.
struct Io {
  bool out = false;
  bool stays = false;    // out: a WriteBack, whose frames stay
  bool dropped = false;  // its container was removed meanwhile
  PageSet pages;
  std::vector<Value> values;  // out: the bytes being written, in order of pages
  friend bool operator==(const Io&, const Io&) = default;
};

// A program's thread: it accesses the pages of a run one by one, and faults on those it may not.
struct Thread {
  enum class State : std::uint8_t { kIdle, kBlocked, kWoken };
  State state = State::kIdle;
  Access access = Access::kNone;
  PageSet pages;  // those not accessed yet
  friend bool operator==(const Thread&, const Thread&) = default;
};

// A sync that the home of a file was asked for, as the runtime does it: the core learns from the
// managers what is newer than the file, and each of these pages is written back. With `list` the
// core only learns which pages are in memory.
struct FileSync {
  bool list = false;
  bool surveyed = false;  // action::Synced came
  bool failed = false;
  std::vector<PageSet> todo;          // not asked for yet
  std::map<unsigned, unsigned> ends;  // by page: how many ends of write-backs are waited for
  friend bool operator==(const FileSync&, const FileSync&) = default;
};

// What one event did, for whoever drives the node.
struct Effects {
  struct Sent {
    NodeId to;
    Packet packet;
  };
  struct Done {
    unsigned thread = 0;
    unsigned page = 0;
    Access access = Access::kNone;
    Value value = 0;  // read or written
  };
  struct Refused {
    unsigned thread = 0;
    unsigned page = 0;
    Refusal refusal = Refusal::kNone;
  };
  // A WriteBack or Discard that ended.
  struct Job {
    unsigned page = 0;
    bool discard = false;
    Refusal refusal = Refusal::kNone;
  };
  // A sync that was answered.
  struct Synced {
    ContainerId container;
    bool list = false;
    bool ok = true;
  };
  std::vector<Sent> sent;
  std::vector<Done> done;         // accesses that completed
  std::vector<Refused> refused;   // accesses that ended in an error
  std::vector<unsigned> woken;    // threads that may try again
  std::vector<unsigned> touched;  // pages whose frame or slot changed; may repeat
  std::vector<unsigned> held;     // pages whose hold began
  std::vector<Job> jobs;
  std::vector<Synced> synced;
  std::vector<unsigned> written;  // pages that the disk has written for a WriteBack
  unsigned io_started = 0;        // new entries at the end of io()
  bool serving = false;           // action::Serving
  bool left = false;              // action::Left
  std::string broken;             // the first broken rule, or empty

  void clear();
  void fail(std::string text);
};

class NodeModel {
 public:
  NodeModel(const Geometry& geometry, const CoreConfig& config, unsigned threads);

  // --- events ---------------------------------------------------------------------------------
  // Anything but the three below; `payload` is the packet of a Deliver.
  void step(const Event& event, const Packet* payload, Effects& fx);
  // An idle thread starts to access a run. Writes store `value`.
  void begin(unsigned thread, PageSet pages, Access access, std::uint64_t ahead, Value value,
             Effects& fx);
  // A woken thread tries again; it faults anew on what it still may not access.
  void retry(unsigned thread, Value value, Effects& fx);
  void finish_io(unsigned index, bool ok, Effects& fx);
  // The device does what concerns one page of a file in the order in which it was asked.
  [[nodiscard]] bool may_finish(unsigned index) const;
  // A file is what it was before its home crashed, or what the file service makes it.
  void set_device(unsigned page, Value value) { slots_[page] = {value, true}; }
  // The page is of a file: of this node's device, or of any.
  [[nodiscard]] bool on_device(unsigned page) const;
  [[nodiscard]] bool of_file(unsigned page) const;
  void expire_hold(unsigned page, Effects& fx);
  // This node is the home of the file, and no sync of it is under way.
  void begin_sync(ContainerId id, bool list, Effects& fx);

  // --- state ----------------------------------------------------------------------------------
  [[nodiscard]] const Core& core() const { return core_; }
  [[nodiscard]] const Frame& frame(unsigned page) const { return frames_[page]; }
  [[nodiscard]] const SwapSlot& slot(unsigned page) const { return slots_[page]; }
  [[nodiscard]] const std::vector<Io>& io() const { return io_; }
  [[nodiscard]] bool held(unsigned page) const { return holds_[page] != 0; }
  [[nodiscard]] bool any_held() const;
  [[nodiscard]] bool syncing(ContainerId id) const { return syncs_.contains(id); }
  [[nodiscard]] bool any_syncing() const { return !syncs_.empty(); }
  // A frame has its bytes, or is being filled.
  [[nodiscard]] bool has_or_reads(unsigned page) const;
  [[nodiscard]] const std::vector<Thread>& threads() const { return threads_; }
  // The value is in a frame or a swap slot here.
  [[nodiscard]] bool keeps(unsigned page, Value value) const;
  [[nodiscard]] bool told_removed(ContainerId id) const {
    return (removed_ >> (id.value() % 64)) & 1;
  }
  [[nodiscard]] bool leaving() const { return leaving_; }
  // No frame, slot or I/O of any page.
  [[nodiscard]] bool empty() const;
  [[nodiscard]] std::uint64_t hash() const;
  friend bool operator==(const NodeModel& a, const NodeModel& b);

  // For the explorer: bytes equal to `from` are called `to`, wherever they are.
  void rename(unsigned page, Value from, Value to);

 private:
  void attempt(unsigned thread, std::uint64_t ahead, Value value, Effects& fx);
  void finish_file_io(const Io& io, bool ok, Effects& fx);
  void go_on_with_syncs(Effects& fx);
  void end_of_write_back(unsigned page, Refusal refusal);
  void check(Effects& fx);
  [[nodiscard]] std::set<PageId> requests_with_frames() const;
  void check_order(const std::set<PageId>& had_frames, const Actions& actions, Effects& fx) const;
  void check_page(unsigned page, Effects& fx) const;
  void drop(unsigned page, Effects& fx);
  void check_turn(unsigned page, const char* what, Effects& fx) const;
  void wake(unsigned page, Effects& fx);

  void perform(const action::Send& a, const Packet* payload, Effects& fx);
  void perform(const action::Install& a, const Packet* payload, Effects& fx);
  void perform(const action::Map& a, const Packet* payload, Effects& fx);
  void perform(const action::Downgrade& a, const Packet* payload, Effects& fx);
  void perform(const action::Invalidate& a, const Packet* payload, Effects& fx);
  void perform(const action::SwapOut& a, const Packet* payload, Effects& fx);
  void perform(const action::SwapIn& a, const Packet* payload, Effects& fx);
  void perform(const action::FreeSwap& a, const Packet* payload, Effects& fx);
  void perform(const action::Hold& a, const Packet* payload, Effects& fx);
  void perform(const action::Refuse& a, const Packet* payload, Effects& fx);
  void perform(const action::DropContainer& a, const Packet* payload, Effects& fx);
  void perform(const action::Left& a, const Packet* payload, Effects& fx);
  void perform(const action::WriteBack& a, const Packet* payload, Effects& fx);
  void perform(const action::JobDone& a, const Packet* payload, Effects& fx);
  void perform(const action::Synced& a, const Packet* payload, Effects& fx);
  void perform(const action::Serving& a, const Packet* payload, Effects& fx);
  void perform(const action::Violation& a, const Packet* payload, Effects& fx);

  template <class F>
  void each(PageSet pages, const char* what, Effects& fx, F&& f);

  Geometry geometry_;
  Core core_;
  std::vector<Frame> frames_;
  std::vector<SwapSlot> slots_;
  std::vector<std::uint8_t> holds_;
  std::vector<Io> io_;
  std::vector<Thread> threads_;
  std::map<ContainerId, FileSync> syncs_;  // under way
  std::vector<NodeId> homes_;  // of containers, by id
  unsigned present_ = 0;       // frames taken: they hold bytes, or a swap-in fills them
  std::uint64_t allowed_;  // frames: the budget, and what had to be taken in during a view change
  bool expired_ = false;   // an Expire was given: time-outs are to be expected
  bool leaving_ = false;   // it was told to leave
  std::uint64_t removed_ = 0;  // containers this node was told are gone, by bit
};

// Names for traces.
const char* name_of(MessageType type);
const char* name_of(Access access);
const char* name_of(PageState state);
const char* name_of(Refusal refusal);
std::string to_text(PageSet set);
std::string to_text(const Packet& packet);

}  // namespace gob::sim
