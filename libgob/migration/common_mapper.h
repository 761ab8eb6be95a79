// CommonMapper: maps containers into programs that are visited, through one connection to gobd, and
// looks after what it mapped: also in the children that these programs fork, and where they move it
// by mremap(2). One thread, which is the tracer.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/linker/mapping.h"
#include "libgob/migration/common_guard.h"
#include "libgob/migration/common_losses.h"
#include "libgob/migration/common_memory.h"
#include "libgob/migration/visit.h"
#include "libgob/runtime/control_client.h"

namespace gob::migration {

// gobd's end, and that of a mapper and its guard: what happens to mappings (MappingNews).
struct NewsSocket {
  static Result<NewsSocket> create();
  UniqueFd told, heard;
};

class CommonMapper {
 public:
  CommonMapper(std::unique_ptr<ControlClient> gobd, CommonGuard guard, NewsSocket news,
               CommonLosses losses)
      : gobd_(std::move(gobd)),
        guard_(std::move(guard)),
        news_(std::move(news)),
        losses_(std::move(losses)) {}

  // A container that will be mapped over an area of a process.
  struct Plan {
    std::string container;
    SharedArea area;
    std::uint64_t mapping = 0;  // gobd's number
    int memory = -1;            // a number in the process
    UniqueFd uffd;              // of the process
  };
  // All that may fail is done; nothing has changed for the process. The area's offset counts in the
  // container.
  Result<Plan> plan(Visit& visit, const std::string& container, const SharedArea& area);
  // The container is there, and belongs to the process until that ends.
  Status map(Visit& visit, Plan plan);
  // A plan that is not carried out, or a mapping that is not there any more.
  void forget(std::uint64_t mapping);

  // Descriptors that are readable once a process has ended.
  [[nodiscard]] std::vector<int> ends() const;
  [[nodiscard]] int gobd() const { return gobd_->fd(); }
  // Readable when hear() has something to do; -1: nothing can be heard before the next look().
  [[nodiscard]] int news() const { return no_room_ ? -1 : news_.heard.get(); }
  void hear();
  // Takes what is left of containers away from processes (lose_common), which may take long, and
  // calls `then` in look().
  void lose(std::vector<pid_t> pids, std::function<void()> then) {
    losses_.begin(std::move(pids), std::move(then));
  }
  [[nodiscard]] int lost() const { return losses_.ended(); }
  // From time to time, and when lost() is readable: lets go of processes that have ended, and looks
  // which children there are.
  void look();
  [[nodiscard]] bool idle() const {
    return held_.empty() && children_.empty() && strays_.empty() && !no_room_ && losses_.idle();
  }
  struct Held {
    UniqueFd process;
    std::vector<NamedArea> areas;
    std::vector<std::uint64_t> mappings;
    std::vector<UniqueFd> uffds;
    bool child = false;  // its mappings are among children_
  };
  [[nodiscard]] const std::map<pid_t, Held>& held() const { return held_; }
  // As long as this does, or longer if it dies (CommonGuard).
  Status uses(const std::string& container, int keeper) { return guard_.uses(container, keeper); }
  Status hold_key(int segment) { return guard_.hold_key(segment); }
  // Of all processes, without harm to them.
  void done() { guard_.done(); }

 private:
  using Clock = std::chrono::steady_clock;
  // A copy of an area, in a process that was forked, or one that was moved. Whose it is is not
  // said, and does not matter.
  struct Child {
    std::uint64_t mapping = 0;  // 0: gobd does not serve it yet
    std::uint64_t former = 0;   // the mapping before it moved
    UniqueFd uffd;
    NamedArea area;
    bool tried = false;  // to give it to gobd
  };
  Result<std::uint32_t> open(const std::string& container);
  Result<ControlClient::Answer> ask(const std::string& container, const SharedArea& area);
  Status ready(std::uint64_t mapping, std::uint64_t address, int uffd);
  bool hear_one();
  [[nodiscard]] std::uint64_t latest(std::uint64_t mapping) const;
  void adopt(Held& held, std::uint64_t mapping);
  void moved(const MappingNews& news);
  void wake_child(int number, std::uint64_t address, std::uint64_t bytes);
  void reap_processes();
  // common_children.cc
  void forked(int number, const NamedArea& area, UniqueFd uffd);
  Status serve(Child& child);
  bool move_child(const MappingNews& news, Child& child);
  void reap_children();
  void find_children();
  void serve_children();
  void relieve();
  void end_newest();
  [[nodiscard]] std::set<std::uint64_t> inodes() const;
  // How many areas that process has, which is a child.
  std::size_t take_in(pid_t pid, const std::set<std::uint64_t>& inodes);

  std::unique_ptr<ControlClient> gobd_;
  CommonGuard guard_;
  NewsSocket news_;
  CommonLosses losses_;  // after the guard, which would else begin with the same processes
  std::map<std::string, std::uint32_t> opened_;
  std::map<std::uint64_t, NamedArea> areas_;                           // by gobd's numbers
  std::deque<std::pair<Clock::time_point, std::uint64_t>> forgotten_;  // some of them
  std::map<std::uint64_t, std::uint64_t> followed_by_;  // forgotten ones, when the memory moved
  std::map<pid_t, Held> held_;
  std::map<int, Child> children_;  // by the guard's numbers
  int last_child_ = 0;
  int looks_ = 0;  // for children, that are still to be had
  Clock::time_point next_look_{};
  // Of children whose parents' mapping nobody remembers: they wait, and read no zeros.
  std::map<int, UniqueFd> strays_;
  // The first of the news stays in the socket: there is no room for its descriptor.
  bool no_room_ = false;
  std::string refused_;  // a child waits because gobd has no room: what it says
  std::optional<Clock::time_point> starving_since_;
  Clock::time_point next_complaint_{};
};

}  // namespace gob::migration
