// Files that programs have mapped for writing. Some node's memory may be newer than the file, so
// all changes go by the pages: a write is a write of pages, coherent with every mapping; what is
// cut off or punched out is forgotten on all nodes, and filled with zeros where only a part of a
// page is meant. The file gets the bytes by write-back: now and then, and before whatever has to
// see them there.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "libgob/file/file_server.h"

namespace gob::file {

namespace {

constexpr std::array<std::byte, kPageSize> kZeros{};

std::uint64_t page_end(std::uint64_t offset) {
  return (offset + kPageSize - 1) / kPageSize * kPageSize;
}

std::span<const std::byte> zeros(std::uint64_t first, std::uint64_t end) {
  return std::span(kZeros).first(end - first);
}

// As the host does when somebody else than root writes: no program keeps rights that a writer could
// take for himself.
void clear_privileges(int fd, const peer::FileCaller& caller) {
  struct stat status {};
  if (caller.uid() == 0 || ::fstat(fd, &status) != 0) return;
  mode_t mode = status.st_mode & ~static_cast<mode_t>(S_ISUID);
  if ((mode & S_IXGRP) != 0) mode &= ~static_cast<mode_t>(S_ISGID);
  if (mode != status.st_mode) static_cast<void>(::fchmod(fd, mode & 07777));
}

bool may_write(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & O_ACCMODE) != O_RDONLY;
}

// How long the file has to be for what is no write; 0: whatever it is.
std::uint64_t size_wanted(const peer::FileRequest& request) {
  if (op_of(request) == FileOp::kSetAttributes) return request.attributes().size();
  const bool keeps = (request.mode() & FALLOC_FL_KEEP_SIZE) != 0;
  return op_of(request) == FileOp::kAllocate && !keeps ? request.offset() + request.size() : 0;
}

int error_of(const Status& status) {
  if (status) return 0;
  return status.error().errno_value != 0 ? status.error().errno_value : EIO;
}

}  // namespace

bool is_synchronous(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & O_DSYNC) != 0;
}

// False: the file is mapped, and the change has to go by its pages. `by_pages` is called, once no
// other change can make nodes forget what it does.
bool FileServer::begin_plain(File& file, const std::function<void()>& by_pages) {
  {
    const std::lock_guard guard(file.data_mutex);
    if (!file.mapped) {
      ++file.plain_changes;
      return true;
    }
    if (file.plain_changes != 0) {
      // Who ends the last of them may be a shard's thread.
      file.after_plain.emplace_back([this, by_pages] { pool_.resume(by_pages); });
      return false;
    }
  }
  by_pages();
  return false;
}

void FileServer::end_plain(File& file) {
  std::vector<std::function<void()>> waiting;
  {
    const std::lock_guard guard(file.data_mutex);
    if (--file.plain_changes == 0) waiting.swap(file.after_plain);
  }
  for (const auto& go_on : waiting) go_on();
}

// A program with a descriptor for reading and writing wants to write the pages.
void FileServer::map(const std::shared_ptr<Asked>& asked) {
  const Request& request = asked->request;
  const auto answer = [this, asked](int error, const File* file) {
    Reply reply;
    reply.set_id(asked->request.id());
    reply.set_incarnation(incarnation_);
    if (error == 0) error = fill(*file, reply);
    if (error == 0) reply.set_container(file->container.value());  // constant once it is ready
    reply.set_error(static_cast<std::uint32_t>(error));
    asked->answer(std::move(reply));
  };
  const std::shared_ptr<File> file = table_.find(request.file());
  const auto opened = table_.find_open(asked->from->node, request.handle());
  if (request.incarnation() != incarnation_ || file == nullptr || opened == nullptr ||
      opened->file != file)
    return answer(ESTALE, nullptr);
  if ((::fcntl(opened->fd.get(), F_GETFL) & O_ACCMODE) != O_RDWR) return answer(EACCES, nullptr);
  struct stat status {};
  if (::fstat(opened->fd.get(), &status) != 0) return answer(errno, nullptr);
  if (!S_ISREG(status.st_mode)) return answer(ENODEV, nullptr);
  if (const int error = need_container(*file); error != 0) return answer(error, nullptr);
  UniqueFd writable(::fcntl(opened->fd.get(), F_DUPFD_CLOEXEC, 0));
  if (!writable) return answer(errno, nullptr);
  clear_privileges(writable.get(), request.caller());

  // From the moment that the file is said to be mapped, pages are written: the shards must be able
  // to write them back by then, and to the end of the file.
  const std::lock_guard room(file->room_mutex);
  store_.data().bind(file->container, std::move(writable), size_of(*file),
                     [this, answer, asked, file](const Status& bound) {
                       if (!bound) {
                         log_failure("bind", *file, *asked, bound.error().message());
                         return answer(error_of(bound), nullptr);
                       }
                       {
                         const std::lock_guard guard(file->changes_mutex);
                         file->varies = true;
                       }
                       // The answer says what the disk has: not on a shard's thread.
                       const auto mapped = [this, answer, file] {
                         pool_.resume([this, answer, file] {
                           take_attributes_back(file, [answer, file] { answer(0, file.get()); });
                         });
                       };
                       {
                         const std::lock_guard guard(file->data_mutex);
                         file->mapped = true;
                         if (file->plain_changes != 0) return file->after_plain.push_back(mapped);
                       }
                       mapped();
                     });
}

// The files that programs may have written in memory.
std::vector<std::shared_ptr<File>> FileServer::mapped() const {
  std::vector<std::shared_ptr<File>> files = table_.all();
  std::erase_if(files, [](const std::shared_ptr<File>& file) {
    const std::lock_guard guard(file->data_mutex);
    return !file->mapped;
  });
  return files;
}

// Whether the answer comes out of the file itself, which may be older than its pages.
bool FileServer::needs_file_current(const Asked& asked) const {
  switch (op_of(asked.request)) {
    case FileOp::kRead:
    case FileOp::kSync:
    case FileOp::kSeek:
      break;
    default:
      return false;
  }
  const auto file = table_.find(asked.request.file());
  if (file == nullptr) return false;
  const std::lock_guard guard(file->data_mutex);
  return file->mapped;
}

void FileServer::make_file_current(const std::shared_ptr<Asked>& asked) {
  const Request& request = asked->request;
  FileRange range;
  if (op_of(request) == FileOp::kRead) range = {request.offset(), request.size()};
  const auto file = table_.find(request.file());
  if (file == nullptr) return answer_now(asked);
  store_.data().write_back(file->container, range, [this, asked, file](const Status& written) {
    const int error = error_of(written);
    if (error != 0)
      log_failure("write back", *file, *asked,
                  "what programs wrote into its mapped pages did not get into the file: " +
                      written.error().message());
    // The disk is slow: not on a shard's thread.
    pool_of(asked->request).resume([this, asked, error] {
      Reply reply;
      work(*asked->from, asked->request, reply);
      if (error != 0 && reply.error() == 0) reply.set_error(static_cast<std::uint32_t>(error));
      asked->answer(std::move(reply));
    });
  });
}

void FileServer::write_pieces(ContainerId container, std::vector<Piece> pieces,
                              FileData::Done done) {
  if (pieces.empty()) return done({});
  const Piece next = pieces.front();
  pieces.erase(pieces.begin());
  if (next.bytes.empty()) return write_pieces(container, std::move(pieces), std::move(done));
  store_.data().write(
      container, next.offset, next.bytes, Caching::kNone,
      [this, container, rest = std::move(pieces), done](const Status& written) mutable {
        if (!written) return done(written);
        write_pieces(container, std::move(rest), std::move(done));
      });
}

void FileServer::write_through(const std::shared_ptr<Asked>& asked,
                               const std::shared_ptr<File>& file, FileRange range,
                               const std::function<void(int)>& end) {
  store_.data().write_back(file->container, range, [this, asked, file, end](const Status& written) {
    if (!written) {
      log_failure("write through", *file, *asked,
                  "it was to be on the disk (O_SYNC): " + written.error().message());
      return end(error_of(written));
    }
    sync_pool_.resume([this, asked, end] {
      const auto opened = table_.find_open(asked->from->node, asked->request.handle());
      end(opened == nullptr || ::fsync(opened->fd.get()) == 0 ? 0 : errno);
    });
  });
}

// Forgets what mappings have stored behind the end of the file, at `size`, as far as `end` and to
// the end of the page there: it must not come to light when the file grows. Before it does, so that
// write-back does not bring it to the disk. `then` may wait for the disk.
void FileServer::clear_behind(ContainerId container, std::uint64_t size, std::uint64_t end,
                              const std::function<void()>& then, const FileData::Done& failed) {
  const auto cleared = [this, then, failed](const Status& status) {
    if (!status) return failed(status);
    pool_.resume(then);  // not on a shard's thread
  };
  write_pieces(container, {{size, zeros(size, page_end(size))}},
               [this, container, size, end, cleared](const Status& written) {
                 const std::uint64_t last = page_end(end);
                 if (!written || last <= page_end(size)) return cleared(written);
                 store_.data().discard(container, {size, last - size}, cleared);
               });
}

// Room on the disk and length for a write, so that a full disk is told to the writer; an append
// gets its place. 0 or an errno.
int FileServer::make_room(const Request& request, const OpenFile& opened, std::uint64_t& offset) {
  File& file = *opened.file;
  const int fd = opened.fd.get();
  if (!may_write(fd)) return EBADF;
  const std::lock_guard guard(file.room_mutex);
  const std::uint64_t before = size_of(file);
  offset = (request.flags() & O_APPEND) != 0 ? before : request.offset();
  const auto length = static_cast<off_t>(request.data().size());
  if (length == 0) return 0;
  const std::uint64_t end = offset + request.data().size();
  if (::fallocate(fd, 0, static_cast<off_t>(offset), length) != 0) {
    if (errno != EOPNOTSUPP) return errno;
    if (end > before && ::ftruncate(fd, static_cast<off_t>(end)) != 0) return errno;
  }
  constexpr std::array<timespec, 2> kModifiedNow{timespec{0, UTIME_OMIT}, timespec{0, UTIME_NOW}};
  static_cast<void>(::futimens(fd, kModifiedNow.data()));
  clear_privileges(fd, request.caller());
  store_.data().set_size(file.container, std::max(before, end));
  return 0;
}

// `alone`: its zeros and what it forgets would undo what others write meanwhile, or they what it
// does.
void FileServer::begin_mapped(const std::shared_ptr<Asked>& asked, const Effect& effect, bool alone,
                              const std::function<void(Reply)>& applied) {
  const auto begin = [this, asked, effect, alone, applied] {
    apply_mapped(asked, effect, alone, applied);
  };
  {
    const std::lock_guard guard(effect.file->data_mutex);
    if (!effect.file->turns.begin(alone, begin)) return;
  }
  begin();
}

void FileServer::end_turn(File& file) {
  std::vector<PageTurns::Start> begun;
  {
    const std::lock_guard guard(file.data_mutex);
    begun = file.turns.end();
  }
  resume(std::move(begun));
}

void FileServer::apply_mapped(const std::shared_ptr<Asked>& asked, const Effect& effect, bool alone,
                              const std::function<void(Reply)>& applied) {
  const Request& request = asked->request;
  const std::shared_ptr<File> file = effect.file;
  const ContainerId container = file->container;  // constant once the file is mapped
  const auto reply = std::make_shared<Reply>();
  const auto finish = [this, asked, reply, applied, file](int error) {
    reply->set_id(asked->request.id());
    reply->set_incarnation(incarnation_);
    if (reply->error() == 0) reply->set_error(static_cast<std::uint32_t>(error));
    if (reply->error() != 0 || op_of(asked->request) != FileOp::kWrite)
      return applied(std::move(*reply));
    // The disk may be slow: not on a shard's thread.
    pool_.resume([this, reply, applied, file] {
      reply->set_error(static_cast<std::uint32_t>(fill(*file, *reply)));
      applied(std::move(*reply));
    });
  };
  const auto end = [this, file, finish](int error) {
    end_turn(*file);
    finish(error);
  };
  const auto end_pages = [this, asked, file, end](const Status& changed) {
    if (!changed)
      log_failure("pages", *file, *asked,
                  "it is mapped for writing, and its pages could not be changed: " +
                      changed.error().message());
    end(error_of(changed));
  };
  const FileOp op = op_of(request);
  if (op == FileOp::kCopyRange) return end(EXDEV);  // the caller's kernel reads and writes instead

  if (op == FileOp::kWrite) {
    // Looked up here only: how the write ends is heard on a shard's thread, which shall wait
    // neither for who goes through the whole table nor for the disk when the file is closed.
    const auto opened = table_.find_open(asked->from->node, request.handle());
    if (opened == nullptr || opened->file != file) return end(ESTALE);
    const auto write = [this, asked, file, opened, container, reply, finish, end, end_pages] {
      std::uint64_t offset = 0;
      if (const int error = make_room(asked->request, *opened, offset); error != 0)
        return end(error);
      const std::string& data = asked->request.data();
      reply->set_value(data.size());
      const bool synchronous = is_synchronous(opened->fd.get());
      const auto written = [this, asked, file, offset, synchronous, finish,
                            end_pages](const Status& changed) {
        if (!changed || !synchronous) return end_pages(changed);
        end_turn(*file);  // nobody waits for the disk of another
        write_through(asked, file, {offset, asked->request.data().size()}, finish);
      };
      write_pieces(container, {{offset, std::as_bytes(std::span(data.data(), data.size()))}},
                   written);
    };
    const std::uint64_t before = size_of(*file);
    if ((request.flags() & O_APPEND) != 0 || request.offset() <= before) return write();
    // While writes go together it only grows.
    if (!alone) {
      end_turn(*file);
      return begin_mapped(asked, effect, true, applied);
    }
    return clear_behind(container, before, request.offset(), write, end_pages);
  }

  constexpr std::uint32_t kMakesZeros = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
  constexpr std::uint32_t kAllowed = kMakesZeros | FALLOC_FL_KEEP_SIZE;
  if (op == FileOp::kAllocate && (request.mode() & ~kAllowed) != 0) return end(EOPNOTSUPP);
  const std::uint64_t before = size_of(*file);
  const auto change = [this, asked, file, container, reply, before, end, end_pages] {
    const Request& wanted = asked->request;
    std::uint64_t after = 0;
    {
      const std::lock_guard guard(file->room_mutex);
      store_.data().resize(container, [&] {
        work(*asked->from, wanted, *reply);
        return after = size_of(*file);
      });
    }
    if (reply->error() != 0) return end(0);
    std::vector<Piece> pieces;
    FileRange gone{0, 0};
    if (after < before) {
      pieces.push_back({after, zeros(after, page_end(after))});
      gone = {after, FileRange::kToEnd};
    }
    if (op_of(wanted) == FileOp::kAllocate && (wanted.mode() & kMakesZeros) != 0) {
      const std::uint64_t first = wanted.offset();
      const std::uint64_t last = first + wanted.size();
      const std::uint64_t left = std::min(page_end(first), last);
      const std::uint64_t right = std::max(last / kPageSize * kPageSize, left);
      pieces.push_back({first, zeros(first, left)});
      pieces.push_back({right, zeros(right, last)});
      gone = {first, wanted.size()};
    }
    write_pieces(container, std::move(pieces),
                 [this, container, gone, end_pages](const Status& written) {
                   if (!written || gone.length == 0) return end_pages(written);
                   store_.data().discard(container, gone, end_pages);
                 });
  };
  const std::uint64_t after = size_wanted(request);
  if (after <= before) return change();
  clear_behind(container, before, after, change, end_pages);
}

}  // namespace gob::file
