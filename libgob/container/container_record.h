// ContainerRecord: a container's name, size and owner, and who may do what with it, as System V
// segments have it. Values: no thread affinity.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "libgob/base/ids.h"
#include "libgob/base/result.h"
#include "libgob/protocol/event.h"

namespace gob {

inline constexpr std::size_t kMaxNameBytes = 128;
inline constexpr std::size_t kMaxContainers = 65536;
inline constexpr std::size_t kMaxGroups = 65536;  // NGROUPS_MAX

struct Credentials {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> groups;  // supplementary
  friend bool operator==(const Credentials&, const Credentials&) = default;
};

enum class Right : std::uint8_t {
  kRead,
  kWrite,
  kAdmin,  // remove: the owner and root
};

// What a container's pages stand for.
enum class ContainerKind : std::uint8_t {
  kMemory,   // nothing but memory
  kFile,     // a file on the disk of its home
  kTree,     // no pages: a folder on its home's disk, shown under every node's mount
  kSegment,  // memory that began as a System V segment of its home, which has the pages nobody has
  kProcess,  // the memory of stopped processes of its home, which is only read
};
inline constexpr ContainerKind kLastContainerKind = ContainerKind::kProcess;
inline constexpr std::size_t kMaxSourceBytes = 4096;

// Which request made a container, unique over all processes of the cluster.
struct RequestId {
  NodeId node;
  std::uint64_t incarnation = 0;
  std::uint64_t sequence = 0;
  friend auto operator<=>(const RequestId&, const RequestId&) = default;
};

struct ContainerRecord {
  ContainerInfo info;
  std::string name;
  ContainerKind kind = ContainerKind::kMemory;
  std::string source;            // for its home alone: where the file or tree is
  std::uint64_t size_bytes = 0;  // as asked for; info.pages is it rounded up; a tree has none
  std::uint32_t mode = 0600;     // 0 .. 0777
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint64_t created_unix_ms = 0;
  RequestId creator;
  friend bool operator==(const ContainerRecord&, const ContainerRecord&) = default;
};

[[nodiscard]] bool may(const ContainerRecord& record, const Credentials& who, Right right);

// 1 to kMaxNameBytes of printable UTF-8, no '/', no leading dot: a name is also a file name.
[[nodiscard]] Status check_name(std::string_view name);
// 1 byte to kMaxPages pages.
[[nodiscard]] Status check_size(std::uint64_t size_bytes);
[[nodiscard]] Status check_mode(std::uint32_t mode);
// All but memory have a home and a source, memory has neither, a tree has no size.
[[nodiscard]] Status check_kind(const ContainerRecord& record);
// All of the above; what a peer says is checked like what a program says.
[[nodiscard]] Status check_record(const ContainerRecord& record);

// `name` in quotes with odd bytes as \xNN, for messages and logs.
[[nodiscard]] std::string quoted(std::string_view name);

constexpr std::uint64_t pages_of(std::uint64_t size_bytes) {
  return size_bytes / kPageSize + (size_bytes % kPageSize != 0 ? 1 : 0);
}

}  // namespace gob
