// Entries of folders: each name is one component, taken relative to the folder's descriptor.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "libgob/file/file_server.h"

namespace gob::file {

namespace {

constexpr std::size_t kFolderBytes = 64 << 10;

UniqueFd open_entry(const File& folder, const std::string& name) {
  return UniqueFd(::openat(folder.path.get(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
}

// A folder's entry as the kernel's getdents64 gives it.
struct KernelEntry {
  std::uint64_t inode;
  std::int64_t next;
  unsigned short length;
  unsigned char type;
};
constexpr std::size_t kEntryNameAt = 19;

bool anyone_may_search(const File& folder) {
  constexpr mode_t kSearch = S_IXUSR | S_IXGRP | S_IXOTH;
  const std::string path = descriptor_path(folder.path.get());
  const auto has_no = [&](const char* list) {
    return ::getxattr(path.c_str(), list, nullptr, 0) < 0 && (errno == ENODATA || errno == ENOTSUP);
  };
  struct stat status {};
  return ::fstat(folder.path.get(), &status) == 0 && (status.st_mode & kSearch) == kSearch &&
         has_no("system.posix_acl_access") && has_no("system.nfs4_acl");
}

}  // namespace

int FileServer::lookup(const Life& from, File& folder, const Request& request, Reply& reply) {
  UniqueFd path = open_entry(folder, request.name());
  if (!path) return errno;
  const int error = give(from, folder, std::move(path), reply);
  if (error == 0 && op_of(request) == FileOp::kLookup) lease_name(from, folder, request, reply);
  return error;
}

// A folder is looked up again and again, by all paths that lead through it. It keeps its name until
// that is renamed or removed, which takes this lease on the folder around it back before. Who has
// the lease asks for nobody's rights: so only where nobody lacks them.
void FileServer::lease_name(const Life& from, File& folder, const Request& request, Reply& reply) {
  // Kernels look at a sticky bit, and whose folder it is, without asking for newer attributes.
  if (!S_ISDIR(reply.attributes().mode()) || (reply.attributes().mode() & S_ISVTX) != 0) return;
  // Of a folder that is reached by several attachments all leases are taken back (renamed_in), but
  // for those that are given meanwhile.
  if (table_.same_as(folder).size() != 1) return;
  std::uint64_t lease = 0;
  {
    const std::lock_guard guard(folder.changes_mutex);
    if (!from.over) lease = folder.changes.try_lease(from.node);
  }
  // As it is under the lease.
  struct stat now {};
  if (lease != 0 && anyone_may_search(folder) &&
      ::fstatat(folder.path.get(), request.name().c_str(), &now, AT_SYMLINK_NOFOLLOW) == 0 &&
      visible_inode(folder, now.st_dev, now.st_ino) == reply.attributes().inode())
    reply.set_name_lease(lease);
}

// The folders in which the request may change what lease_name() relies on.
std::vector<std::shared_ptr<File>> FileServer::renamed_in(const Asked& asked) const {
  const Request& request = asked.request;
  std::vector<std::shared_ptr<File>> folders;
  if (request.incarnation() != incarnation_) return folders;
  const auto add = [&](std::uint64_t number) {
    const auto file = table_.find(number);
    struct stat status {};
    if (file == nullptr || ::fstat(file->path.get(), &status) != 0 || !S_ISDIR(status.st_mode))
      return;
    for (auto& same : table_.same_as(*file)) folders.push_back(std::move(same));
  };
  switch (op_of(request)) {
    case FileOp::kRename:
      add(request.to_file());
      [[fallthrough]];
    case FileOp::kRemoveFolder:
    case FileOp::kSetAttributes:
    case FileOp::kSetXattr:
      add(request.file());
      break;
    default:
      break;
  }
  // So that two that wait for the same folders do not wait for each other.
  std::ranges::sort(folders, {}, &File::number);
  const auto twice = std::ranges::unique(folders);
  folders.erase(twice.begin(), twice.end());
  return folders;
}

// Of all folders at once: no lease on any is given before the change is made in all of them.
void FileServer::change_names(const std::shared_ptr<Asked>& asked,
                              const std::vector<std::shared_ptr<File>>& folders,
                              const std::function<void()>& made) {
  if (folders.empty()) {
    answer_now(asked);
    return made();
  }
  resize(folders.back(), [this, asked, folders, made](const std::function<void()>& made_here) {
    change_names(asked, {folders.begin(), folders.end() - 1}, [made, made_here] {
      made_here();
      made();
    });
  });
}

// A regular file is known by the descriptor that made it, whatever becomes of its name. Linux has
// no such call for what else is made here: that is looked up, and may be another's by then.
int FileServer::make_node(const Life& from, File& folder, const Request& request, Reply& reply) {
  const char* const name = request.name().c_str();
  const mode_t type = request.mode() & S_IFMT;
  if (type == S_IFREG || type == 0) {
    const UniqueFd made(::openat(folder.path.get(), name,
                                 O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                                 request.mode() & 07777));
    if (!made) return errno;
    UniqueFd path(::open(descriptor_path(made.get()).c_str(), O_PATH | O_CLOEXEC));
    if (!path) return errno;
    return give(from, folder, std::move(path), reply);
  }
  if (::mknodat(folder.path.get(), name, request.mode(), request.device()) != 0) return errno;
  return lookup(from, folder, request, reply);
}

int FileServer::make_folder(const Life& from, File& folder, const Request& request, Reply& reply) {
  if (::mkdirat(folder.path.get(), request.name().c_str(), request.mode()) != 0) return errno;
  return lookup(from, folder, request, reply);
}

int FileServer::remove(const File& folder, const Request& request, int flags) const {
  return ::unlinkat(folder.path.get(), request.name().c_str(), flags) == 0 ? 0 : errno;
}

int FileServer::make_link(const Life& from, File& folder, const Request& request, Reply& reply) {
  if (::symlinkat(request.to_name().c_str(), folder.path.get(), request.name().c_str()) != 0)
    return errno;
  return lookup(from, folder, request, reply);
}

int FileServer::rename(const File& folder, const Request& request, Reply& reply) const {
  const auto target = table_.find(request.to_file());
  if (target == nullptr) return ESTALE;
  if (target->attached != folder.attached) return EXDEV;
  const std::uint64_t moved = table_.number_in(folder, request.name());
  const std::uint64_t came =
      (request.flags() & RENAME_EXCHANGE) != 0 ? table_.number_in(*target, request.to_name()) : 0;
  if (::renameat2(folder.path.get(), request.name().c_str(), target->path.get(),
                  request.to_name().c_str(), request.flags()) != 0)
    return errno;
  for (const std::uint64_t number : {moved, came}) reply.add_moved(number);
  return 0;
}

int FileServer::link(const Life& from, const File& file, const Request& request, Reply& reply) {
  const auto folder = table_.find(request.to_file());
  if (folder == nullptr) return ESTALE;
  if (!table_.is_reached_by(file, folder->attached)) return EXDEV;
  // The descriptor's path is followed, which leads to this very file and no further.
  if (::linkat(AT_FDCWD, descriptor_path(file.path.get()).c_str(), folder->path.get(),
               request.to_name().c_str(), AT_SYMLINK_FOLLOW) != 0)
    return errno;
  // By what it is known by already: the name may be gone again.
  UniqueFd path(::fcntl(file.path.get(), F_DUPFD_CLOEXEC, 0));
  if (!path) return errno;
  return give(from, *folder, std::move(path), reply);
}

int FileServer::read_link(const File& file, Reply& reply) const {
  std::array<char, kMaxLinkBytes + 1> target{};
  const ssize_t length = ::readlinkat(file.path.get(), "", target.data(), target.size());
  if (length < 0) return errno;
  reply.set_data(target.data(), static_cast<std::size_t>(length));
  return 0;
}

int FileServer::open_folder(const Life& from, const std::shared_ptr<File>& file, Reply& reply) {
  UniqueFd fd(
      ::open(descriptor_path(file->path.get()).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return errno;
  reply.set_handle(table_.open(from, file, std::move(fd)));
  return reply.handle() == 0 ? ESTALE : 0;
}

int FileServer::read_folder(OpenFile& folder, const Request& request, Reply& reply) const {
  std::array<char, kFolderBytes> bytes{};
  const std::lock_guard guard(folder.folder_mutex);
  if (::lseek(folder.fd.get(), static_cast<off_t>(request.offset()), SEEK_SET) < 0) return errno;
  const std::size_t wanted = std::min<std::size_t>(request.size(), bytes.size());
  long filled = 0;
  do {
    filled = ::syscall(SYS_getdents64, folder.fd.get(), bytes.data(), wanted);
    if (filled < 0) return errno;
    for (std::size_t at = 0; at < static_cast<std::size_t>(filled);) {
      KernelEntry entry{};
      std::memcpy(&entry.inode, &bytes[at], sizeof entry.inode);
      std::memcpy(&entry.next, &bytes[at + 8], sizeof entry.next);
      std::memcpy(&entry.length, &bytes[at + 16], sizeof entry.length);
      std::memcpy(&entry.type, &bytes[at + 18], sizeof entry.type);
      const char* const name = &bytes[at + kEntryNameAt];
      at += entry.length;
      // Some file systems have longer ones. Nobody could look them up.
      if (std::strlen(name) > kMaxFileNameBytes) continue;
      peer::FileEntry& out = *reply.add_entries();
      out.set_inode(entry.inode);
      out.set_next(static_cast<std::uint64_t>(entry.next));
      out.set_type(entry.type);
      out.set_name(name);
    }
  } while (filled != 0 && reply.entries().empty());  // none at all would be the folder's end
  return 0;
}

}  // namespace gob::file
