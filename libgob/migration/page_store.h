// The containers in which a process's memory travels. Lazy pages of all its tasks are numbered from
// 0 in the order of read_lazy_tasks(); 64 MiB of them make a container. The source copies pages in
// after the freeze (SourceStore); the target takes them out (TargetStore), and tells the source
// which its stream wants first. What a fault waits for, and is in no container yet, comes from the
// stopped process itself: its memory is a container, too. Thread-safe where said.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <gob.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "libgob/base/ids.h"
#include "libgob/base/result.h"
#include "libgob/migration/criu_images.h"
#include "libgob/migration/migration.pb.h"
#include "libgob/migration/page_mover.h"

namespace gob::migration {

inline constexpr std::uint64_t kStorePages = (std::uint64_t{64} << 20) / kPageSize;
// Said to be there together: a run. Several are copied at once.
inline constexpr std::uint64_t kFillPages = 64;
// Pages of the shortest runs (stacks, variables of libraries) that are brought before the process
// runs: the first ones that it touches are among them.
inline constexpr std::uint64_t kEarlyPages = 1024;

inline std::string store_name(const std::string& session, std::size_t index) {
  return session + ".mem" + std::to_string(index);
}
// The container of the stopped processes' memory, as long as they are there.
inline std::string live_name(const std::string& session) { return session + ".live"; }
inline std::string state_name(const std::string& session) { return session + ".runs"; }
// Bytes; enough for 16 TiB of memory. Only what is used exists.
inline constexpr std::uint64_t kStateBytes = std::uint64_t{64} << 20;

// What both ends know of the filling: in a container of its own, so by load() and store() only.
// Each page has one end that writes it: who only looks takes it from nobody.
struct FillState {
  // The source.
  alignas(kPageSize) std::uint32_t complete;  // 1: every page is in the containers
  std::uint32_t failed;                       // 1: the source cannot fill any more
  // The target: a run, + 1, that it waits for (0: none yet), above how often it said so: each wish
  // is another number.
  alignas(kPageSize) std::uint64_t awaited;
  // The source, of each run of kFillPages: 1 once it is there.
  alignas(kPageSize) std::uint8_t filled[];
};
inline constexpr unsigned kWishBits = 40;  // of the run

class SourceStore {
 public:
  // Containers for about `pages` pages, made while the process still runs. `socket`: of the gobd of
  // `gob`. `priority`: of page service (hurry.h).
  static Result<std::unique_ptr<SourceStore>> create(const gobelins::Connection& gob,
                                                     const std::string& socket,
                                                     const std::string& session,
                                                     std::uint64_t pages, int priority);
  // More containers, if the process grew meanwhile, and what they will hold; `pids`: the tasks as
  // this side sees them. Appends this to `memory`.
  Status assign(const std::vector<LazyTask>& tasks, const std::vector<pid_t>& pids, Memory& memory);
  [[nodiscard]] std::uint64_t pages() const { return pages_; }
  [[nodiscard]] std::uint64_t room() const { return stores_.size() * kStorePages; }
  // Copies every page out of the stopped processes, from where the stream is on.
  Status fill();
  // Waits, while another thread fills, until the early pages are in: then there is room, and the
  // process can be given up here. False: the filling has failed.
  [[nodiscard]] bool await_early() const;
  // Once all is filled, and before the processes go: nothing is read from them any more.
  void end_live();
  enum class Pace {
    kAsked,  // early pages, and what is waited for: the machine is CRIU's
    kLed,    // all, a little ahead of the stream
    kAll,    // all: there is no stream
    kStopped,
  };
  void set_pace(Pace pace);  // any thread

 private:
  struct Piece {
    std::uint64_t first = 0;
    LazyRun run;
    pid_t pid = 0;  // as this side sees it
  };
  std::uint64_t live_page(const Piece& piece);
  Status serve_live();
  SourceStore(const gobelins::Connection& gob, std::unique_ptr<PageMover> mover,
              const std::string& session, int priority)
      : gob_(gob),
        mover_(std::move(mover)),
        session_(session),
        priority_(priority),
        wake_(gob_.mutex(session + ".fill")),
        filled_(gob_.condition(session + ".filled", wake_)),
        wished_(gob_.condition(session + ".wished", wake_)) {}
  Status grow(std::size_t stores);
  struct Runs {
    std::uint64_t first = 0;
    std::uint64_t count = 0;
  };
  Status copy_runs(Runs runs);
  [[nodiscard]] Runs next_runs(std::uint64_t from, std::uint64_t most) const;
  Status fill_runs(Runs runs);
  Status fill_all();
  Result<std::uint64_t> heard();
  void note_early();
  Result<bool> await_wish(Pace pace);
  void tell();
  [[nodiscard]] FillState& state() const { return *static_cast<FillState*>(state_.data()); }

  gobelins::Connection gob_;
  std::unique_ptr<PageMover> mover_;
  std::string session_;
  int priority_;
  gobelins::Mutex wake_;
  gobelins::Condition filled_;
  gobelins::Condition wished_;
  std::vector<std::uint32_t> stores_;  // the containers' numbers
  gobelins::Mapping state_;
  std::vector<Piece> pieces_;  // by first
  std::uint64_t pages_ = 0;
  std::uint64_t early_ = 0;  // of them
  std::atomic<Pace> pace_{Pace::kAsked};
  std::uint64_t awaited_ = 0;  // the last wish that was heard

  enum class Early : std::uint8_t { kOut, kIn, kNever };
  std::atomic<Early> early_state_{Early::kOut};
  std::vector<bool> filled_runs_;
  std::uint64_t left_ = 0;  // of them
  std::vector<pid_t> live_;  // processes whose memory is served, in that order
};

// Why pages are asked for.
enum class Asker : std::uint8_t {
  kStream,
  kFault,  // a program waits, or soon will
};
// Who asks for pages: what came to a lane stays until that asks again, whatever the others do.
enum Lane : std::uint8_t { kStreamLane, kMoverLane /* who moves the process on */, kFaultLane };
inline constexpr unsigned kFaultLanes =
    4;  // from kFaultLane on: so many faults are answered at once
inline constexpr unsigned kLanes = kFaultLane + kFaultLanes;

class TargetStore {
 public:
  // The containers for `pages` pages, but for those that are used up, counted from 0.
  static Result<TargetStore> open(const gobelins::Connection& gob,
                                  std::shared_ptr<const PageMover> mover,
                                  const std::string& session, std::uint64_t pages,
                                  const std::set<std::uint32_t>& used_up = {});
  // There are more pages than were known when it was opened.
  Status extend(std::uint64_t pages, const std::set<std::uint32_t>& used_up = {});
  // Where they are while the processes stand still (Memory.Store.pieces).
  Status add_live(const Memory::Store& store);
  // Makes this node the only one with `pages` pages from `page` (within one container, as many
  // as a lane has at most), and gives their bytes; for a fault, copies of the stopped process's
  // will do. Any thread, if there is one for each lane. kLost: they cannot be had.
  Result<const std::byte*> bring(std::uint64_t page, std::uint64_t pages, Asker asker,
                                 unsigned lane);
  // Is the source of no more use?
  [[nodiscard]] bool complete() const;
  // Has the source nothing to put into container `index` any more? `ask`: its state, and perhaps
  // wait for that; else what is known.
  [[nodiscard]] bool is_filled(std::uint32_t index, bool ask);
  // Has it filled the first `pages`? Asks its state if that is not known.
  [[nodiscard]] bool has_filled(std::uint64_t pages);
  // Removes container `index` from the cluster, with what is in it. Any thread, if nobody asks for
  // pages of it any more.
  Status remove(std::uint32_t index);

 private:
  TargetStore(const gobelins::Connection& gob, std::shared_ptr<const PageMover> mover,
              const std::string& session)
      : gob_(gob),
        mover_(std::move(mover)),
        session_(session),
        wake_(gob_.mutex(session + ".fill")),
        filled_(gob_.condition(session + ".filled", wake_)),
        wished_(gob_.condition(session + ".wished", wake_)),
        source_life_(gob_.mutex(session + ".source")) {}
  Status await_filled(std::uint64_t run);
  bool copy_live(std::uint64_t page, std::uint64_t pages, std::size_t lane) const;
  [[nodiscard]] std::uint64_t known_behind(std::uint64_t page, std::uint64_t most);
  Status wish(std::uint64_t run);
  bool is_known(std::uint64_t run);
  Result<bool> look(std::uint64_t run);
  [[nodiscard]] FillState& state() const { return *static_cast<FillState*>(state_.data()); }

  gobelins::Connection gob_;
  std::shared_ptr<const PageMover> mover_;
  std::string session_;
  gobelins::Mutex wake_;
  gobelins::Condition filled_;
  gobelins::Condition wished_;
  gobelins::Mutex source_life_;
  std::vector<std::uint32_t> stores_;  // the containers' numbers; 0: used up
  gobelins::Mapping state_;
  std::uint32_t live_ = 0;  // container of the processes' memory; 0: there was none
  std::map<std::uint64_t, std::uint64_t> live_pages_;  // of it, by the page that is there
  std::vector<std::uint8_t> known_;  // runs that were seen filled: 1; any thread, atomically
};

// Where the next store of `memory` begins: a multiple of kStorePages.
std::uint64_t next_store(const Memory& memory);

// The containers of this move and, for a migrant that moved on early, of those before it. Their
// pages are numbered one store after the other, so that page / kStorePages is a container's number.
class TargetStores {
 public:
  // `socket`: of the gobd through which pages come.
  static Result<TargetStores> open(const std::string& socket);
  // Opens what there is of this move's containers, before it is known what they will hold.
  Status prepare(const gobelins::Connection& gob, const std::string& session, std::uint64_t pages);
  Status add(const gobelins::Connection& gob, const Memory::Store& store);
  // As TargetStore's.
  Result<const std::byte*> bring(std::uint64_t page, std::uint64_t pages, Asker asker,
                                 unsigned lane);
  [[nodiscard]] bool complete() const;
  // Are the early pages of the move of this name in its containers? Any thread.
  [[nodiscard]] bool is_early_in(const std::string& session) const;
  // Session, first page and pages of each, in the order of add().
  void describe(Memory& memory) const;
  // Notes that all containers but those with these numbers are used up, and gives the new ones; in
  // `unknown` those of which it is not known that the source has nothing more to put into them.
  // Does not wait. Not while another thread calls it, or describe().
  std::vector<std::uint64_t> use_up(const std::set<std::uint64_t>& needed,
                                    std::vector<std::uint64_t>& unknown);
  // Asks the source's state whether it has. Any thread.
  bool look(std::uint64_t number);
  // Removes a container that is used up: its frames, on any node, are free for what is still to
  // come. Any thread.
  Status remove(std::uint64_t number);

 private:
  struct Part {
    Memory::Store place;
    std::unique_ptr<TargetStore> store;
    std::set<std::uint32_t> used_up;  // of its containers
  };
  explicit TargetStores(std::shared_ptr<const PageMover> mover) : mover_(std::move(mover)) {}
  [[nodiscard]] std::pair<TargetStore*, std::uint32_t> find(std::uint64_t number) const;
  std::shared_ptr<const PageMover> mover_;
  std::vector<Part> parts_;
};

}  // namespace gob::migration
