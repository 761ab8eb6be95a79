// SizeLeases: how long files are, as far as this node may believe it. The home grants a lease with
// an answer and takes it back before the size changes; a read is answered only while the lease it
// was clipped by still holds. Grants and revocations carry the home's serial number and may come in
// any order. Any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "libgob/file/inode_table.h"

namespace gob::file {

class SizeLeases {
 public:
  struct Lease {
    std::uint64_t serial = 0;
    std::uint64_t size = 0;
  };

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
  [[nodiscard]] std::optional<Lease> find(const RemoteFile& file) const;
  // Calls `answer`, which must not block, unless the lease has ended: then false.
  bool answer_under(const RemoteFile& file, std::uint64_t serial,
                    const std::function<void()>& answer) const;
  // The kernel knows the file no more.
  void forget(const RemoteFile& file);

 private:
  struct Entry {
    std::mutex mutex;
    Lease lease;                // serial 0: none; guarded by mutex
    std::uint64_t revoked = 0;  // up to this serial; guarded by mutex
    std::uint64_t ending = 0;   // likewise, but those who hold one may use it; guarded by mutex
    unsigned holds = 0;         // guarded by mutex
  };
  static bool take(Entry& entry, Lease lease);
  static void end(Entry& entry, std::uint64_t serial);
  std::shared_ptr<Entry> entry(const RemoteFile& file, bool make) const;

  mutable std::mutex mutex_;
  mutable std::map<RemoteFile, std::shared_ptr<Entry>> entries_;  // guarded by mutex_
};

}  // namespace gob::file
