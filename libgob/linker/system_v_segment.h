// An existing System V segment, open as the file that the kernel keeps behind it.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob {

struct SystemVSegment {
  key_t key = 0;
  int id = 0;
  std::uint64_t size_bytes = 0;
  std::uint32_t mode = 0;  // permission bits
  std::uint32_t uid = 0;   // of its owner
  std::uint32_t gid = 0;
  UniqueFd file;  // keeps its memory alive; reads and writes are those of a program that has it mapped
};

// In the IPC namespace of this process. kNotFound: there is no segment with this key.
Result<SystemVSegment> open_segment(key_t key);

}  // namespace gob
