// Opened files and their bytes.
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "libgob/file/file_server.h"

namespace gob::file {

namespace {

// Flags that belong to the program's own open file description, not to the one made here for it:
// whether a write appends is said with each write.
constexpr unsigned kCallersAffair = O_APPEND | O_NONBLOCK | O_ASYNC | O_DIRECT | O_NOFOLLOW;

// O_NONBLOCK: no thread waits for the other end of a pipe, should the name lead to one.
int own_flags(std::uint32_t flags) {
  return static_cast<int>((flags & ~kCallersAffair) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
}

}  // namespace

int FileServer::open(const Life& from, const std::shared_ptr<File>& file, const Request& request,
                     Reply& reply) {
  const unsigned flags = request.flags() & ~static_cast<unsigned>(O_CREAT | O_EXCL);
  UniqueFd fd(::open(descriptor_path(file->path.get()).c_str(), own_flags(flags)));
  if (!fd) return errno;
  if ((flags & O_ACCMODE) != O_WRONLY) let_read(from, *file, reply);
  if (const int error = fill(*file, reply); error != 0) return error;
  reply.set_handle(table_.open(from, file, std::move(fd)));
  return reply.handle() == 0 ? ESTALE : 0;
}

// Where the bytes are, and a lease on the size. Without them the node asks for each read.
void FileServer::let_read(const Life& from, File& file, Reply& reply) {
  if (need_container(file) != 0) return;
  {
    const std::lock_guard guard(file.data_mutex);
    reply.set_container(file.container.value());
  }
  const std::lock_guard guard(file.changes_mutex);
  if (!from.over) reply.set_lease(file.changes.try_lease(from.node));
}

int FileServer::create(const Life& from, File& folder, const Request& request, Reply& reply) {
  // A file that another node made meanwhile is not cut here: the kernel does so as if it had opened
  // it, by setting its size (see Mount::create).
  const unsigned flags = (request.flags() & ~static_cast<unsigned>(O_TRUNC)) | O_CREAT;
  UniqueFd fd(::openat(folder.path.get(), request.name().c_str(), own_flags(flags) | O_NOFOLLOW,
                       request.mode()));
  if (!fd) return errno;
  UniqueFd path(::open(descriptor_path(fd.get()).c_str(), O_PATH | O_CLOEXEC));
  if (!path) return errno;
  std::shared_ptr<File> file;
  if (const int error = adopt(from, folder.attached, &folder, std::move(path), file); error != 0)
    return error;
  reply.set_file(file->number);
  if ((request.flags() & O_ACCMODE) != O_WRONLY) let_read(from, *file, reply);
  reply.set_handle(table_.open(from, file, std::move(fd)));
  return reply.handle() == 0 ? ESTALE : fill(*file, reply);
}

int FileServer::read(const OpenFile& opened, const Request& request, Reply& reply) const {
  std::string bytes(request.size(), '\0');
  std::size_t filled = 0;
  while (filled < bytes.size()) {
    const ssize_t got = ::pread(opened.fd.get(), bytes.data() + filled, bytes.size() - filled,
                                static_cast<off_t>(request.offset() + filled));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && filled == 0) return errno;
    if (got <= 0) break;
    filled += static_cast<std::size_t>(got);
  }
  bytes.resize(filled);
  reply.set_data(std::move(bytes));
  return 0;
}

// An append is one call, so that records of all nodes follow each other whole.
int FileServer::write(const OpenFile& opened, const Request& request, Reply& reply) const {
  const std::string& data = request.data();
  const int flags = (request.flags() & O_APPEND) != 0 ? RWF_APPEND : 0;
  std::size_t written = 0;
  do {
    const iovec rest{const_cast<char*>(data.data() + written), data.size() - written};
    const ssize_t put = ::pwritev2(opened.fd.get(), &rest, 1,
                                   static_cast<off_t>(request.offset() + written), flags);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && written == 0) return errno;
    if (put <= 0) break;
    written += static_cast<std::size_t>(put);
  } while (written < data.size());
  reply.set_value(written);
  return fill(*opened.file, reply);
}

int FileServer::copy_range(const Life& from, const OpenFile& opened, const Request& request,
                           Reply& reply) const {
  const auto target = table_.find_open(from.node, request.to_handle());
  if (target == nullptr) return ESTALE;
  {
    // Its pages may be newer: the caller's kernel reads and writes instead.
    const std::lock_guard guard(opened.file->data_mutex);
    if (opened.file->mapped) return EXDEV;
  }
  off_t in = static_cast<off_t>(request.offset());
  off_t out = static_cast<off_t>(request.to_offset());
  const ssize_t copied =
      ::copy_file_range(opened.fd.get(), &in, target->fd.get(), &out,
                        std::min<std::uint64_t>(request.size(), std::uint64_t{64} << 20), 0);
  if (copied < 0) return errno;
  reply.set_value(static_cast<std::uint64_t>(copied));
  return 0;
}

}  // namespace gob::file
