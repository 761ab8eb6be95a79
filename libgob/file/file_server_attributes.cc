// Attributes, permissions, extended attributes, room on the disk.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <string_view>

#include "libgob/file/file_server.h"

namespace gob::file {

namespace {

timespec time_of(bool given, bool now, const peer::FileTime& time) {
  timespec out{};
  if (now)
    out.tv_nsec = UTIME_NOW;
  else if (!given)
    out.tv_nsec = UTIME_OMIT;
  else
    out = {static_cast<time_t>(time.seconds()), static_cast<long>(time.nanoseconds())};
  return out;
}

int set_times(const File& file, const peer::FileRequest& request) {
  const std::uint32_t set = request.set();
  const std::array<timespec, 2> times = {
      time_of((set & kSetAccessed) != 0, (set & kSetAccessedNow) != 0,
              request.attributes().accessed()),
      time_of((set & kSetModified) != 0, (set & kSetModifiedNow) != 0,
              request.attributes().modified())};
  // With an empty path the call acts on the descriptor's own inode, a link included.
  return ::utimensat(file.path.get(), "", times.data(), AT_EMPTY_PATH) == 0 ? 0 : errno;
}

// As listxattr(2). Names of `trusted.*` are shown to who administers the system only, and that this
// thread does, whoever asks.
ssize_t names_of_xattrs(const std::string& path, bool administrator, char* value,
                        std::size_t size) {
  std::string all(kMaxXattrBytes, '\0');
  const ssize_t length = ::listxattr(path.c_str(), all.data(), all.size());
  if (length < 0) return length;
  std::string_view left(all.data(), static_cast<std::size_t>(length));
  std::string names;
  while (!left.empty()) {
    const std::string_view name = left.substr(0, left.find('\0') + 1);
    if (administrator || !name.starts_with("trusted.")) names += name;
    left.remove_prefix(name.size());
  }
  if (size != 0 && names.size() > size) {
    errno = ERANGE;
    return -1;
  }
  if (size != 0) names.copy(value, size);
  return static_cast<ssize_t>(names.size());
}

}  // namespace

int FileServer::set_attributes(const Life& from, const File& file, const Request& request,
                               Reply& reply) {
  const std::uint32_t set = request.set();
  const std::string path = descriptor_path(file.path.get());
  const peer::FileAttributes& wanted = request.attributes();
  if ((set & (kSetUid | kSetGid)) != 0) {
    const uid_t uid = (set & kSetUid) != 0 ? wanted.uid() : static_cast<uid_t>(-1);
    const gid_t gid = (set & kSetGid) != 0 ? wanted.gid() : static_cast<gid_t>(-1);
    if (::fchownat(file.path.get(), "", uid, gid, AT_EMPTY_PATH) != 0) return errno;
  }
  if ((set & kSetMode) != 0) {
    struct stat status {};
    if (::fstat(file.path.get(), &status) != 0) return errno;
    if (S_ISLNK(status.st_mode)) return EOPNOTSUPP;
    if (::chmod(path.c_str(), wanted.mode() & 07777) != 0) return errno;
  }
  if ((set & kSetSize) != 0) {
    const auto size = static_cast<off_t>(wanted.size());
    const auto opened =
        request.handle() != 0 ? table_.find_open(from.node, request.handle()) : nullptr;
    const int result =
        opened != nullptr ? ::ftruncate(opened->fd.get(), size) : ::truncate(path.c_str(), size);
    if (result != 0) return errno;
  }
  if ((set & (kSetAccessed | kSetAccessedNow | kSetModified | kSetModifiedNow)) != 0)
    if (const int error = set_times(file, request); error != 0) return error;
  return fill(file, reply);
}

int FileServer::may_access(const File& file, const Request& request) const {
  // The thread's own rights are the caller's: AT_EACCESS asks for those.
  return ::faccessat(AT_FDCWD, descriptor_path(file.path.get()).c_str(),
                     static_cast<int>(request.flags()), AT_EACCESS) == 0
             ? 0
             : errno;
}

int FileServer::xattr(const File& file, const Request& request, Reply& reply) const {
  const std::string path = descriptor_path(file.path.get());
  const auto take = [&](auto&& call) -> int {
    std::string value(request.size(), '\0');
    const ssize_t length = call(value.data(), value.size());
    if (length < 0) return errno;
    reply.set_value(static_cast<std::uint64_t>(length));
    value.resize(request.size() == 0 ? 0 : static_cast<std::size_t>(length));
    reply.set_data(std::move(value));
    return 0;
  };
  if (request.size() > kMaxXattrBytes) return E2BIG;
  const char* name = request.name().c_str();
  switch (op_of(request)) {
    case FileOp::kSetXattr:
      return ::setxattr(path.c_str(), name, request.data().data(), request.data().size(),
                        static_cast<int>(request.flags())) == 0
                 ? 0
                 : errno;
    case FileOp::kRemoveXattr:
      return ::removexattr(path.c_str(), name) == 0 ? 0 : errno;
    case FileOp::kGetXattr:
      return take([&](char* value, std::size_t size) {
        return ::getxattr(path.c_str(), name, value, size);
      });
    default:
      return take([&](char* value, std::size_t size) {
        return names_of_xattrs(path, request.caller().uid() == 0, value, size);
      });
  }
}

int FileServer::space(const File& file, Reply& reply) const {
  struct statvfs status {};
  if (::fstatvfs(file.path.get(), &status) != 0) return errno;
  peer::FileSystemSpace& to = *reply.mutable_space();
  to.set_block_size(status.f_bsize);
  to.set_fragment_size(status.f_frsize);
  to.set_blocks(status.f_blocks);
  to.set_free(status.f_bfree);
  to.set_available(status.f_bavail);
  to.set_files(status.f_files);
  to.set_files_free(status.f_ffree);
  to.set_name_max(status.f_namemax);
  return 0;
}

}  // namespace gob::file
