// LostMemory: copies of mappings in programs that nobody looks after any more, as when whoever made
// them was killed, and its guard, too. What such a program has not raises SIGBUS; what it has is
// taken from it as from all others (MapLinker). Used by one thread, which never waits.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "libgob/base/ids.h"
#include "libgob/base/unique_fd.h"
#include "libgob/linker/mapping.h"

namespace gob {

class LostMemory {
 public:
  void hold(std::shared_ptr<const Mapping> mapping);
  // A child's of the program of this mapping.
  void hold(UniqueFd uffd, const Mapping& parent);
  [[nodiscard]] bool empty() const { return copies_.empty(); }
  // A part of what is to be done, as long as this is not empty: every few milliseconds. Returns
  // pages that are to be taken away from all programs of this node: one waits to write to each,
  // where it may only read, and gets an error when it has it no more.
  std::vector<PageId> step();

 private:
  struct Copy {
    std::shared_ptr<const Mapping> mapping;  // which has the descriptor,
    UniqueFd own;                            // or this is it
    PageId first{};                          // at this address
    std::uint64_t address = 0, pages = 0;
    std::uint64_t next = 0;              // page to be refused
    std::vector<std::uint64_t> writers;  // addresses of pages: they may be read there
    bool somewhere = false;              // the program has some of it
    bool moved = false;    // by mremap(2): nobody knows where it is, but its faults say so
    bool refused = false;  // all of it was, once: what is taken away since then faults
    [[nodiscard]] int uffd() const { return own ? own.get() : mapping->uffd(); }
  };
  static bool refuse_some(Copy& copy, std::uint64_t& left);
  static void place(Copy& copy, const Mapping& mapping);
  void answer(Copy& copy, std::vector<PageId>& unwanted);
  std::list<Copy> copies_;
};

}  // namespace gob
