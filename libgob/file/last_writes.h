// LastWrites: what still goes to the disk of files that no node knows any more, by attachment, and
// who waits for that. Any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
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

class LastWrites {
 public:
  // One file's. It ends when the last who holds it lets it go.
  class Write {
   public:
    Write(LastWrites& writes, std::uint64_t number) : writes_(writes), number_(number) {}
    ~Write() { writes_.end(number_); }
    Write(const Write&) = delete;
    Write& operator=(const Write&) = delete;

    void fail(const Error& error) { writes_.fail(number_, error); }

   private:
    LastWrites& writes_;
    const std::uint64_t number_;
  };

  // Everything begun ends before this does.
  [[nodiscard]] std::shared_ptr<Write> begin(ContainerId attached);
  // `all` is held until those of the attachment that have begun by now have ended, and hears which
  // failed.
  void await(ContainerId attached, const std::shared_ptr<Gathered>& all);
  void await_all(const std::shared_ptr<Gathered>& all);

 private:
  struct UnderWay {
    ContainerId attached;
    std::vector<std::shared_ptr<Gathered>> waiting;
  };
  void fail(std::uint64_t number, const Error& error);
  void end(std::uint64_t number);

  std::mutex mutex_;
  std::map<std::uint64_t, UnderWay> under_way_;  // guarded by mutex_
  std::uint64_t last_ = 0;                       // guarded by mutex_
};

}  // namespace gob::file
