// FetchAhead: files that programs read here and there. Each such read costs a round trip of its
// own, and the kernel reads ahead only for those who read in order; so once a good part of a file
// was read this way, this has the kernel read all of it ahead, in large requests, if it is not too
// large. Those are requests like any others: nothing is cached that would not be kept coherent.
// Meanwhile small reads of the file are held back, for a short time each, since a page that comes
// alone costs the processors as much as ten of the large requests' pages.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "libgob/base/result.h"

namespace gob::file {

class FetchAhead {
 public:
  using Clock = std::chrono::steady_clock;
  // Of one read: what the fetch needs for some MiB.
  static constexpr std::chrono::milliseconds kLongestHold{20};

  // Of files below `mount` of at most `largest_bytes`; 0: of none.
  FetchAhead(std::string mount, std::uint64_t largest_bytes)
      : mount_(std::move(mount)), largest_bytes_(largest_bytes) {}
  ~FetchAhead() { stop(); }
  FetchAhead(const FetchAhead&) = delete;
  FetchAhead& operator=(const FetchAhead&) = delete;

  // `step_bytes`: what the kernel reads ahead at once on this mount.
  Status start(std::size_t step_bytes);
  // After the end of the FUSE connection, for which a fetch may be waiting.
  void stop();

  // Any thread: the kernel asks, for a program, for these bytes of a file that is `size` bytes
  // long. True: the read is held back, and `go_on` will be called, by a thread of this: soon after
  // the fetch needs its pages or is over, and in no case later than kLongestHold.
  bool note(std::uint64_t inode, std::uint64_t offset, std::uint64_t bytes, std::uint64_t size,
            std::function<void()> go_on);
  // Any thread: it is this who opens a file, as the kernel says who does.
  [[nodiscard]] bool is(pid_t thread) const { return thread != 0 && thread == thread_id_.load(); }
  // The kernel's number may come to mean another file.
  void forget(std::uint64_t inode);

 private:
  struct Pattern {
    std::uint64_t next = 0;    // where a reader in order would go on
    std::uint64_t strays = 0;  // small reads out of order since the last fetch
    unsigned fetches = 0;
  };
  struct Fetch {
    std::uint64_t inode = 0;
    std::uint64_t size = 0;
  };
  struct Held {
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
    Clock::time_point until;
    std::function<void()> go_on;
  };
  void run();
  void fetch(const Fetch& wanted);
  [[nodiscard]] bool ends();
  // Lets the reads go on that hold the byte which the fetch waits for now.
  void wait_for_byte(std::uint64_t offset);
  void let_all_go_on();
  void release_overdue();

  const std::string mount_;
  const std::uint64_t largest_bytes_;
  std::size_t step_bytes_ = 0;  // constant after start()
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::uint64_t, Pattern> patterns_;  // guarded by mutex_
  std::deque<Fetch> fetches_;                  // guarded by mutex_
  std::optional<std::uint64_t> fetched_;       // the inode; guarded by mutex_
  std::uint64_t awaited_offset_ = 0;           // of the byte it waits for; guarded by mutex_
  std::deque<Held> held_;                      // of that file, oldest first; guarded by mutex_
  std::condition_variable held_changed_;
  bool ends_ = false;                 // guarded by mutex_
  std::atomic<pid_t> thread_id_ = 0;  // 0: none
  std::thread thread_;
  std::thread releaser_;
};

}  // namespace gob::file
