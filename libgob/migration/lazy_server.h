// LazyServer: answers the page faults of a migrant from the migration's containers, and brings the
// pages nobody asked for behind them. Threads of its own: some for faults and for what the program
// does to its memory, one for the stream.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/migration/lazy_ranges.h"
#include "libgob/migration/page_store.h"

namespace gob::migration {

class LazyServer {
 public:
  struct Counts {
    std::uint64_t faults = 0;       // that were answered with bytes
    std::uint64_t zero_faults = 0;  // in memory that never had any
    std::uint64_t streamed = 0;     // pages
    std::uint64_t fault_ns = 0;     // time from reading a fault to its answer, in sum
    std::array<std::uint64_t, 24> slots{};  // faults by duration, as in message Arrived
  };

  // `store` outlives it. `on_uffd` is told of every userfaultfd of a forked child, on a
  // thread for faults. `priority`: of page service (hurry.h), once the process runs.
  static Result<std::unique_ptr<LazyServer>> create(TargetStores& store,
                                                    std::function<void(int)> on_uffd, int priority);
  ~LazyServer();
  LazyServer(const LazyServer&) = delete;
  LazyServer& operator=(const LazyServer&) = delete;

  // `pid`: the process in its namespace. `early`, of its ranges: they come at once.
  void add(UniqueFd uffd, LazyRanges ranges, pid_t pid, std::vector<LazyRanges::Run> early);
  // The process runs: there is time, and with `stream` everything comes that nobody asked for.
  void runs(bool stream);
  // Readable when finished() or failure() may have changed.
  [[nodiscard]] int fd() const { return changed_.get(); }
  void clear_fd();
  // Nothing is missing any more.
  [[nodiscard]] bool finished();
  // Pages that cannot be had: the migrant must not go on.
  [[nodiscard]] std::optional<Error> failure();
  [[nodiscard]] Counts counts();
  // Pages that have not reached the migrant.
  [[nodiscard]] std::uint64_t pages_out();

  // The migrant is about to be frozen, to move on: from here on pages come only for faults, and it
  // is noted which. `processes` are all its processes.
  using Processes = google::protobuf::RepeatedPtrField<ResidentRequest::Process>;
  Status hold(const Processes& processes);
  // It did not move.
  void resume(bool stream);
  // With the migrant frozen: every page that is out, or came since hold(). Whether its context was
  // taken with one of the latter, only the context tells. kUnavailable: try again another time.
  Status collect(const Processes& processes, Memory& out);

 private:
  struct Task {
    UniqueFd uffd;
    LazyRanges ranges;
    LazyRanges recent;         // came since hold()
    std::vector<LazyRanges::Run> early;  // still to be streamed, before all else
    pid_t pid = 0;             // in its namespace; 0: of a fork, not known yet
    std::uint64_t cursor = 0;  // where the stream goes on
    std::uint64_t behind = 0;  // the address after the pages that the last fault brought,
    std::uint64_t window = 1;  // and how many these were
    unsigned near = 0;         // how many faults in a row were near the one before
    bool ended = false;
    std::vector<std::uint64_t> waiting;  // faults to be answered,
    std::vector<std::uint64_t> later;    // and those that an event not read yet is in the way of
  };
  struct Fault {
    Task* task = nullptr;
    std::uint64_t address = 0;
  };
  enum class Copied { kDone, kLater, kEnded };

  LazyServer(TargetStores& store, std::function<void(int)> on_uffd, int priority, UniqueFd changed,
             UniqueFd wake)
      : store_(store),
        on_uffd_(std::move(on_uffd)),
        priority_(priority),
        changed_(std::move(changed)),
        wake_(std::move(wake)) {}
  void serve_faults(unsigned lane);
  std::optional<Fault> next_fault();
  void stream();
  std::unique_lock<std::mutex> lock_first();
  void read_events(Task& task);
  void put_off(Task& task, std::uint64_t address);
  void answer(Task& task, std::uint64_t address, unsigned lane);
  bool stream_some(Task& task);
  std::optional<LazyRanges::Run> next_of(Task& task) const;
  [[nodiscard]] bool has_work() const;
  Copied copy(Task& task, std::uint64_t address, const std::byte* from, std::uint64_t pages);
  void fail(const Error& error);
  void say_changed() const;
  void wake() const;  // who waits for faults
  Status identify(Task& task, const Processes& processes, std::unique_lock<std::mutex>& lock);
  [[nodiscard]] bool may_have_used_up() const;
  [[nodiscard]] std::set<std::uint64_t> needed() const;

  TargetStores& store_;
  const std::function<void(int)> on_uffd_;
  const int priority_;
  UniqueFd changed_;
  UniqueFd wake_;  // for who waits for faults

  // Whoever holds it waits for faults, and lets go of it with one in hand: that is answered without
  // a word between threads. Before mutex_.
  std::mutex leader_;

  // Events are read, and pages copied, under it: a copy never goes where the program just unmapped.
  std::mutex mutex_;
  std::atomic<unsigned> faults_first_{0};  // that wait for it
  std::condition_variable work_;
  std::list<Task> tasks_;
  std::optional<Error> failure_;
  Counts counts_;
  std::uint64_t arrived_ = 0;           // pages, since it was looked for containers used up
  std::multiset<std::uint64_t> asked_;  // the pages of the faults that are being answered
  bool runs_ = false;
  bool streaming_ = false;
  bool holding_ = false;
  bool stopping_ = false;
  std::vector<std::thread> faults_;
  std::thread streamer_;
};

}  // namespace gob::migration
