// Mailbox: work that other threads hand to one thread, through a bounded queue and an eventfd that
// its epoll loop watches. Any thread posts; the owner runs.
#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
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
  [[nodiscard]] bool post(Work work);
  // Runs what waits, in order. Work posted meanwhile runs at the next call.
  void run();
  // Nothing is accepted any more; what waits is dropped unrun.
  void close();
  // Readable when run() has work.
  [[nodiscard]] int fd() const { return event_.get(); }

 private:
  Mailbox(std::size_t capacity, UniqueFd event) : capacity_(capacity), event_(std::move(event)) {}

  std::size_t capacity_;
  UniqueFd event_;
  std::mutex mutex_;
  std::vector<Work> queue_;    // guarded by mutex_
  bool closed_ = false;        // guarded by mutex_
  std::vector<Work> running_;  // owner only
};

}  // namespace gob
