// CommonMapper: maps containers into programs that are visited, through one connection to gobd, and
// looks after what it mapped. One thread, which is the tracer.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/migration/common_guard.h"
#include "libgob/migration/common_memory.h"
#include "libgob/migration/visit.h"
#include "libgob/runtime/control_client.h"

namespace gob::migration {

class CommonMapper {
 public:
  CommonMapper(std::unique_ptr<ControlClient> gobd, CommonGuard guard)
      : gobd_(std::move(gobd)), guard_(std::move(guard)) {}

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

  // Descriptors that are readable once a process, or gobd, has ended.
  [[nodiscard]] std::vector<int> ends() const;
  [[nodiscard]] int gobd() const { return gobd_->fd(); }
  // Lets go of processes that have ended.
  void reap();
  [[nodiscard]] bool idle() const { return held_.empty(); }
  struct Held {
    UniqueFd process;
    std::vector<NamedArea> areas;
    std::vector<std::uint64_t> mappings;
    std::vector<UniqueFd> uffds;
  };
  [[nodiscard]] const std::map<pid_t, Held>& held() const { return held_; }
  // Of all processes, without harm to them.
  void done() { guard_.done(); }

 private:
  Result<std::uint32_t> open(const std::string& container);

  std::unique_ptr<ControlClient> gobd_;
  CommonGuard guard_;
  std::map<std::string, std::uint32_t> opened_;
  std::map<pid_t, Held> held_;
};

}  // namespace gob::migration
