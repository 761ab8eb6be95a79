#include "libgob/migration/common_losses.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <list>
#include <mutex>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

#include "libgob/base/unique_fd.h"
#include "libgob/migration/common_loss.h"

namespace gob::migration {
namespace {

constexpr unsigned kAtOnce = 3;  // each needs some descriptors

struct Loss {
  std::vector<pid_t> pids;
  std::function<void()> then;
};

}  // namespace

struct CommonLosses::Work {
  explicit Work(UniqueFd event) : ended_event(std::move(event)) {}

  void run() {
    std::unique_lock lock(mutex);
    for (;;) {
      // A process is stopped by one at a time. Whoever has it goes on with this afterwards.
      const auto next = std::ranges::find_if(waiting, [this](const Loss& loss) {
        return std::ranges::none_of(loss.pids, [this](pid_t pid) { return busy.contains(pid); });
      });
      if (next == waiting.end()) break;
      Loss loss = std::move(*next);
      waiting.erase(next);
      busy.insert(loss.pids.begin(), loss.pids.end());
      lock.unlock();
      for (const pid_t pid : loss.pids) lose_common(pid);
      lock.lock();
      for (const pid_t pid : loss.pids) busy.erase(pid);
      ended.push_back(std::move(loss.then));
      ::eventfd_write(ended_event.get(), 1);
    }
    --running;
  }

  const UniqueFd ended_event;
  std::size_t open = 0;  // begun and not reaped; the caller's own
  std::mutex mutex;
  // Guarded by mutex:
  std::list<Loss> waiting;
  std::set<pid_t> busy;  // with those that have them
  std::vector<std::function<void()>> ended;
  unsigned running = 0;

  std::vector<std::jthread> threads;  // last: they end first
};

Result<CommonLosses> CommonLosses::create() {
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return system_error("making an eventfd for processes that lose shared memory");
  return CommonLosses(std::make_unique<Work>(std::move(event)));
}

CommonLosses::CommonLosses(std::unique_ptr<Work> work) : work_(std::move(work)) {}
CommonLosses::CommonLosses(CommonLosses&&) noexcept = default;

CommonLosses::~CommonLosses() {
  if (work_ == nullptr) return;
  const std::lock_guard lock(work_->mutex);
  work_->waiting.clear();
}

void CommonLosses::begin(std::vector<pid_t> pids, std::function<void()> then) {
  ++work_->open;
  {
    const std::lock_guard lock(work_->mutex);
    work_->waiting.push_back({std::move(pids), std::move(then)});
    if (work_->running == kAtOnce) return;
    ++work_->running;
  }
  try {
    work_->threads.emplace_back([work = work_.get()] { work->run(); });
  } catch (const std::system_error&) {
    work_->run();  // there are too many threads on this machine
  }
}

int CommonLosses::ended() const { return work_->ended_event.get(); }

void CommonLosses::reap() {
  eventfd_t count = 0;
  if (::eventfd_read(work_->ended_event.get(), &count) != 0) return;
  std::vector<std::function<void()>> ended;
  {
    const std::lock_guard lock(work_->mutex);
    ended.swap(work_->ended);
  }
  work_->open -= ended.size();
  if (work_->open == 0) work_->threads.clear();  // none has anything left to do
  for (const auto& then : ended) then();
}

bool CommonLosses::idle() const { return work_->open == 0; }

}  // namespace gob::migration
