// Layout of the files that gobd writes when it is asked for a trace (trace_dir in gobd.toml(5)):
// what programs on this node may do with each page, from when to when, and what its bytes were.
// Times are CLOCK_MONOTONIC, chosen so that a right is never recorded shorter than it was: before
// the kernel call that gives it, after the one that takes it. tests/history checks such traces.
//
// A file is a TraceHeader of kTraceHeaderBytes, then TraceRecords up to the first of kind kEnd. It
// is written through a mapping: what was recorded survives the daemon. Little-endian.
#pragma once

#include <cstdint>
#include <type_traits>

#include "libgob/base/ids.h"

namespace gob {

inline constexpr char kTraceMagic[8] = {'g', 'o', 'b', 't', 'r', 'a', 'c', 'e'};
inline constexpr std::uint32_t kTraceVersion = 1;
inline constexpr std::size_t kTraceHeaderBytes = 4096;

enum class TraceEnd : std::uint32_t {
  kOpen = 1,  // being written, or its daemon was killed
  kClosed,    // the daemon ended by itself
  kCut,       // no room for more: what follows is not recorded
};

struct TraceHeader {
  char magic[8];
  std::uint32_t version;
  std::uint32_t record_bytes;
  std::uint32_t pid;  // of the daemon: tells its lives apart
  std::uint16_t node;
  std::uint16_t shard;
  TraceEnd end;
};
static_assert(sizeof(TraceHeader) == 28 && std::is_trivially_copyable_v<TraceHeader>);

enum class TraceKind : std::uint8_t {
  kEnd = 0,    // no record
  kFault,      // a program waits for `access`: the invocation
  kGranted,    // from now on programs may do `access`: the completion for all who wait
  kRefused,    // who waits for the page gets an error
  kProtected,  // no program can write to the page any more
  kGone,       // no program can read the page any more
  kStored,     // bytes with this digest are being put into its frame
  kZeroed,     // zeros are
  kRead,       // bytes with this digest were read, to be sent or written out
  kDropped,    // the container is gone, with every page of it; page 0
  kMember,     // view `digest` has `count` members; `peer` is one of them; container and page 0
};

struct TraceRecord {
  std::uint64_t time_ns;
  PageKey page;
  std::uint64_t digest;  // page_checksum() of the bytes
  std::uint32_t count;
  std::uint16_t peer;
  std::uint8_t access;  // Access
  TraceKind kind;       // written last
};
static_assert(sizeof(TraceRecord) == 32 && std::is_trivially_copyable_v<TraceRecord>);

}  // namespace gob
