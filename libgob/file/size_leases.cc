#include "libgob/file/size_leases.h"

#include <algorithm>
#include <vector>

namespace gob::file {

std::shared_ptr<SizeLeases::Entry> SizeLeases::entry(const RemoteFile& file, bool make) const {
  const std::lock_guard guard(mutex_);
  const auto found = entries_.find(file);
  if (found != entries_.end()) {
    if (make) found->second->forgotten = false;
    return found->second;
  }
  if (!make) return nullptr;
  return entries_.emplace(file, std::make_shared<Entry>()).first->second;
}

bool SizeLeases::take(Entry& entry, Lease lease) {
  if (lease.serial <= std::max(entry.revoked, entry.ending)) return false;
  if (lease.serial > entry.lease.serial) entry.lease = lease;
  return true;
}

void SizeLeases::end(Entry& entry, std::uint64_t serial) {
  entry.revoked = std::max(entry.revoked, serial);
  entry.ending = std::max(entry.ending, serial);
  if (entry.lease.serial <= entry.ending) entry.lease = {};
}

void SizeLeases::grant(const RemoteFile& file, Lease lease) {
  const auto known = entry(file, true);
  const std::lock_guard guard(known->mutex);
  static_cast<void>(take(*known, lease));
}

bool SizeLeases::grant_and_hold(const RemoteFile& file, Lease lease) {
  const auto known = entry(file, true);
  const std::lock_guard guard(known->mutex);
  if (!take(*known, lease)) return false;
  ++known->holds;
  return true;
}

// Made if need be: the grant that it ends may still be on its way. It may also be for nothing,
// since the kernel has forgotten the file: then nobody calls forget() any more.
std::shared_ptr<SizeLeases::Entry> SizeLeases::entry_to_revoke(const RemoteFile& file) {
  const Clock::time_point now = now_();
  const std::lock_guard guard(mutex_);
  drop_old(now);
  std::shared_ptr<Entry>& known = entries_[file];
  if (known == nullptr) known = std::make_shared<Entry>();
  known->revoked_at = now;
  known->forgotten = false;
  if (!std::exchange(known->listed, true)) revoked_.emplace_back(now, file);
  return known;
}

void SizeLeases::drop_old(Clock::time_point now) {
  while (!revoked_.empty() && now - revoked_.front().first > on_the_way_) {
    const RemoteFile file = revoked_.front().second;
    revoked_.pop_front();
    const auto found = entries_.find(file);
    if (found == entries_.end()) continue;
    const std::shared_ptr<Entry>& known = found->second;
    if (known.use_count() != 1 || now - known->revoked_at <= on_the_way_) {
      known->revoked_at = now;
      revoked_.emplace_back(now, file);
      continue;
    }
    known->listed = false;
    // Nobody else is in it, so this does not wait.
    bool used = false;
    {
      const std::lock_guard guard(known->mutex);
      used = known->lease.serial != 0 || known->holds != 0;
    }
    if (!used || known->forgotten) entries_.erase(found);
  }
}

bool SizeLeases::revoke(const RemoteFile& file, std::uint64_t serial) {
  const auto known = entry_to_revoke(file);
  const std::lock_guard guard(known->mutex);
  if (known->holds == 0) {
    end(*known, serial);
    return true;
  }
  known->ending = std::max(known->ending, serial);
  if (known->lease.serial <= known->ending) known->lease = {};
  return false;
}

std::uint64_t SizeLeases::let_go(const RemoteFile& file) {
  const auto known = entry(file, false);
  if (known == nullptr) return 0;
  const std::lock_guard guard(known->mutex);
  if (known->holds == 0) return 0;  // forgotten meanwhile
  if (--known->holds != 0 || known->ending <= known->revoked) return 0;
  end(*known, known->ending);
  return known->revoked;
}

bool SizeLeases::end(const RemoteFile& file, std::uint64_t serial) {
  const auto known = entry_to_revoke(file);
  const std::lock_guard guard(known->mutex);
  if (serial <= known->revoked) return false;
  end(*known, serial);
  return true;
}

void SizeLeases::end_all_of(NodeId home) {
  std::vector<std::shared_ptr<Entry>> known;
  {
    const std::lock_guard guard(mutex_);
    for (auto it = entries_.lower_bound({home, 0, 0});
         it != entries_.end() && it->first.home == home; ++it)
      known.push_back(it->second);
  }
  for (const std::shared_ptr<Entry>& entry : known) {
    const std::lock_guard guard(entry->mutex);
    end(*entry, entry->lease.serial);
  }
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

// What was revoked may still be on its way in an answer, which must not count.
void SizeLeases::forget(const RemoteFile& file) {
  const std::lock_guard guard(mutex_);
  const auto found = entries_.find(file);
  if (found == entries_.end()) return;
  if (found->second->listed)
    found->second->forgotten = true;
  else
    entries_.erase(found);
}

std::size_t SizeLeases::size() const {
  const std::lock_guard guard(mutex_);
  return entries_.size();
}

}  // namespace gob::file
