// WorkerPool: threads that may block on a disk, so that no other thread has to. Bounded queue.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "libgob/base/result.h"

namespace gob::file {

class WorkerPool {
 public:
  using Work = std::function<void()>;

  WorkerPool() = default;
  ~WorkerPool() { stop(); }
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // `begin` runs first in each thread. `capacity`: pieces of work that may wait.
  Status start(unsigned threads, std::size_t capacity, std::function<void()> begin);
  // False when too much waits already, or after stop(): `work` will not run. Any thread.
  [[nodiscard]] bool post(Work work);
  // The rest of something that has begun: never refused before stop().
  void resume(Work work);
  // Waits for the work under way; what has not begun never will.
  void stop();

 private:
  void run(const std::function<void()>& begin);

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Work> queue_;  // guarded by mutex_
  std::size_t capacity_ = 0;
  bool stopped_ = false;  // guarded by mutex_
};

}  // namespace gob::file
