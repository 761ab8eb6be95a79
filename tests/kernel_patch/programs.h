// Programs that know nothing of Gobelins, for the tests of what the patched kernel links.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "tests/system/nodes.h"

namespace gob {

inline constexpr int kWaitMs = 60'000;

inline pid_t spawn(const std::function<bool()>& program) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(program() ? 0 : 1);
  return pid;
}

inline int run(const std::function<bool()>& program) { return Nodes::wait_for(spawn(program), kWaitMs); }

// Of what is attached as `name` and has `pages` pages, those of `lost` died with node 1, and are to be
// zeros after a detach that is told so; until then nothing changes.
inline void detach_with_losses(const Nodes& nodes, const std::string& name, std::size_t pages,
                               const Nodes::Lost& lost, const std::string& in_words) {
  // Until the node's death is known pages are awaited: they are not lost yet.
  std::string why;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kWaitMs);
  do
    why = nodes.detach(0, name);
  while (why.find("lost for good") == std::string::npos && !why.empty() &&
         std::chrono::steady_clock::now() < deadline);
  std::uint64_t count = 0;
  for (const auto& run : lost) count += run.second;
  EXPECT_NE(why.find(std::to_string(count) + " of its " + std::to_string(pages) + " pages"),
            std::string::npos)
      << why;
  EXPECT_NE(why.find(": " + in_words + ";"), std::string::npos) << why;
  EXPECT_NE(why.find("--lossy"), std::string::npos) << why;
  Nodes::Lost told;
  EXPECT_EQ(nodes.detach(0, name, /*lossy=*/true, &told), "");
  EXPECT_EQ(told, lost);
}

// A child, mprotect and mremap, of what `pages` pages of two nodes share. Word 0 of each of the first
// 32 pages is its number + 7 before; pages 1, 3 and 4 hold 70, 71 and 72 afterwards.
template <class Linked>
void change_mappings(const Linked& first, const Linked& second, std::size_t pages) {
  for (std::size_t page = 0; page < 32; ++page) first.word(page) = page + 7;
  EXPECT_EQ(run([&] {  // a child of a program that has it mapped
              second.word(1) = 70;
              return second.word(2) == 9;
            }),
            0);
  EXPECT_EQ(first.word(1), 70u);
  EXPECT_EQ(run([&] {  // mprotect: read-only and back
              if (::mprotect(second.bytes(), 8 * 4096, PROT_READ) != 0) return false;
              if (second.word(3) != 10) return false;
              if (::mprotect(second.bytes(), 8 * 4096, PROT_READ | PROT_WRITE) != 0) return false;
              second.word(3) = 71;
              return true;
            }),
            0);
  EXPECT_EQ(first.word(3), 71u);
  EXPECT_EQ(run([&] {  // mremap: elsewhere
              void* const moved =
                  ::mremap(second.bytes(), pages * 4096, pages * 4096,
                           MREMAP_MAYMOVE | MREMAP_FIXED, reinterpret_cast<void*>(0x600000000000));
              if (moved == MAP_FAILED) return false;
              auto* const words = static_cast<std::uint64_t*>(moved);
              words[4 * 512] = 72;
              return words[5 * 512] == 12;
            }),
            0);
  EXPECT_EQ(first.word(4), 72u);
}

}  // namespace gob
