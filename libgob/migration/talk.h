// Talk: messages between the two ends of one migration, through a container. Each end sees the
// death of the other: it cannot take a lock that the other holds as long as it lives. Used by one
// thread.
#pragma once

#include <chrono>
#include <gob.hpp>
#include <string>
#include <string_view>
#include <system_error>

#include "libgob/base/result.h"
#include "libgob/migration/migration.pb.h"

namespace gob::migration {

enum class End : unsigned { kSource, kTarget };

class Talk {
 public:
  using Milliseconds = std::chrono::milliseconds;

  // `session` names the migration in the cluster. The source makes the container first; whoever
  // ends last removes it.
  static Result<Talk> open(const gobelins::Connection& gob, const std::string& session, End self);

  // Waits until the other end took its last message. kUnavailable: it died; kTimedOut.
  Status send(const Message& message, Milliseconds timeout);
  Result<Message> receive(Milliseconds timeout);
  // Memory of the session for what is too long for a message: the source puts it there before it sends
  // the message that tells of it, the target takes it from there. Not through pointers, but by load(),
  // store(), read(2) and write(2), which make errors of pages that cannot be had.
  [[nodiscard]] std::string_view room() const;
  // Takes the first `bytes` of the room to this node: less is left to do when it is used.
  void warm_room(std::size_t bytes) const;
  // kUnavailable if the other end has died, or this node's gobd.
  Status check_peer();
  // Why a container of the session cannot be reached: since the other end has died, and it was
  // removed, or as `error` says.
  Error reason_of(const Error& error);

  static std::string container_of(const std::string& session) { return session + ".talk"; }
  // Name of the lock that says that this end of the session lives.
  static std::string life_of(const std::string& session, End end);

 private:
  struct Slot;
  Talk(const gobelins::Connection& gob, const std::string& session, End self,
       gobelins::Mapping memory);
  [[nodiscard]] Slot* slot(End end) const;
  Status wait(gobelins::Condition& changed);

  gobelins::Connection gob_;
  End self_;
  std::string session_;
  gobelins::Mutex mutex_;
  gobelins::Condition changed_;
  gobelins::Mutex peer_life_;
  gobelins::Mapping memory_;
  bool heard_ = false;  // the other end is there: from now on its absence is its death
};

// Takes a lock that nobody holds, or whose holder has died; false: somebody has it. Errors: gobd is
// gone.
Result<bool> try_take(gobelins::Mutex& life);
// Is a lock that stands for a living program held by it?
Result<bool> is_held(gobelins::Mutex& life);
// Until whoever holds the lock `life` as long as it lives has ended, but not longer than `limit`:
// before containers are removed that it may still read or fill.
void await_end(const gobelins::Connection& gob, const std::string& life,
               std::chrono::milliseconds limit);
// Holds a lock of the cluster. Unlike std::lock_guard it bears that the last holder died, since what
// these locks guard is said by single words, whole or not at all; and that gobd ends meanwhile: then
// there is nothing to unlock any more.
class Held {
 public:
  explicit Held(gobelins::Mutex& mutex)
      : mutex_(mutex), owner_died_(mutex.lock_owner_died()) {}
  ~Held() {
    try {
      mutex_.unlock();
    } catch (const std::system_error&) {
      return;
    }
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  [[nodiscard]] bool owner_died() const { return owner_died_; }

 private:
  gobelins::Mutex& mutex_;
  const bool owner_died_;
};
// Condition::wait() under such a lock: the death of another holder is news, and so true.
bool wait_for_news(gobelins::Condition& changed,
                   std::chrono::milliseconds timeout = gobelins::kForever);
// Calls of gob.hpp throw; this side of the project returns errors.
Error error_of(const std::system_error& error, const std::string& what);

}  // namespace gob::migration
