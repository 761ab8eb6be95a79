#include "libgob/file/worker_pool.h"

#include <sys/prctl.h>

namespace gob::file {

Status WorkerPool::start(unsigned threads, std::size_t capacity, std::function<void()> begin) {
  capacity_ = capacity;
  try {
    for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this, begin] { run(begin); });
  } catch (const std::system_error& error) {
    stop();
    return make_error(ErrorCode::kSystem, "cannot start the threads that work on files",
                      error.code().value());
  }
  return {};
}

bool WorkerPool::post(Work work) {
  {
    const std::lock_guard guard(mutex_);
    if (stopped_ || queue_.size() >= capacity_) return false;
    queue_.push_back(std::move(work));
  }
  wake_.notify_one();
  return true;
}

void WorkerPool::resume(Work work) {
  {
    const std::lock_guard guard(mutex_);
    if (stopped_) return;
    queue_.push_back(std::move(work));
  }
  wake_.notify_one();
}

void WorkerPool::stop() {
  std::deque<Work> unrun;
  {
    const std::lock_guard guard(mutex_);
    stopped_ = true;
    unrun.swap(queue_);
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void WorkerPool::run(const std::function<void()>& begin) {
  ::prctl(PR_SET_NAME, "gob-file");
  begin();
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopped_ || !queue_.empty(); });
    if (stopped_) return;
    Work work = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    work();
    work = nullptr;  // what it holds goes before the lock is taken
    lock.lock();
  }
}

}  // namespace gob::file
