// TargetTerminal: a terminal of a migrant's own, at the node where it is, in place of the one at
// which it was started: its line discipline does what the other would do with echo, lines and
// signals. What the process writes goes there by one stream, what is typed there comes by another.
// Used by one thread; has two.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/migration/migration.pb.h"
#include "libgob/migration/stream_ring.h"

namespace gob::migration {

class TargetTerminal {
 public:
  using Rests = google::protobuf::RepeatedPtrField<Rest>;
  // `goes_on`: not to stop, and the relay at the source lives.
  static Result<std::unique_ptr<TargetTerminal>> open(const gobelins::Connection& gob,
                                                      const std::string& record,
                                                      const Terminal& terminal,
                                                      std::function<bool()> goes_on);
  ~TargetTerminal();
  TargetTerminal(const TargetTerminal&) = delete;
  TargetTerminal& operator=(const TargetTerminal&) = delete;

  // What it is here.
  [[nodiscard]] const Terminal& here() const { return here_; }
  // The process's descriptors, one for each of the devices, for CRIU; given once.
  std::vector<UniqueFd> ends();
  // CRIU has made the process, and it does not run yet: what was typed and not read is there again.
  void fill(const Rests& rests);
  // The process runs; it had written these before.
  void start(const Rests& rests);
  // The process stands still, to move on: what it wrote and nobody took, and what it has not read.
  void stop(Rests& rests);
  // The process has ended: returns when all that it wrote has left, or nobody wants it.
  void finish();
  // Readable: nobody is left at the other end, and hang_up() is to be called.
  [[nodiscard]] int fd() const { return gone_.get(); }
  void hang_up();

 private:
  TargetTerminal(StreamRing output, StreamRing keys, std::function<bool()> goes_on)
      : output_(std::move(output)), keys_(std::move(keys)), goes_on_(std::move(goes_on)) {}
  Status pass();
  Status give();
  void tell_gone();
  void join();
  void type(const std::string& bytes);
  [[nodiscard]] std::string typed();

  StreamRing output_, keys_;
  const std::function<bool()> goes_on_;
  Terminal here_;
  bool was_in_foreground_ = false;
  UniqueFd master_, slave_;  // ours
  std::vector<UniqueFd> theirs_;
  UniqueFd stop_, gone_;  // eventfds
  std::atomic<bool> stopping_{false}, finishing_{false};
  std::string rest_;    // written by the process, not put yet
  std::string unread_;  // taken out of the terminal for a move
  std::thread passes_, gives_;
};

}  // namespace gob::migration
