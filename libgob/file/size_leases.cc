#include "libgob/file/size_leases.h"

#include <algorithm>

namespace gob::file {

std::shared_ptr<SizeLeases::Entry> SizeLeases::entry(const RemoteFile& file, bool make) const {
  const std::lock_guard guard(mutex_);
  const auto found = entries_.find(file);
  if (found != entries_.end()) return found->second;
  if (!make) return nullptr;
  return entries_.emplace(file, std::make_shared<Entry>()).first->second;
}

void SizeLeases::grant(const RemoteFile& file, Lease lease) {
  const auto known = entry(file, true);
  const std::lock_guard guard(known->mutex);
  if (lease.serial > known->revoked && lease.serial > known->lease.serial) known->lease = lease;
}

void SizeLeases::revoke(const RemoteFile& file, std::uint64_t serial) {
  // Made if need be: the grant that it ends may still be on its way.
  const auto known = entry(file, true);
  const std::lock_guard guard(known->mutex);
  known->revoked = std::max(known->revoked, serial);
  if (known->lease.serial <= known->revoked) known->lease = {};
}

std::optional<SizeLeases::Lease> SizeLeases::find(const RemoteFile& file) const {
  const auto known = entry(file, false);
  if (known == nullptr) return std::nullopt;
  const std::lock_guard guard(known->mutex);
  if (known->lease.serial == 0) return std::nullopt;
  return known->lease;
}

bool SizeLeases::answer_under(const RemoteFile& file, std::uint64_t serial,
                              const std::function<void()>& answer) const {
  const auto known = entry(file, false);
  if (known == nullptr) return false;
  const std::lock_guard guard(known->mutex);
  // A newer lease says the same as long as this one was not taken back.
  if (serial <= known->revoked || serial == 0) return false;
  answer();
  return true;
}

void SizeLeases::forget(const RemoteFile& file) {
  const std::lock_guard guard(mutex_);
  entries_.erase(file);
}

}  // namespace gob::file
