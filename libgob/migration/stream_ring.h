// StreamRing: the bytes of one pipe whose ends are on two nodes, in a container. Bounded: who writes
// waits for who reads. A move of one end takes nothing from it. Each end is used by one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <gob.hpp>
#include <string>

#include "libgob/base/result.h"

namespace gob::migration {

class StreamRing {
 public:
  // Room for `streams` of them, in one container.
  static Status create(const gobelins::Connection& gob, const std::string& record,
                       std::size_t streams);
  static Result<StreamRing> open(const gobelins::Connection& gob, const std::string& record,
                                 std::size_t index);

  // Whether to go on waiting; asked after each change, and now and then.
  using GoOn = std::function<bool()>;
  // How many of the bytes were put: fewer if nobody reads any more, or not `go_on`.
  Result<std::size_t> put(const char* from, std::size_t bytes, const GoOn& go_on);
  // Copies up to `bytes` from position `at` on, without taking them; waits for some. 0: the writer has
  // closed and all was read, or not `go_on`.
  Result<std::size_t> look(std::uint64_t at, char* to, std::size_t bytes, const GoOn& go_on);
  // What lies before this position may be overwritten.
  Status take(std::uint64_t before);
  // Returns when all that was put is taken, nobody reads any more, or not `go_on`.
  Status await_taken(const GoOn& go_on);
  [[nodiscard]] Result<std::uint64_t> taken() const;
  // No more bytes; nobody reads any more.
  Status close_writer() { return close(true); }
  Status close_reader() { return close(false); }
  [[nodiscard]] Result<bool> is_closed(bool writer) const;
  // Whoever waits looks whether to go on.
  void wake();
  // A word that goes beside the bytes, from who writes to who reads: it is woken.
  Status put_note(std::uint64_t note);
  [[nodiscard]] Result<std::uint64_t> note() const;

 private:
  struct Header;
  StreamRing(const gobelins::Connection& gob, std::string lock, gobelins::Mapping memory)
      : gob_(gob), lock_(std::move(lock)), memory_(std::move(memory)) {}
  Status close(bool writer);
  // Under the lock.
  Status wait();
  void say_changed();
  [[nodiscard]] Header* header() const;
  [[nodiscard]] char* data() const;

  gobelins::Connection gob_;
  std::string lock_;
  gobelins::Mapping memory_;
};

std::string streams_of(const std::string& record);
// Held by whoever relays at the source, and by whoever does where the process is, as long as they
// live.
std::string relay_lock(const std::string& record, bool source);

}  // namespace gob::migration
