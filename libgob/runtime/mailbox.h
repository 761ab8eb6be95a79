// Mailbox: work that other threads hand to one thread, through a bounded queue and an eventfd that
// its epoll loop watches. Any thread posts; the owner runs.
#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob {

class Mailbox {
 public:
  using Work = std::function<void()>;

  // `capacity`: pieces of work that may wait; more are refused, which callers treat as overload.
  static Result<Mailbox> create(std::size_t capacity);
  Mailbox(Mailbox&& other) noexcept;
  Mailbox& operator=(Mailbox&&) = delete;

  // False when the queue is full or closed: `work` will not run.
  [[nodiscard]] bool post(Work work) { return put(std::move(work), capacity_); }
  // Also when it is full: the owner waits for this to be rid of something that it has accepted.
  // False when it is closed.
  bool post_reply(Work work) { return put(std::move(work), ~std::size_t{0}); }
  // Runs what waits, in order. Work posted meanwhile runs at the next call.
  void run();
  // Nothing is accepted any more; what waits is dropped unrun.
  void close();
  // Readable when run() has work.
  [[nodiscard]] int fd() const { return event_.get(); }

 private:
  Mailbox(std::size_t capacity, UniqueFd event) : capacity_(capacity), event_(std::move(event)) {}
  [[nodiscard]] bool put(Work work, std::size_t limit);

  std::size_t capacity_;
  UniqueFd event_;
  std::mutex mutex_;
  std::vector<Work> queue_;    // guarded by mutex_
  bool closed_ = false;        // guarded by mutex_
  std::vector<Work> running_;  // owner only
};

}  // namespace gob
