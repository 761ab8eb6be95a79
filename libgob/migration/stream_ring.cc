#include "libgob/migration/stream_ring.h"

#include <algorithm>
#include <cstddef>

#include "libgob/base/ids.h"
#include "libgob/migration/migrant.h"
#include "libgob/migration/shared_memory.h"
#include "libgob/migration/talk.h"

namespace gob::migration {
namespace {

constexpr std::uint64_t kRingBytes = std::uint64_t{64} << 10;
constexpr std::uint64_t kStride = kPageSize + kRingBytes;
constexpr std::chrono::milliseconds kPatience{30'000};
// A death is noticed after at most this long; bytes themselves are events.
constexpr std::chrono::milliseconds kLookForDeath{500};

class Lock {
 public:
  static Result<Lock> take(const gobelins::Connection& gob, const std::string& name) {
    const auto taken = take_lock(gob, name, kPatience);
    if (!taken) return taken.error();
    if (!*taken)
      return make_error(ErrorCode::kTimedOut, "the other end of a stream is stopped");
    return Lock(gob, name);
  }
  Lock(Lock&& other) noexcept : gob_(other.gob_), name_(std::exchange(other.name_, nullptr)) {}
  Lock& operator=(Lock&&) = delete;
  ~Lock() {
    if (name_ != nullptr) ::gob_unlock(gob_->get(), name_->c_str());
  }

 private:
  Lock(const gobelins::Connection& gob, const std::string& name) : gob_(&gob), name_(&name) {}
  const gobelins::Connection* gob_;
  const std::string* name_;
};

}  // namespace

// By load() and store() only, under the lock.
struct StreamRing::Header {
  std::uint64_t written;  // bytes, ever
  std::uint64_t taken;
  std::uint32_t writer_closed;
  std::uint32_t reader_closed;
  std::uint64_t note;
};

std::string streams_of(const std::string& record) {
  constexpr std::size_t kPrefix = std::string_view("migrant").size();
  return "migrant-streams" + record.substr(kPrefix);
}
std::string relay_lock(const std::string& record, bool source) {
  return record + (source ? ".here" : ".there");
}

Status StreamRing::create(const gobelins::Connection& gob, const std::string& record,
                          std::size_t streams) {
  try {
    gobelins::Connection(gob).create(streams_of(record), streams * kStride);
    return {};
  } catch (const std::system_error& error) {
    return error_of(error, "making room for the standard streams");
  }
}

Result<StreamRing> StreamRing::open(const gobelins::Connection& gob, const std::string& record,
                                    std::size_t index) {
  try {
    return StreamRing(gob, record + ".s" + std::to_string(index),
                      gobelins::Connection(gob).open(streams_of(record)).map(index * kStride, kStride));
  } catch (const std::system_error& error) {
    return error_of(error, "opening the standard streams");
  }
}

StreamRing::Header* StreamRing::header() const { return static_cast<Header*>(memory_.data()); }
char* StreamRing::data() const { return static_cast<char*>(memory_.data()) + kPageSize; }

Status StreamRing::wait() {
  const std::string changed = lock_ + ".changed";
  const int got = ::gob_cond_wait(gob_.get(), changed.c_str(), lock_.c_str(), kLookForDeath.count());
  if (got == 0 || got == -ETIMEDOUT || got == -EOWNERDEAD) return {};
  return make_error(ErrorCode::kUnavailable, ::gob_last_error(), -got);
}

void StreamRing::wake() {
  const auto lock = Lock::take(gob_, lock_);
  say_changed();
}

void StreamRing::say_changed() {
  ::gob_cond_broadcast(gob_.get(), (lock_ + ".changed").c_str(), lock_.c_str());
}

Result<std::size_t> StreamRing::put(const char* from, std::size_t bytes, const GoOn& go_on) {
  const auto lock = Lock::take(gob_, lock_);
  if (!lock) return lock.error();
  std::size_t done = 0;
  while (done < bytes) {
    const auto now = load(header());
    if (!now) return now.error();
    if (now->reader_closed != 0) break;
    const std::uint64_t room = kRingBytes - (now->written - now->taken);
    const std::uint64_t at = now->written % kRingBytes;
    const std::size_t step = std::min<std::uint64_t>({room, bytes - done, kRingBytes - at});
    if (step == 0) {
      if (!go_on()) break;
      if (Status waited = wait(); !waited) return waited.error();
      continue;
    }
    if (Status put = store(data() + at, from + done, step); !put) return put.error();
    if (Status put = store(&header()->written, now->written + step); !put) return put.error();
    done += step;
    say_changed();
  }
  return done;
}

Result<std::size_t> StreamRing::look(std::uint64_t position, char* to, std::size_t bytes,
                                     const GoOn& go_on) {
  const auto lock = Lock::take(gob_, lock_);
  if (!lock) return lock.error();
  while (true) {
    const auto now = load(header());
    if (!now) return now.error();
    const std::uint64_t at = position % kRingBytes;
    const std::size_t step =
        std::min<std::uint64_t>({now->written - position, bytes, kRingBytes - at});
    if (step != 0) {
      if (Status got = load(to, data() + at, step); !got) return got.error();
      return step;
    }
    if (now->writer_closed != 0 || !go_on()) return std::size_t{0};
    if (Status waited = wait(); !waited) return waited.error();
  }
}

Status StreamRing::take(std::uint64_t before) {
  const auto lock = Lock::take(gob_, lock_);
  if (!lock) return lock.error();
  Status taken = store(&header()->taken, before);
  say_changed();
  return taken;
}

Status StreamRing::await_taken(const GoOn& go_on) {
  const auto lock = Lock::take(gob_, lock_);
  if (!lock) return lock.error();
  while (true) {
    const auto now = load(header());
    if (!now) return now.error();
    if (now->taken == now->written || now->reader_closed != 0 || !go_on()) return {};
    if (Status waited = wait(); !waited) return waited;
  }
}

Result<std::uint64_t> StreamRing::taken() const { return load(&header()->taken); }

Status StreamRing::put_note(std::uint64_t note) {
  const auto lock = Lock::take(gob_, lock_);
  if (!lock) return lock.error();
  Status put = store(&header()->note, note);
  say_changed();
  return put;
}

Result<std::uint64_t> StreamRing::note() const { return load(&header()->note); }

Status StreamRing::close(bool writer) {
  const auto lock = Lock::take(gob_, lock_);
  if (!lock) return lock.error();
  Status closed = store(writer ? &header()->writer_closed : &header()->reader_closed, 1U);
  say_changed();
  return closed;
}

Result<bool> StreamRing::is_closed(bool writer) const {
  const auto closed = load(writer ? &header()->writer_closed : &header()->reader_closed);
  if (!closed) return closed.error();
  return *closed != 0;
}

}  // namespace gob::migration
