// LastWrites: what still goes to the disk of files that no node knows any more, by attachment, and
// of containers of an earlier life of this node; and who waits for that. Any thread.
#pragma once

#include <cerrno>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "libgob/base/ids.h"
#include "libgob/base/result.h"

namespace gob::file {

// Tells `done` the first failure, or that there was none, when the last who holds it lets it go, on
// that one's thread.
class Gathered {
 public:
  using Done = std::function<void(const Status&)>;

  explicit Gathered(Done done) : done_(std::move(done)) {}
  ~Gathered() { done_(status_); }
  Gathered(const Gathered&) = delete;
  Gathered& operator=(const Gathered&) = delete;

  void add(const Status& status) {
    const std::lock_guard guard(mutex_);
    if (!status && status_) status_ = status;
  }

 private:
  const Done done_;
  std::mutex mutex_;
  Status status_;  // guarded by mutex_
};

// What is to be done was dropped: it is no success, though nobody says that it failed.
[[nodiscard]] inline Error dropped_write() {
  return make_error(ErrorCode::kUnavailable,
                    "gobd ended before it was on the disk; start it again, and try again",
                    ESHUTDOWN);
}

// A part of what is gathered, such as one file. Failed, if it goes and nobody has said how it
// ended.
class Part {
 public:
  explicit Part(std::shared_ptr<Gathered> all) : all_(std::move(all)) {}
  ~Part() {
    if (!ended_) all_->add(dropped_write());
  }
  Part(const Part&) = delete;
  Part& operator=(const Part&) = delete;

  void end(const Status& status) {
    ended_ = true;
    all_->add(status);
  }

 private:
  const std::shared_ptr<Gathered> all_;
  bool ended_ = false;
};

class LastWrites {
 public:
  // One file's. It is over when the last who holds it lets it go; failed, if nobody has said by
  // then how it ended.
  class Write {
   public:
    Write(LastWrites& writes, std::uint64_t number) : writes_(writes), number_(number) {}
    ~Write() {
      if (!ended_) end(dropped_write());
      writes_.over(number_);
    }
    Write(const Write&) = delete;
    Write& operator=(const Write&) = delete;

    void end(const Status& status) {
      ended_ = true;
      if (!status) writes_.fail(number_, status.error());
    }

   private:
    LastWrites& writes_;
    const std::uint64_t number_;
    bool ended_ = false;
  };

  // Everything begun is over before this is. `attachments`: by which the file was reached.
  // `file`: who wants to use that one may wait for it.
  [[nodiscard]] std::shared_ptr<Write> begin(std::set<ContainerId> attachments,
                                             std::string file = {});
  // True: one of the file is under way, and `go_on` is called when it is over, on that one's
  // thread. `file` is asked only if one of any such file is.
  [[nodiscard]] bool after(const std::function<std::string()>& file, std::function<void()> go_on);
  // `all` is held until those of the attachment that have begun by now are over, and hears which
  // failed; also of one that failed earlier, when nobody waited.
  void await(ContainerId attached, const std::shared_ptr<Gathered>& all);
  void await_all(const std::shared_ptr<Gathered>& all);

 private:
  struct UnderWay {
    std::set<ContainerId> attachments;
    std::string file;
    std::vector<std::shared_ptr<Gathered>> waiting;
    std::set<ContainerId> awaited;  // those of `attachments` for whose end somebody waits
    std::vector<std::function<void()>> after;
  };
  void fail(std::uint64_t number, const Error& error);
  void over(std::uint64_t number);

  std::mutex mutex_;
  std::map<std::uint64_t, UnderWay> under_way_;  // guarded by mutex_
  std::map<ContainerId, Error> untold_;          // guarded by mutex_
  std::uint64_t last_ = 0;                       // guarded by mutex_
};

}  // namespace gob::file
