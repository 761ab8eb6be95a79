// CommonWakes: threads that sleep in common memory until a word changes (futex(2): process-shared
// locks, conditions, semaphores). Whoever changes it wakes those that sleep on its own node, by a
// call that no other node sees. So the keeper of each node looks which threads sleep, and wakes
// those whose word is not any more what they saw; a thread that is woken for nothing looks and
// sleeps again, as futex(2) demands. One thread.
#pragma once

#include <sys/types.h>

#include <gob.hpp>
#include <map>
#include <string>
#include <vector>

#include "libgob/migration/common_memory.h"

namespace gob::migration {

class CommonWakes {
 public:
  explicit CommonWakes(gobelins::Connection gob) : gob_(std::move(gob)) {}
  // Looks at the threads of a process with these areas. True: some sleep there.
  bool look(pid_t pid, const std::vector<NamedArea>& areas);

 private:
  // The byte of a container; null: it cannot be reached any more.
  char* at(const std::string& container, std::uint64_t offset);
  gobelins::Connection gob_;
  std::map<std::string, gobelins::Mapping> memory_;
};

}  // namespace gob::migration
