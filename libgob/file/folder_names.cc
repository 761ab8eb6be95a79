#include "libgob/file/folder_names.h"

namespace gob::file {

void FolderNames::note(const RemoteFile& folder, const std::string& name, Known known) {
  const Clock::time_point now = now_();
  const std::lock_guard guard(mutex_);
  if (entries_.size() >= kMost) {
    std::erase_if(entries_, [&](const auto& each) { return each.second.until <= now; });
    if (entries_.size() >= kMost) return;  // it is asked for again
  }
  entries_.insert_or_assign({folder, name}, Entry{std::move(known), now + kLongest});
}

void FolderNames::forget(NodeId home) {
  const std::lock_guard guard(mutex_);
  std::erase_if(entries_, [&](const auto& each) { return each.first.first.home == home; });
}

std::optional<FolderNames::Known> FolderNames::find(const RemoteFile& folder,
                                                    const std::string& name) {
  const Clock::time_point now = now_();
  const std::lock_guard guard(mutex_);
  const auto found = entries_.find({folder, name});
  if (found == entries_.end()) return std::nullopt;
  if (now < found->second.until) return found->second.known;
  entries_.erase(found);
  return std::nullopt;
}

}  // namespace gob::file
