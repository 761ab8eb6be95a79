// What the patched kernel can link to a container: an existing System V segment or plain file of this
// node, open as a file.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob {

struct Linkable {
  key_t key = 0;              // of a segment; 0: a plain file
  std::string path;           // of a plain file
  std::uint32_t identity = 0;  // the same each time it is opened; unlike that of others in use
  std::uint64_t size_bytes = 0;
  std::uint32_t mode = 0;  // permission bits
  std::uint32_t uid = 0;   // of its owner
  std::uint32_t gid = 0;
  // Keeps it alive; reads and writes are those of a program that has it open.
  UniqueFd file;

  [[nodiscard]] bool is_segment() const { return key != 0; }
  // For messages: "segment 0x0000002a", "file '/srv/data'".
  [[nodiscard]] std::string name() const;
};

// In the IPC namespace of this process. kNotFound: there is no segment with this key.
Result<Linkable> open_segment(key_t key);

// What a file is to be that is not there yet.
struct NewFile {
  std::uint64_t size_bytes = 0;
  std::uint32_t mode = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};

// `full_path` must name a regular file, not by a symbolic link at its end. If it is not there it is
// made if `make` says how, with nothing on the disk, else kNotFound. Waits for the disk.
Result<Linkable> open_plain_file(const std::string& full_path, const std::optional<NewFile>& make);

// What of a file that is about to be unlinked is in memory only gets to its disk: all pages are
// written to (with what is in them), and then the file is synced. By a process of its own, since
// a fault waits for this one with the memory map locked. Programs may go on.
Status settle_file(int file, std::uint64_t pages);

}  // namespace gob
