// SizeLeases: how long files are, as far as this node may believe it. The home grants a lease with
// an answer and takes it back before the size changes; a read is answered only while the lease it
// was clipped by still holds. Grants and revocations carry the home's serial number and may come in
// any order. Any thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "libgob/file/inode_table.h"

namespace gob::file {

class SizeLeases {
 public:
  using Clock = std::chrono::steady_clock;
  struct Lease {
    std::uint64_t serial = 0;
    std::uint64_t size = 0;
  };

  // `on_the_way`: how long a grant may be, at most, so that what ended it must be remembered.
  using Now = std::function<Clock::time_point()>;  // for tests
  explicit SizeLeases(Clock::duration on_the_way, Now now = &Clock::now)
      : on_the_way_(on_the_way), now_(std::move(now)) {}

  void grant(const RemoteFile& file, Lease lease);
  // The same, for a read that has waited for this lease: it does not end before let_go(). False:
  // it has ended.
  [[nodiscard]] bool grant_and_hold(const RemoteFile& file, Lease lease);
  // Every lease of the file up to `serial` ends, and no answer is being given under one. False: a
  // read holds one, so they are only not found any more; they end with let_go(), or with end().
  [[nodiscard]] bool revoke(const RemoteFile& file, std::uint64_t serial);
  // One read less. Up to which serial leases have ended by this; 0: none.
  [[nodiscard]] std::uint64_t let_go(const RemoteFile& file);
  // revoke(), whoever holds one. False: they had ended.
  [[nodiscard]] bool end(const RemoteFile& file, std::uint64_t serial);
  // The link to their home is a new one: what it granted by the last it does not take back any
  // more.
  void end_all_of(NodeId home);
  [[nodiscard]] std::optional<Lease> find(const RemoteFile& file) const;
  // Calls `answer`, which must not block, unless the lease has ended: then false.
  bool answer_under(const RemoteFile& file, std::uint64_t serial,
                    const std::function<void()>& answer) const;
  // The kernel knows the file no more.
  void forget(const RemoteFile& file);
  [[nodiscard]] std::size_t size() const;  // of files that something is remembered of

 private:
  struct Entry {
    std::mutex mutex;
    Lease lease;                // serial 0: none; guarded by mutex
    std::uint64_t revoked = 0;  // up to this serial; guarded by mutex
    std::uint64_t ending = 0;   // likewise, but those who hold one may use it; guarded by mutex
    unsigned holds = 0;         // guarded by mutex
    Clock::time_point revoked_at;  // guarded by mutex_
    bool listed = false;           // in revoked_; guarded by mutex_
    bool forgotten = false;        // the kernel has, since; guarded by mutex_
  };
  std::shared_ptr<Entry> entry_to_revoke(const RemoteFile& file);
  void drop_old(Clock::time_point now);
  static bool take(Entry& entry, Lease lease);
  static void end(Entry& entry, std::uint64_t serial);
  std::shared_ptr<Entry> entry(const RemoteFile& file, bool make) const;

  const Clock::duration on_the_way_;
  const Now now_;
  mutable std::mutex mutex_;
  mutable std::map<RemoteFile, std::shared_ptr<Entry>> entries_;  // guarded by mutex_
  // Files whose leases were revoked, and not before when; guarded by mutex_.
  std::deque<std::pair<Clock::time_point, RemoteFile>> revoked_;
};

}  // namespace gob::file
