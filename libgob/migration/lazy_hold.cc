// LazyServer, when the migrant moves on before all its memory has reached it.
#include <algorithm>
#include <vector>

#include "libgob/migration/inspect.h"
#include "libgob/migration/lazy_server.h"

namespace gob::migration {
std::uint64_t LazyServer::pages_out() {
  const std::lock_guard lock(mutex_);
  std::uint64_t pages = 0;
  for (const Task& task : tasks_)
    if (!task.ended) pages += task.ranges.pages();
  return pages;
}

// Brings one page that is out: this tells whether the address space still exists, and, for that of
// a fork, whose it is: the kernel says so of no userfaultfd. `lock`, of mutex_, is let go
// meanwhile, so that faults are answered. kUnavailable: the process changes its memory; what it
// does counts.
Status LazyServer::identify(Task& task, const Processes& processes,
                            std::unique_lock<std::mutex>& lock) {
  while (!task.ended && !task.ranges.empty()) {
    const LazyRanges::Run run = *task.ranges.next(0, 1);
    lock.unlock();
    std::vector<const ResidentRequest::Process*> without;
    for (const ResidentRequest::Process& process : processes)
      if (present_pages(process.pid(), run.address, 1).empty()) without.push_back(&process);
    const auto bytes = store_.bring(run.page, 1, Asker::kFault, kMoverLane);
    lock.lock();
    if (!bytes) return bytes.error();
    if (task.ended) return {};
    if (task.ranges.find(run.address, 1) != run) continue;  // a fault was faster: the next one
    if (copy(task, run.address, *bytes, 1) == Copied::kLater)
      return make_error(ErrorCode::kUnavailable, "the process changes its address space right now");
    if (task.ended || task.pid != 0) return {};
    std::erase_if(without, [&](const auto* each) {
      return present_pages(each->pid(), run.address, 1).empty();
    });
    if (without.size() == 1) task.pid = without.front()->inside();
    return {};
  }
  return {};
}

Status LazyServer::hold(const Processes& processes) {
  std::unique_lock lock(mutex_);
  streaming_ = false;
  holding_ = true;
  for (Task& task : tasks_) task.early.clear();
  for (Task& task : tasks_)
    if (Status known = identify(task, processes, lock);
        !known && known.error().code != ErrorCode::kUnavailable)
      return known;
  return {};
}

void LazyServer::resume(bool stream) {
  {
    const std::lock_guard lock(mutex_);
    holding_ = false;
    for (Task& task : tasks_) task.recent = {};
    streaming_ = stream;
  }
  work_.notify_all();
}

Status LazyServer::collect(const Processes& processes, Memory& out) {
  std::unique_lock lock(mutex_);
  for (Task& task : tasks_) {
    if (Status known = identify(task, processes, lock); !known) return known;
    if (task.ended || (task.ranges.empty() && task.recent.empty())) continue;
    if (task.pid == 0)
      return make_error(ErrorCode::kUnavailable,
                        "the process has just started another, whose memory is still on its way");
    Memory::Task& entry = *out.add_tasks();
    entry.set_pid(task.pid);
    for (const LazyRanges* ranges : {&task.ranges, &task.recent}) {
      for (const LazyRanges::Run& run : ranges->runs()) {
        Run& each = *entry.add_runs();
        each.set_start(run.address);
        each.set_page(run.page);
        each.set_pages(run.pages);
      }
    }
  }
  store_.describe(out);
  return {};
}

}  // namespace gob::migration
