// What both parts of CommonMapper use: that about mappings (common_mapper.cc), and that about
// children (common_children.cc).
#pragma once

#include <cstdint>
#include <string>

namespace gob::migration {

// Of descriptors: for gobd's answers, for a look at processes, and to be in one.
constexpr int kReserve = 32;
// Any address that a process could have.
constexpr std::uint64_t kSomewhere = std::uint64_t{1} << 30;

// The process of a userfaultfd still has the memory that it was made for. The kernel says so of a
// call that fails in any case, since its bytes cannot be read.
bool has_memory(int uffd, std::uint64_t address);
// A keeper of a node that processes only leave has no log of its own.
void tell(const std::string& what);

}  // namespace gob::migration
