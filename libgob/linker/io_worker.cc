#include "libgob/linker/io_worker.h"

#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <iterator>
#include <system_error>

namespace gob {

Result<std::unique_ptr<IoWorker>> IoWorker::start(std::size_t capacity) {
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return system_error("cannot create an eventfd for the disk thread");
  std::unique_ptr<IoWorker> worker(new IoWorker(capacity, std::move(event)));
  // Signals are for the thread that waits for them.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  Status started;
  try {
    worker->thread_ = std::thread([raw = worker.get()] { raw->work(); });
  } catch (const std::system_error& error) {
    started = make_error(ErrorCode::kSystem, "cannot start the disk thread", error.code().value());
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!started) return started.error();
  return worker;
}

IoWorker::~IoWorker() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void IoWorker::submit(std::unique_ptr<IoJob> job) {
  ++under_way_;
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(job));
  }
  wake_.notify_one();
}

void IoWorker::collect(std::vector<std::unique_ptr<IoJob>>& out) {
  std::uint64_t count = 0;
  static_cast<void>(::read(event_.get(), &count, sizeof count));
  const std::size_t before = out.size();
  {
    const std::lock_guard lock(mutex_);
    std::move(ended_.begin(), ended_.end(), std::back_inserter(out));
    ended_.clear();
  }
  under_way_ -= out.size() - before;
}

void IoWorker::work() {
  std::vector<std::unique_ptr<IoJob>> batch;
  while (true) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stop_ || !queue_.empty(); });
      if (stop_) return;
      batch.swap(queue_);
    }
    const std::span<const std::unique_ptr<IoJob>> jobs(batch);
    for (std::size_t i = 0; i < batch.size();) {
      const std::size_t end = i + 1 + batch[i]->run_with(jobs.subspan(i + 1));
      {
        const std::lock_guard lock(mutex_);
        for (; i < end; ++i) ended_.push_back(std::move(batch[i]));
        if (stop_) return;
      }
      const std::uint64_t one = 1;
      // Cannot fail short of 2^64 jobs.
      static_cast<void>(::write(event_.get(), &one, sizeof one));
    }
    batch.clear();
  }
}

}  // namespace gob
