// What the kernel says of a process's memory areas in smaps(5). The text of an area of 1 GiB takes
// as long as looking at each of its pages does; maps(5) takes no time, but lacks what an area's
// flags are.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gob::migration {

// One area of a text, which has to outlive it.
struct SmapsArea {
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  std::string_view text;   // all lines
  std::string_view head;   // the first, which is its line in maps(5)
  std::string_view flags;  // " rd wr mr …", of the line VmFlags; empty: there is none
};
std::vector<SmapsArea> areas_of_smaps(std::string_view smaps);

// A file of /proc/PID; empty if it cannot be read to its end.
std::string read_process_file(pid_t pid, const char* name);

// Are the areas of `smaps` those of `maps`, with the same bounds, rights and files?
bool is_of_maps(const std::vector<SmapsArea>& smaps, std::string_view maps);

// Are they the same areas with the same flags? That pages were written ("sd") does not count.
bool has_same_flags(const std::vector<SmapsArea>& some, const std::vector<SmapsArea>& others);

}  // namespace gob::migration
