#include "libgob/file/file_table.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

namespace gob::file {

std::shared_ptr<File> FileTable::adopt(const Life& node, Found& found) {
  const Identity identity{found.device, found.inode, found.regular ? 0 : found.attached.value()};
  const std::lock_guard guard(mutex_);
  if (node.over || !attachments_.contains(found.attached)) return nullptr;
  const auto known = numbers_.find(identity);
  if (known != numbers_.end()) {
    // Our descriptor keeps the inode, so its number cannot have gone to another file meanwhile.
    Entry& entry = files_.at(known->second);
    ++entry.references[node.node];
    entry.attachments.insert(found.attached);
    return entry.file;
  }
  auto file = std::make_shared<File>();
  file->number = ++last_number_;
  file->attached = found.attached;
  file->path = std::move(found.path);
  file->device = found.device;
  file->inode = found.inode;
  file->mount = found.mount;
  file->root_device = found.root_device;
  file->regular = found.regular;
  file->of_gob = found.of_gob;
  numbers_.emplace(identity, file->number);
  files_.emplace(file->number, Entry{file, {{node.node, 1}}, {found.attached}});
  return file;
}

std::shared_ptr<File> FileTable::find(std::uint64_t number) const {
  const std::lock_guard guard(mutex_);
  const auto found = files_.find(number);
  return found == files_.end() ? nullptr : found->second.file;
}

std::uint64_t FileTable::number_in(const File& folder, const std::string& name) const {
  struct stat status {};
  if (::fstatat(folder.path.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) return 0;
  const std::lock_guard guard(mutex_);
  const auto known = numbers_.find(Identity{status.st_dev, status.st_ino,
                                            S_ISREG(status.st_mode) ? 0 : folder.attached.value()});
  return known == numbers_.end() ? 0 : known->second;
}

std::vector<std::shared_ptr<File>> FileTable::same_as(const File& file) const {
  std::vector<std::shared_ptr<File>> same;
  const std::lock_guard guard(mutex_);
  for (auto it = numbers_.lower_bound(Identity{file.device, file.inode, 0});
       it != numbers_.end() && it->first.device == file.device && it->first.inode == file.inode;
       ++it)
    same.push_back(files_.at(it->second).file);
  return same;
}

bool FileTable::is_reached_by(const File& file, ContainerId attached) const {
  const std::lock_guard guard(mutex_);
  const auto found = files_.find(file.number);
  return found != files_.end() && found->second.attachments.contains(attached);
}

std::vector<NodeId> FileTable::holders(std::uint64_t number) const {
  std::vector<NodeId> nodes;
  const std::lock_guard guard(mutex_);
  const auto found = files_.find(number);
  if (found == files_.end()) return nodes;
  for (const auto& [node, count] : found->second.references) nodes.push_back(node);
  return nodes;
}

void FileTable::forget(NodeId node, std::uint64_t number, std::uint64_t count) {
  const std::lock_guard guard(mutex_);
  give_back(node, number, count);
}

void FileTable::forget(const Life& node, std::uint64_t number) {
  const std::lock_guard guard(mutex_);
  if (!node.over) give_back(node.node, number, 1);
}

void FileTable::give_back(NodeId node, std::uint64_t number, std::uint64_t count) {
  const auto found = files_.find(number);
  if (found == files_.end()) return;
  auto& references = found->second.references;
  const auto held = references.find(node);
  if (held == references.end()) return;
  held->second -= std::min(held->second, count);
  if (held->second == 0) {
    references.erase(held);
  }
  if (references.empty()) erase(found);
}

void FileTable::erase(std::unordered_map<std::uint64_t, Entry>::iterator entry) {
  File& file = *entry->second.file;
  forgotten_(file, entry->second.attachments);
  numbers_.erase(Identity{file.device, file.inode, file.regular ? 0 : file.attached.value()});
  files_.erase(entry);
}

std::uint64_t FileTable::open(const Life& node, std::shared_ptr<File> file, UniqueFd fd) {
  auto opened = std::make_shared<OpenFile>();
  opened->file = std::move(file);
  opened->fd = std::move(fd);
  opened->node = node.node;
  const std::lock_guard guard(mutex_);
  if (node.over) return 0;
  open_.emplace(++last_handle_, std::move(opened));
  return last_handle_;
}

std::shared_ptr<OpenFile> FileTable::find_open(NodeId node, std::uint64_t handle) const {
  const std::lock_guard guard(mutex_);
  const auto found = open_.find(handle);
  if (found == open_.end() || found->second->node != node) return nullptr;
  return found->second;
}

std::shared_ptr<OpenFile> FileTable::release(NodeId node, std::uint64_t handle) {
  const std::lock_guard guard(mutex_);
  const auto found = open_.find(handle);
  if (found == open_.end() || found->second->node != node) return nullptr;
  std::shared_ptr<OpenFile> opened = std::move(found->second);
  open_.erase(found);
  return opened;
}

std::vector<std::shared_ptr<File>> FileTable::drop_node(NodeId node, Garbage& garbage) {
  std::vector<std::shared_ptr<File>> locked;
  const std::lock_guard guard(mutex_);
  std::erase_if(open_, [&](auto& item) {
    if (item.second->node != node) return false;
    garbage.push_back(std::move(item.second));
    return true;
  });
  for (auto it = files_.begin(); it != files_.end();) {
    const auto entry = it++;
    {
      const std::lock_guard locks(entry->second.file->locks_mutex);
      if (!entry->second.file->locks.empty()) {
        entry->second.file->locks.drop_node(node);
        locked.push_back(entry->second.file);
      }
    }
    entry->second.references.erase(node);
    if (entry->second.references.empty()) erase(entry);
  }
  return locked;
}

void FileTable::add_attachment(ContainerId attached) {
  const std::lock_guard guard(mutex_);
  attachments_.insert(attached);
}

void FileTable::drop_attachment(ContainerId attached, Garbage& garbage) {
  const std::lock_guard guard(mutex_);
  attachments_.erase(attached);
  for (auto it = files_.begin(); it != files_.end();) {
    const auto entry = it++;
    Attachments& attachments = entry->second.attachments;
    if (!attachments.contains(attached)) continue;
    if (attachments.size() > 1) {
      attachments.erase(attached);
      continue;
    }
    garbage.push_back(entry->second.file);
    erase(entry);
  }
  std::erase_if(open_, [&](auto& item) {
    if (files_.contains(item.second->file->number)) return false;
    garbage.push_back(std::move(item.second));
    return true;
  });
}

std::vector<std::shared_ptr<File>> FileTable::all() const {
  std::vector<std::shared_ptr<File>> every;
  const std::lock_guard guard(mutex_);
  for (const auto& [number, entry] : files_) every.push_back(entry.file);
  return every;
}

std::size_t FileTable::files() const {
  const std::lock_guard guard(mutex_);
  return files_.size();
}

std::size_t FileTable::handles() const {
  const std::lock_guard guard(mutex_);
  return open_.size();
}

}  // namespace gob::file
