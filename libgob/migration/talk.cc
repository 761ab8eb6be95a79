#include "libgob/migration/talk.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>

#include "libgob/base/ids.h"
#include "libgob/migration/shared_memory.h"

namespace gob::migration {
namespace {

constexpr std::size_t kSlotBytes = std::size_t{4} << 20;
constexpr std::size_t kRoomBytes = std::size_t{4} << 20;  // behind the slots
// A death is noticed after at most this long; messages themselves are events.
constexpr std::chrono::milliseconds kLookForDeath{300};
using Clock = std::chrono::steady_clock;

// It will be read, then written: one way through the cluster instead of two. If it fails, so will they.
void take(const void* page) {
  static_cast<void>(::madvise(const_cast<void*>(page), kPageSize, MADV_POPULATE_WRITE));
}

}  // namespace

struct Talk::Slot {
  std::uint32_t full;
  std::uint32_t bytes;
  char data[kSlotBytes - 8];
};

Error error_of(const std::system_error& error, const std::string& what) {
  const int number = error.code().value();
  const ErrorCode code = number == ENOTCONN ? ErrorCode::kUnavailable
                         : number == ENOENT ? ErrorCode::kNotFound
                                            : ErrorCode::kSystem;
  return make_error(code, what + ": " + error.what());
}

Result<bool> try_take(gobelins::Mutex& life) {
  try {
    return life.try_lock();
  } catch (const std::system_error& error) {
    if (error.code().value() == EOWNERDEAD) return true;
    return error_of(error, "looking who lives");
  }
}

Result<bool> is_held(gobelins::Mutex& life) {
  const auto taken = try_take(life);
  if (!taken) return taken.error();
  try {
    if (*taken) life.unlock();
  } catch (const std::system_error& error) {
    return error_of(error, "looking who lives");
  }
  return !*taken;
}

std::string Talk::life_of(const std::string& session, End end) {
  return session + (end == End::kSource ? ".source" : ".target");
}

Talk::Talk(const gobelins::Connection& gob, const std::string& session, End self,
           gobelins::Mapping memory)
    : gob_(gob),
      self_(self),
      session_(session),
      mutex_(gob_.mutex(session + ".lock")),
      changed_(gob_.condition(session + ".changed", mutex_)),
      peer_life_(gob_.mutex(life_of(session, self == End::kSource ? End::kTarget : End::kSource))),
      memory_(std::move(memory)) {}

Result<Talk> Talk::open(const gobelins::Connection& gob, const std::string& session, End self) {
  try {
    gobelins::Connection mine = gob;
    if (self == End::kSource) mine.create(container_of(session), 2 * kSlotBytes + kRoomBytes);
    mine.mutex(life_of(session, self)).lock();  // until this connection ends
    return Talk(gob, session, self, mine.open(container_of(session)).map());
  } catch (const std::system_error& error) {
    return error_of(error, "opening the migration's container");
  }
}

Talk::Slot* Talk::slot(End end) const {
  return static_cast<Slot*>(memory_.data()) + static_cast<unsigned>(end);
}

std::string_view Talk::room() const {
  return {static_cast<const char*>(memory_.data()) + 2 * kSlotBytes, kRoomBytes};
}

// If it fails the pages come one by one.
void Talk::warm_room(std::size_t bytes) const {
  static_cast<void>(::madvise(const_cast<char*>(room().data()), std::min(bytes, kRoomBytes),
                              MADV_POPULATE_WRITE));
}

Status Talk::check_peer() {
  const auto held = is_held(peer_life_);
  if (!held) return held.error();
  if (*held) return {};
  return make_error(ErrorCode::kUnavailable,
                    std::string(self_ == End::kSource ? "the target" : "the source") +
                        "'s side of the migration, its node or the link to it died");
}

bool wait_for_news(gobelins::Condition& changed, std::chrono::milliseconds timeout) {
  try {
    return changed.wait(timeout);
  } catch (const std::system_error& error) {
    if (error.code().value() != EOWNERDEAD) throw;
    return true;
  }
}

void await_end(const gobelins::Connection& gob, const std::string& life,
               std::chrono::milliseconds limit) {
  const int taken = gob_lock(gob.get(), life.c_str(), limit.count());
  // Otherwise it still lives, or gobd is gone and nobody can remove anything.
  if (taken == 0 || taken == -EOWNERDEAD) gob_unlock(gob.get(), life.c_str());
}

Error Talk::reason_of(const Error& error) {
  const Status peer = check_peer();
  return peer ? error : peer.error();
}

// With mutex_ held.
Status Talk::wait(gobelins::Condition& changed) {
  if (wait_for_news(changed, kLookForDeath) || !heard_) return {};
  return check_peer();
}

Status Talk::send(const Message& message, Milliseconds timeout) {
  const std::string bytes = message.SerializeAsString();
  if (bytes.size() > sizeof Slot::data)
    return make_error(ErrorCode::kInvalidArgument, "a message of the migration is too large");
  try {
    const Held lock(mutex_);
    heard_ = heard_ || lock.owner_died();
    const auto deadline = Clock::now() + timeout;
    Slot& mine = *slot(self_);
    take(&mine);
    auto full = load(&mine.full);
    while (full && *full != 0) {
      if (const Status status = wait(changed_); !status) return status;
      full = load(&mine.full);
      if (full && *full != 0 && Clock::now() > deadline)
        return make_error(ErrorCode::kTimedOut, "the other end does not take messages");
    }
    if (!full) return reason_of(full.error());
    if (Status put = store(mine.data, bytes.data(), bytes.size()); !put) return put;
    const std::uint32_t head[2] = {1, static_cast<std::uint32_t>(bytes.size())};
    if (Status put = store(&mine, head, sizeof head); !put) return put;
    changed_.broadcast();
    return {};
  } catch (const std::system_error& error) {
    return error_of(error, "saying something to the other end");
  }
}

Result<Message> Talk::receive(Milliseconds timeout) {
  try {
    const Held lock(mutex_);
    heard_ = heard_ || lock.owner_died();
    const auto deadline = Clock::now() + timeout;
    Slot& theirs = *slot(self_ == End::kSource ? End::kTarget : End::kSource);
    auto full = load(&theirs.full);
    while (full && *full == 0) {
      const Status status = wait(changed_);
      take(&theirs);
      full = load(&theirs.full);
      if (full && *full != 0) break;  // said, then died: still said
      if (!status) return status.error();
      if (Clock::now() > deadline)
        return make_error(ErrorCode::kTimedOut, "the other end does not answer");
    }
    if (!full) return reason_of(full.error());
    const auto size = load(&theirs.bytes);
    if (!size) return size.error();
    std::string bytes(std::min<std::size_t>(*size, sizeof theirs.data), '\0');
    if (Status got = load(bytes.data(), theirs.data, bytes.size()); !got) return got.error();
    if (Status taken = store(&theirs.full, std::uint32_t{0}); !taken) return taken.error();
    Message message;
    const bool good = message.ParseFromString(bytes);
    heard_ = true;
    changed_.broadcast();
    if (!good) return make_error(ErrorCode::kProtocol, "the other end said what is no message");
    return message;
  } catch (const std::system_error& error) {
    return error_of(error, "waiting for the other end");
  }
}

}  // namespace gob::migration
