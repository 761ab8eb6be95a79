// PageTrace: writes the trace of one shard (trace_record.h). One thread owns it. A record costs a
// store into mapped memory; a trace that cannot grow ends with a word in the log, never the daemon.
#pragma once

#include <memory>
#include <string>

#include "libgob/base/page_set.h"
#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/protocol/event.h"
#include "libgob/runtime/trace_record.h"

namespace gob {

class PageTrace {
 public:
  // Makes the file NODE.SHARD.PID.gobtrace in an existing directory.
  static Result<std::unique_ptr<PageTrace>> create(const std::string& directory,
                                                   const std::string& node_name, NodeId node,
                                                   unsigned shard);
  ~PageTrace();
  PageTrace(const PageTrace&) = delete;
  PageTrace& operator=(const PageTrace&) = delete;

  // Each is stamped with the present time.
  void note(TraceKind kind, PageSet pages, Access access = Access::kNone);
  // Bytes packed in the order of `layout`, of which `pages` is a subset.
  void note_bytes(TraceKind kind, PageSet pages, PageSet layout, const std::byte* bytes);
  void dropped(ContainerId id);
  void view(const View& view);

 private:
  PageTrace(UniqueFd fd, TraceHeader* header, std::string path)
      : fd_(std::move(fd)), header_(header), path_(std::move(path)) {}
  void add(TraceRecord record);
  Status grow();

  UniqueFd fd_;
  TraceHeader* header_;
  const std::string path_;
  TraceRecord* chunk_ = nullptr;  // mapped; null before the first record and after the last
  std::size_t used_ = 0;          // records of it
  std::uint64_t chunks_ = 0;      // before it
};

}  // namespace gob
