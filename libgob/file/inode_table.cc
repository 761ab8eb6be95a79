#include "libgob/file/inode_table.h"

#include <algorithm>
#include <utility>

namespace gob::file {

std::optional<RemoteFile> InodeTable::find(std::uint64_t inode) const {
  const std::lock_guard guard(mutex_);
  const auto found = inodes_.find(inode);
  if (found == inodes_.end()) return std::nullopt;
  return found->second.remote;
}

std::uint64_t InodeTable::number_of(const RemoteFile& remote) const {
  const std::lock_guard guard(mutex_);
  const auto found = numbers_.find(remote);
  return found == numbers_.end() || !inodes_.at(found->second).told ? 0 : found->second;
}

void InodeTable::note_told(std::uint64_t inode) {
  const std::lock_guard guard(mutex_);
  if (const auto found = inodes_.find(inode); found != inodes_.end()) found->second.told = true;
}

std::vector<RemoteFile> InodeTable::of(NodeId home) const {
  std::vector<RemoteFile> files;
  const std::lock_guard guard(mutex_);
  for (auto it = numbers_.lower_bound({home, 0, 0}); it != numbers_.end(); ++it) {
    if (it->first.home != home) break;
    files.push_back(it->first);
  }
  return files;
}

std::uint64_t InodeTable::enter(const RemoteFile& remote) {
  const std::lock_guard guard(mutex_);
  const auto [number, fresh] = numbers_.try_emplace(remote, last_ + 1);
  if (fresh) ++last_;
  Inode& inode = inodes_[number->second];
  inode.remote = remote;
  ++inode.lookups;
  ++inode.references;
  return number->second;
}

std::uint64_t InodeTable::enter_again(const RemoteFile& remote) {
  const std::lock_guard guard(mutex_);
  const auto found = numbers_.find(remote);
  if (found == numbers_.end()) return 0;
  ++inodes_.at(found->second).lookups;
  return found->second;
}

void InodeTable::note_name(std::uint64_t inode, std::uint64_t folder, std::string name) {
  const std::lock_guard guard(mutex_);
  const auto found = inodes_.find(inode);
  if (found != inodes_.end()) add_name(found->second, {folder, std::move(name)});
}

void InodeTable::note_moved(const RemoteFile& remote, const Name& was, Name is) {
  const std::lock_guard guard(mutex_);
  const auto number = numbers_.find(remote);
  if (number == numbers_.end()) return;
  Inode& inode = inodes_.at(number->second);
  std::erase(inode.names, was);
  add_name(inode, std::move(is));
}

void InodeTable::add_name(Inode& inode, Name latest) {
  std::vector<Name>& names = inode.names;
  if (!names.empty() && names.back() == latest) return;
  std::erase(names, latest);
  if (names.size() == kMostNames) names.erase(names.begin());
  names.push_back(std::move(latest));
}

std::vector<InodeTable::Name> InodeTable::names_of(const RemoteFile& remote) const {
  const std::lock_guard guard(mutex_);
  const auto number = numbers_.find(remote);
  if (number == numbers_.end()) return {};
  return inodes_.at(number->second).names;
}

std::string InodeTable::path_of(const RemoteFile& remote) const {
  const std::lock_guard guard(mutex_);
  const auto number = numbers_.find(remote);
  if (number == numbers_.end()) return {};
  constexpr unsigned kDeepest = 256;  // folders may have been moved into each other meanwhile
  std::string path;
  std::uint64_t inode = number->second;
  for (unsigned depth = 0; inode != kRootInode && depth < kDeepest; ++depth) {
    const auto found = inodes_.find(inode);
    if (found == inodes_.end()) break;
    const std::vector<Name>& names = found->second.names;
    const Name latest = names.empty() ? Name() : names.back();
    path = path.empty() ? latest.name : latest.name + "/" + path;
    inode = latest.folder;
  }
  return path;
}

std::optional<InodeTable::Gone> InodeTable::forget(
    std::uint64_t inode, std::uint64_t lookups,
    const std::function<void(const RemoteFile&)>& gone_now) {
  const std::lock_guard guard(mutex_);
  const auto found = inodes_.find(inode);
  if (found == inodes_.end()) return std::nullopt;
  found->second.lookups -= std::min(found->second.lookups, lookups);
  if (found->second.lookups != 0) return std::nullopt;
  const Gone gone{found->second.remote, found->second.references};
  gone_now(gone.remote);
  numbers_.erase(gone.remote);
  inodes_.erase(found);
  return gone;
}

void InodeTable::note_lock(std::uint64_t inode, bool flock) {
  const std::lock_guard guard(mutex_);
  const auto found = inodes_.find(inode);
  if (found == inodes_.end()) return;
  (flock ? found->second.flocks : found->second.record_locks) = true;
}

bool InodeTable::may_have_lock(std::uint64_t inode, bool flock) const {
  const std::lock_guard guard(mutex_);
  const auto found = inodes_.find(inode);
  if (found == inodes_.end()) return false;
  return flock ? found->second.flocks : found->second.record_locks;
}

std::size_t InodeTable::size() const {
  const std::lock_guard guard(mutex_);
  return inodes_.size();
}

}  // namespace gob::file
