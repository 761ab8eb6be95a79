// IoWorker: the one thread that waits for a device on behalf of a shard. Jobs run in the order in
// which they were submitted; their ends are announced through an eventfd. submit() and collect()
// belong to the shard's thread.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob {

class IoJob {
 public:
  virtual ~IoJob() = default;
  // On the worker's thread; keeps its outcome in itself.
  virtual void run() = 0;
  // The same, and for as many of the jobs right behind it as can be done in one call of the system:
  // returns how many those are.
  virtual std::size_t run_with(std::span<const std::unique_ptr<IoJob>> behind) {
    static_cast<void>(behind);
    run();
    return 0;
  }
};

class IoWorker {
 public:
  // `capacity`: jobs that were accepted and are not yet collected, beyond which it calls itself
  // full.
  static Result<std::unique_ptr<IoWorker>> start(std::size_t capacity);
  // Waits for the job that runs; those behind it are dropped.
  ~IoWorker();
  IoWorker(const IoWorker&) = delete;
  IoWorker& operator=(const IoWorker&) = delete;

  [[nodiscard]] bool full() const { return under_way_ >= capacity_; }
  void submit(std::unique_ptr<IoJob> job);
  // Readable when collect() has jobs.
  [[nodiscard]] int fd() const { return event_.get(); }
  // Appends the jobs that ended, in order.
  void collect(std::vector<std::unique_ptr<IoJob>>& out);

 private:
  IoWorker(std::size_t capacity, UniqueFd event) : capacity_(capacity), event_(std::move(event)) {}
  void work();

  const std::size_t capacity_;
  const UniqueFd event_;
  std::size_t under_way_ = 0;  // the shard's thread only
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::unique_ptr<IoJob>> queue_;  // guarded by mutex_
  std::vector<std::unique_ptr<IoJob>> ended_;  // guarded by mutex_
  bool stop_ = false;                          // guarded by mutex_
  std::thread thread_;
};

}  // namespace gob
