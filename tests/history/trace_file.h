// Traces that daemons wrote (libgob/runtime/trace_record.h), read back. Values, no thread affinity.
#pragma once

#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/runtime/trace_record.h"

namespace gob::history {

// One life of one daemon: all its shards' records, in the order of their times.
struct NodeTrace {
  unsigned node = 0;
  std::uint32_t pid = 0;
  bool killed = false;  // it did not end by itself
  std::vector<TraceRecord> records;
};

// All traces in a directory, in the order of node, then of pid. An error for a file that is no
// trace or that was cut short for want of room: what it does not tell cannot be checked.
[[nodiscard]] Result<std::vector<NodeTrace>> read_traces(const std::string& directory);

}  // namespace gob::history
