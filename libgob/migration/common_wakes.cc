#include "libgob/migration/common_wakes.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "libgob/migration/proc.h"
#include "libgob/migration/shared_memory.h"

namespace gob::migration {

namespace fs = std::filesystem;

bool CommonWakes::look(pid_t pid, const std::vector<NamedArea>& areas) {
  bool sleeps = false;
  std::error_code error;
  for (fs::directory_iterator it(proc(pid, "task"), error), end; !error && it != end;
       it.increment(error)) {
    std::string line;
    std::getline(std::ifstream(it->path() / "syscall"), line);  // or "running"
    long number = -1;
    std::uint64_t address = 0, operation = 0, seen = 0;
    if (std::sscanf(line.c_str(), "%ld %lx %lx %lx", &number, &address, &operation, &seen) != 4 ||
        (number != SYS_futex && number != SYS_restart_syscall) ||
        (operation & FUTEX_PRIVATE_FLAG) != 0)
      continue;
    // One with a time limit that was interrupted, by us or by a signal, goes on as
    // restart_syscall(2), with the registers it had. Another call that does so is not harmed:
    // nobody sleeps at what it has there.
    const std::uint64_t what = operation & static_cast<std::uint64_t>(FUTEX_CMD_MASK);
    if (what != FUTEX_WAIT && what != FUTEX_WAIT_BITSET) continue;
    for (const auto& [container, area] : areas) {
      if (address - area.address >= area.bytes) continue;
      sleeps = true;
      const auto* word = reinterpret_cast<const std::uint32_t*>(
          at(container, area.offset + (address - area.address)));
      const auto now =
          word != nullptr ? load(word) : Result<std::uint32_t>(static_cast<std::uint32_t>(seen));
      if (now && *now != static_cast<std::uint32_t>(seen))
        ::syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
    }
  }
  return sleeps;
}

char* CommonWakes::at(const std::string& container, std::uint64_t offset) {
  gobelins::Mapping& memory = memory_[container];
  try {
    if (memory.data() == nullptr) memory = gob_.open(container).map();
  } catch (const std::system_error&) {
    return nullptr;
  }
  return static_cast<char*>(memory.data()) + offset;
}

}  // namespace gob::migration
