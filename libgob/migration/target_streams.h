// TargetStreams: the pipes of a migrant whose other ends stayed where it was started, at the node
// where it is. Used by one thread; has one for each pipe.
#pragma once

#include <atomic>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/migration/migration.pb.h"
#include "libgob/migration/stream_ring.h"
#include "libgob/migration/target_terminal.h"

namespace gob::migration {

class TargetStreams {
 public:
  using Streams = google::protobuf::RepeatedPtrField<Stream>;
  using Rests = google::protobuf::RepeatedPtrField<Rest>;

  // Makes new pipes for them, and a terminal if there is one (null: none). Moves no byte yet.
  static Result<std::unique_ptr<TargetStreams>> open(const std::string& socket,
                                                     const std::string& record,
                                                     const Streams& streams,
                                                     const Terminal* terminal);
  ~TargetStreams();
  TargetStreams(const TargetStreams&) = delete;
  TargetStreams& operator=(const TargetStreams&) = delete;

  // The ends that are the process's, for CRIU, in the order of open(). They are given once.
  std::vector<UniqueFd> ends();
  // What they are here.
  [[nodiscard]] Streams here() const;
  [[nodiscard]] TargetTerminal* terminal() const { return terminal_.get(); }
  // The process runs; it had written these before.
  void start(const Rests& rests);
  // The process stands still, to move on: what it wrote and nobody took. What it has not read yet
  // will be read again.
  Rests stop();
  // The process has ended: returns when all that it wrote has left, or nobody wants it.
  void finish();

 private:
  struct Pump {
    Stream stream;  // with the inode number of the pipe here
    StreamRing ring;
    UniqueFd ours, theirs;
    std::string rest;           // written by the process, not put yet
    std::optional<std::uint64_t> position;  // given to the process; none: nothing moved yet
    std::thread thread;
  };
  TargetStreams(gobelins::Connection gob, std::string record)
      : gob_(std::move(gob)), record_(std::move(record)) {}
  Status give(Pump& pump);
  Status pass(Pump& pump);
  bool goes_on();
  // `pump.ours` is read by another thread, too (here()).
  void close(Pump& pump);
  void join();

  gobelins::Connection gob_;
  const std::string record_;
  UniqueFd stop_;  // readable: stop
  std::atomic<bool> stopping_{false};
  bool started_ = false;
  std::list<Pump> pumps_;
  std::unique_ptr<TargetTerminal> terminal_;
  mutable std::mutex mutex_;  // over these two, and the closing of ends
  bool source_lives_ = true;
  std::chrono::steady_clock::time_point next_look_{};
};

}  // namespace gob::migration
