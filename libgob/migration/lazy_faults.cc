// LazyServer's threads for faults: what the migrant waits for, and what it does to its memory.
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>

#include "libgob/migration/hurry.h"
#include "libgob/migration/lazy_server.h"

namespace gob::migration {
namespace {

// Faults in a row that are each no further from the last tell where a program is: the stream goes
// there. One pair alone may be chance.
constexpr std::uint64_t kNear = std::uint64_t{1} << 20;
constexpr unsigned kNearFaults = 2;
constexpr int kRetryMs = 1;  // while a change of the address space is under way

}  // namespace

// For faults: the stream copies no further piece before them.
std::unique_lock<std::mutex> LazyServer::lock_first() {
  ++faults_first_;
  std::unique_lock lock(mutex_);
  if (--faults_first_ == 0) faults_first_.notify_all();
  return lock;
}

void LazyServer::read_events(Task& task) {
  const auto lock = lock_first();
  std::array<uffd_msg, 16> events;
  while (true) {
    const ssize_t got = ::read(task.uffd.get(), events.data(), sizeof events);
    if (got < 0 && (errno == EMFILE || errno == ENFILE)) {
      // Its fork would never return; without an end all who wait for it would stay, too.
      failure_ = failure_.value_or(make_error(
          ErrorCode::kNoSpace,
          "no file descriptor is left for a child of the process; raise the limit of open files",
          errno));
      return;
    }
    if (got <= 0) {
      if (got < 0 && errno != EAGAIN && errno != EINTR) task.ended = true;
      return;
    }
    for (std::size_t i = 0; i < static_cast<std::size_t>(got) / sizeof(uffd_msg); ++i) {
      const auto& arg = events[i].arg;
      switch (events[i].event) {
        case UFFD_EVENT_PAGEFAULT:
          task.waiting.push_back(arg.pagefault.address & ~(std::uint64_t{kPageSize} - 1));
          break;
        case UFFD_EVENT_REMAP:
          task.ranges.move(arg.remap.from, arg.remap.to, arg.remap.len);
          task.recent.move(arg.remap.from, arg.remap.to, arg.remap.len);
          break;
        case UFFD_EVENT_REMOVE:
        case UFFD_EVENT_UNMAP:
          task.ranges.drop(arg.remove.start, arg.remove.end);
          task.recent.drop(arg.remove.start, arg.remove.end);
          break;
        case UFFD_EVENT_FORK: {
          Task& child = tasks_.emplace_back();
          child.uffd.reset(static_cast<int>(arg.fork.ufd));
          ::fcntl(child.uffd.get(), F_SETFL, O_NONBLOCK);
          child.ranges = task.ranges;
          child.recent = task.recent;
          on_uffd_(child.uffd.get());
          break;
        }
        default:
          break;
      }
    }
  }
}

// With mutex_ held. An event that was not read yet is in the way.
void LazyServer::put_off(Task& task, std::uint64_t address) {
  task.later.push_back(address);
  wake();
}

void LazyServer::answer(Task& task, std::uint64_t address, unsigned lane) {
  const auto begin = std::chrono::steady_clock::now();
  std::optional<LazyRanges::Run> run;
  {
    const auto lock = lock_first();
    // Who goes through memory in order gets more with each fault, of what the source fills at once.
    const std::uint64_t window = address == task.behind ? std::min(2 * task.window, kFillPages) : 1;
    run = task.ranges.find(address, window);
    if (run) {
      run->pages = std::min(run->pages, kFillPages - run->page % kFillPages);
      task.window = run->pages;
      const std::uint64_t behind = address + run->pages * kPageSize;
      // A program that is here and there would send the stream to and fro: each start costs it as
      // much as hundreds of pages, and containers that are half empty keep their frames.
      const bool near = task.behind < address + kNear && address < task.behind + kNear;
      task.near = near ? task.near + 1 : 0;
      if (task.near >= kNearFaults) task.cursor = behind;
      task.behind = behind;
      asked_.insert(run->page);
    } else {
      uffdio_zeropage zero{};
      zero.range = {address, kPageSize};
      if (::ioctl(task.uffd.get(), UFFDIO_ZEROPAGE, &zero) == 0) {
        ++counts_.zero_faults;
      } else if (errno == EEXIST) {
        ::ioctl(task.uffd.get(), UFFDIO_WAKE, &zero.range);
      } else if (errno == ESRCH) {
        task.ended = true;
      } else if (errno == EAGAIN) {
        put_off(task, address);
      }  // else the memory is gone, and whoever waited for it with it
      return;
    }
  }
  const auto bytes = store_.bring(run->page, run->pages, Asker::kFault, lane);
  if (!bytes) return fail(bytes.error());
  const auto lock = lock_first();
  asked_.erase(asked_.find(run->page));
  // The program may have moved or dropped pages while they came.
  const auto still = task.ranges.find(address, run->pages);
  if (!still || still->page != run->page ||
      copy(task, address, *bytes, still->pages) == Copied::kLater) {
    put_off(task, address);
    return;
  }
  ++counts_.faults;
  if (may_have_used_up()) work_.notify_all();
  const auto took = static_cast<std::uint64_t>(
      std::chrono::nanoseconds(std::chrono::steady_clock::now() - begin).count());
  counts_.fault_ns += took;
  ++counts_.slots[std::min<std::size_t>(std::bit_width(took / 1000), counts_.slots.size() - 1)];
}

// The next one to be answered; none: it is over.
std::optional<LazyServer::Fault> LazyServer::next_fault() {
  const std::lock_guard leader(leader_);
  while (true) {
    std::vector<Task*> tasks;  // a list: they stay where they are
    std::vector<pollfd> fds{{wake_.get(), POLLIN, 0}};
    bool again = false;
    {
      const std::lock_guard lock(mutex_);
      if (stopping_ || failure_) return std::nullopt;
      for (Task& task : tasks_) {
        if (task.ended) continue;
        if (!task.waiting.empty()) {
          const std::uint64_t address = task.waiting.back();
          task.waiting.pop_back();
          return Fault{&task, address};
        }
        tasks.push_back(&task);
        fds.push_back({task.uffd.get(), POLLIN, 0});
        again = again || !task.later.empty();
      }
    }
    if (::poll(fds.data(), fds.size(), again ? kRetryMs : -1) < 0 && errno != EINTR) {
      fail(system_error("waiting for page faults of the process"));
      return std::nullopt;
    }
    if (fds[0].revents != 0) {
      std::uint64_t count = 0;
      static_cast<void>(!::read(wake_.get(), &count, sizeof count));
    }
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      if ((fds[i + 1].revents & (POLLHUP | POLLERR)) != 0) {
        const std::lock_guard lock(mutex_);
        tasks[i]->ended = (fds[i + 1].revents & POLLIN) == 0;
      }
      if (fds[i + 1].revents != 0) read_events(*tasks[i]);
      if (!again) continue;
      const std::lock_guard lock(mutex_);
      std::vector<std::uint64_t> later = std::exchange(tasks[i]->later, {});
      tasks[i]->waiting.insert(tasks[i]->waiting.end(), later.begin(), later.end());
    }
    if (finished() || failure()) say_changed();
  }
}

void LazyServer::serve_faults(unsigned lane) {
  bool hurried = true;  // as whoever made this thread, until the process runs
  while (const auto fault = next_fault()) {
    if (hurried) {
      const std::lock_guard lock(mutex_);
      if (runs_ && std::exchange(hurried, false)) work_at(priority_);
    }
    answer(*fault->task, fault->address, lane);
    if (finished() || failure()) say_changed();
  }
}

}  // namespace gob::migration
