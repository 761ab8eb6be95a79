// What travels between FileData's callers and the shards: reads and writes, and the home's jobs.
// Whoever drops the last reference to one that nobody has answered answers it with an error, so
// that each `done` is called exactly once, whatever ends first.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "libgob/base/page_set.h"
#include "libgob/linker/file_data.h"
#include "libgob/protocol/event.h"

namespace gob {

inline Error file_data_ended() {
  return make_error(ErrorCode::kUnavailable, "gobd is ending: the page was not read or written",
                    EIO);
}

// One read or write. Its parts, one for each stripe, belong to the shards of their stripes.
struct FileAccess {
  FileAccess(ContainerId id, std::uint64_t at, Caching cached, FileData::Done then)
      : container(id), offset(at), caching(cached), done(std::move(then)) {}
  ~FileAccess() {
    if (done) done(file_data_ended());
  }
  FileAccess(const FileAccess&) = delete;
  FileAccess& operator=(const FileAccess&) = delete;

  const ContainerId container;
  const std::uint64_t offset;
  const Caching caching;
  std::byte* out = nullptr;       // a read
  const std::byte* in = nullptr;  // a write
  bool takes = false;  // a read that makes this node the only one with the pages
  bool counted = false;  // whoever asks has few under way: it is never refused for lack of room
  std::uint64_t length = 0;
  std::vector<PageSet> parts;  // constant once it is posted

  struct Answer {
    FileData::Done done;  // null: it is not time
    std::optional<Error> error;
  };
  // With the mutex held: so many more parts have ended. The last of them gets the answer to give.
  [[nodiscard]] Answer end_parts(std::size_t count, const std::optional<Error>& why) {
    if (why && !error) error = why;
    parts_left -= count;
    if (parts_left != 0 || std::exchange(answered, true)) return {};
    return {std::exchange(done, nullptr), error};
  }

  std::mutex mutex;
  std::size_t parts_left = 0;  // guarded by mutex
  bool answered = false;       // guarded by mutex; then the bytes are with the caller
  std::optional<Error> error;  // guarded by mutex
  FileData::Done done;         // whoever sets `answered`, once

  [[nodiscard]] bool writes() const { return in != nullptr; }
  [[nodiscard]] Access wanted() const { return writes() || takes ? Access::kWrite : Access::kRead; }
  [[nodiscard]] std::uint64_t end() const { return offset + length; }
  // The kernel may keep what was read only if it is current when the reply is given.
  [[nodiscard]] bool must_stay_current() const { return !writes() && caching == Caching::kKernel; }
};

// The pages of one access in one stripe.
struct FilePart {
  std::shared_ptr<FileAccess> access;
  PageSet pages;
  std::uint64_t ahead = 0;  // of the same stripe, to be asked for with it
  std::uint64_t done = 0;   // mask: read or written
  std::uint64_t since_ns = 0;
  unsigned drops = 0;    // the kernel's copies that have to go first
  unsigned asked = 0;    // pages of the shard's ReadWindow that it takes
  bool in_line = false;  // of the ReadWindow
  unsigned undone = 0;   // how often a page left before the answer
  std::vector<std::uint64_t> kept_drops;  // of pages that left and are in the answer all the same
  bool counted = false;  // it is no longer among the parts left
  bool over = false;     // may be forgotten
};

// The end of what several shards do together: the last of them calls `done`. A share that a shard
// let go of unfinished is a failure.
struct FileJoin {
  FileJoin(std::size_t shares, FileData::Done then) : done(std::move(then)), missing(shares) {}
  ~FileJoin() {
    if (!error && missing != 0) error = file_data_ended();
    done(error ? Status(*error) : Status());
  }
  FileJoin(const FileJoin&) = delete;
  FileJoin& operator=(const FileJoin&) = delete;

  void fail(const Error& why) {
    const std::lock_guard lock(mutex);
    if (!error) error = why;
  }
  void finish() {
    const std::lock_guard lock(mutex);
    --missing;
  }

  FileData::Done done;
  std::mutex mutex;
  std::optional<Error> error;  // guarded by mutex
  std::size_t missing;         // shares that are not finished; guarded by mutex
};

// One shard's share of a write-back or discard of the pages [first, end) of a container.
struct FileJob {
  ContainerId container;
  bool discard = false;
  std::uint64_t first = 0;
  std::uint64_t end = 0;
  std::shared_ptr<FileJoin> join;  // null: write-back on the shard's own account
  std::deque<PageSet> todo;
  std::size_t under_way = 0;  // pages
  bool finished = false;
};

}  // namespace gob
