// libgob_preload.so: for programs that were not built for libgob. Where mmap(2) of a file in a gob
// mount is refused with ENODEV, which is to say a shared mapping of a descriptor that may write,
// the program gets a mapping of the file's container instead. All else is left to the system.
//
// Of such a mapping: msync() is fsync() of the file, mremap() may move it, munmap() of a part only
// takes access away until the last part goes. A forked child gets one of its own in the same place.
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "libgob/client/connection.h"
#include "libgob/client/fork_watch.h"
#include "libgob/client/last_error.h"
#include "libgob/gob.h"

namespace {

// One mapping of ours. Bytes.
struct Mapped {
  gob_container* container = nullptr;
  std::size_t bytes = 0;
  std::size_t mapped_bytes = 0;  // what munmap() has not taken
  std::uint64_t offset = 0;
  bool writable = false;
};

class Mappings {
 public:
  // Never destroyed: programs map and unmap while they exit.
  static Mappings& all() {
    static auto* const instance = new Mappings;
    return *instance;
  }
  // MAP_FAILED and errno if it cannot be done.
  void* map(void* where, std::size_t bytes, int protection, int flags, int fd, off_t offset);
  // False: not ours, and nothing was done.
  bool unmap(void* address, std::size_t bytes, int& result);
  bool remap(void* address, std::size_t old_bytes, std::size_t bytes, int flags, void*& result);
  bool sync(void* address, std::size_t bytes, int& result);
  // Around fork(2).
  void before_fork();
  void after_fork_in_parent() { mutex_.unlock(); }
  void after_fork_in_child();

 private:
  using Table = std::map<std::uintptr_t, Mapped>;
  Mappings();
  [[nodiscard]] bool none() const { return !used_.load(std::memory_order_acquire); }
  gob_connection* connect();
  Table::iterator find(std::uintptr_t at, std::size_t bytes);
  void end(Table::iterator mapping);
  bool map_again(std::uintptr_t at, const Mapped& theirs);

  // What mprotect(2) and munmap(2) have left of a mapping.
  struct Rights {
    std::uintptr_t from = 0;
    std::uintptr_t to = 0;
    int protection = 0;
  };
  void note_rights();

  std::atomic<bool> used_ = false;  // once there was a mapping; before that nothing costs anything
  std::recursive_mutex mutex_;      // libgob maps and unmaps memory, too
  // Guarded by mutex_:
  Table table_;
  gob_connection* connection_ = nullptr;
  std::vector<Rights> rights_;  // when the process forked; only what is not for reading and writing
};

template <class F>
F* real(const char* name) {
  return reinterpret_cast<F*>(::dlsym(RTLD_NEXT, name));
}

std::size_t whole_pages(std::size_t bytes) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

void* failed_with(int error) {
  errno = error;
  return MAP_FAILED;
}

// An access raises SIGBUS, or, without an `empty` file, SIGSEGV. `how`: MAP_FIXED, or that which
// leaves what is there, and fails.
bool keep_free(std::uintptr_t at, std::size_t bytes, int empty, int how) {
  const int kind = empty >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
  return ::mmap(reinterpret_cast<void*>(at), bytes, empty >= 0 ? PROT_READ | PROT_WRITE : PROT_NONE,
                kind | how | MAP_NORESERVE, empty, 0) != MAP_FAILED;
}

int real_munmap(void* address, std::size_t bytes) {
  static auto* const call = real<int(void*, std::size_t)>("munmap");
  return call(address, bytes);
}

Mappings::Mappings() {
  const bool registered =
      gob::client::register_fork_handlers().ok() &&
      ::pthread_atfork([] { all().before_fork(); }, [] { all().after_fork_in_parent(); },
                       [] { all().after_fork_in_child(); }) == 0;
  if (!registered) std::fprintf(stderr, "libgob_preload: forked children may hang\n");
}

void Mappings::before_fork() {
  mutex_.lock();
  rights_.clear();
  if (!table_.empty()) note_rights();
}

void Mappings::note_rights() {
  constexpr int kBoth = PROT_READ | PROT_WRITE;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    unsigned long from = 0, to = 0;
    char read = 0, write = 0, execute = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx %c%c%c", &from, &to, &read, &write, &execute) != 5)
      continue;
    const int protection = (read == 'r' ? PROT_READ : 0) | (write == 'w' ? PROT_WRITE : 0) |
                           (execute == 'x' ? PROT_EXEC : 0);
    if (protection == kBoth) continue;
    for (const auto& [at, mapped] : table_)
      if (from < at + mapped.bytes && at < to)
        rights_.push_back({std::max(from, at), std::min(to, at + mapped.bytes), protection});
  }
}

// The connection and its mappings are the parent's. What cannot be had here raises SIGBUS.
void Mappings::after_fork_in_child() {
  new (&mutex_) std::recursive_mutex;  // it was locked by a thread that has another number here
  const std::lock_guard lock(mutex_);
  connection_ = nullptr;
  if (table_.empty()) return;
  Table theirs = std::exchange(table_, {});
  const auto nothing = gob::client::MappingTable::make_empty_file("gob-preload");
  const int empty = nothing ? nothing->get() : -1;
  // All places first, so that nothing else comes there. Where something is, the program has put it,
  // or the parent had lost its gobd.
  std::erase_if(theirs, [&](const auto& each) {
    const bool is_free = keep_free(each.first, each.second.bytes, empty, MAP_FIXED_NOREPLACE);
    if (!is_free) each.second.container->file.reset();
    return !is_free;
  });
  for (const auto& [at, mapped] : theirs) {
    if (!map_again(at, mapped)) keep_free(at, mapped.bytes, empty, MAP_FIXED);
    mapped.container->file.reset();  // the parent's others use it, there
  }
}

bool Mappings::map_again(std::uintptr_t at, const Mapped& theirs) {
  gob_connection* const connection = connect();
  if (connection == nullptr) return false;
  const auto fail = [](const char* why) {
    std::fprintf(stderr, "libgob_preload: forked process %d lacks a shared mapping: %s\n",
                 static_cast<int>(::getpid()), why);
    return false;
  };
  Mapped mine = theirs;
  if (gob_open_file(connection, theirs.container->file->get(), &mine.container) != 0)
    return fail(gob_last_error());
  void* const place = reinterpret_cast<void*>(at);
  const auto mapped = connection->map(*mine.container, mine.offset, mine.bytes, true, place);
  if (!mapped) {
    gob_close(mine.container);
    return fail(mapped.error().message().c_str());
  }
  for (const Rights& part : rights_)
    if (part.from < at + mine.bytes && at < part.to)
      ::mprotect(reinterpret_cast<void*>(part.from), part.to - part.from, part.protection);
  table_[at] = mine;
  return true;
}

gob_connection* Mappings::connect() {
  if (connection_ != nullptr) return connection_;
  if (const int error = gob_connect(nullptr, &connection_); error != 0) {
    std::fprintf(stderr, "libgob_preload: a shared mapping is refused: %s\n", gob_last_error());
    return nullptr;
  }
  return connection_;
}

void* Mappings::map(void* where, std::size_t bytes, int protection, int flags, int fd,
                    off_t offset) {
  const std::lock_guard lock(mutex_);
  gob_connection* const connection = connect();
  if (connection == nullptr) return failed_with(ENODEV);
  gob_container* container = nullptr;
  if (gob_open_file(connection, fd, &container) != 0) return failed_with(ENODEV);
  used_.store(true, std::memory_order_release);
  const bool writable = (protection & PROT_WRITE) != 0;
  void* const place = (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0 ? where : nullptr;
  if (place != nullptr) {
    int ignored = 0;
    unmap(place, bytes, ignored);
  }
  auto mapped = connection->map(*container, static_cast<std::uint64_t>(offset), bytes, true, place);
  if (!mapped.ok()) {
    gob_close(container);
    std::fprintf(stderr, "libgob_preload: a shared mapping is refused: %s\n",
                 mapped.error().message().c_str());
    return failed_with(mapped.error().errno_value != 0 ? mapped.error().errno_value : ENODEV);
  }
  // It may get write access later, by mprotect().
  if (!writable) ::mprotect(*mapped, whole_pages(bytes), protection);
  table_[reinterpret_cast<std::uintptr_t>(*mapped)] = {
      container, whole_pages(bytes), whole_pages(bytes), static_cast<std::uint64_t>(offset),
      writable};
  return *mapped;
}

// The mapping that holds all of the range.
Mappings::Table::iterator Mappings::find(std::uintptr_t at, std::size_t bytes) {
  auto found = table_.upper_bound(at);
  if (found == table_.begin()) return table_.end();
  --found;
  const std::uintptr_t first = found->first;
  return at - first + bytes <= found->second.bytes ? found : table_.end();
}

void Mappings::end(Table::iterator mapping) {
  void* const address = reinterpret_cast<void*>(mapping->first);
  gob_container* const container = mapping->second.container;
  table_.erase(mapping);  // first: libgob calls munmap()
  gob_unmap(connection_, address);
  gob_close(container);
}

bool Mappings::unmap(void* address, std::size_t bytes, int& result) {
  if (none()) return false;
  const std::lock_guard lock(mutex_);
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  const std::size_t size = whole_pages(bytes);
  result = 0;
  if (const auto found = find(at, size); found != table_.end()) {
    Mapped& mapped = found->second;
    if (size < mapped.mapped_bytes) {
      // gobd counts on the whole of it being there.
      mapped.mapped_bytes -= size;
      result = ::mprotect(address, size, PROT_NONE);
    } else {
      end(found);
    }
    return true;
  }
  // A range that holds whole mappings, and other memory.
  bool ours = false;
  for (auto next = table_.lower_bound(at); next != table_.end() && next->first < at + size;) {
    if (next->first + next->second.bytes > at + size) break;
    ours = true;
    end(next++);
  }
  if (ours) result = real_munmap(address, bytes);
  return ours;
}

bool Mappings::remap(void* address, std::size_t old_bytes, std::size_t bytes, int flags,
                     void*& result) {
  if (none()) return false;
  const std::lock_guard lock(mutex_);
  const auto found = find(reinterpret_cast<std::uintptr_t>(address), whole_pages(old_bytes));
  if (found == table_.end()) return false;
  Mapped& mapped = found->second;
  const bool whole = reinterpret_cast<std::uintptr_t>(address) == found->first &&
                     whole_pages(old_bytes) == mapped.bytes;
  if (whole && whole_pages(bytes) == mapped.bytes && (flags & MREMAP_FIXED) == 0) {
    result = address;
  } else if (!whole || (flags & MREMAP_MAYMOVE) == 0 || (flags & MREMAP_FIXED) != 0) {
    result = failed_with(ENOMEM);
  } else {
    auto moved = connection_->map(*mapped.container, mapped.offset, bytes, true);
    if (!moved.ok()) {
      result = failed_with(moved.error().errno_value != 0 ? moved.error().errno_value : ENOMEM);
      return true;
    }
    Mapped fresh = mapped;
    fresh.bytes = fresh.mapped_bytes = whole_pages(bytes);
    table_.erase(found);
    gob_unmap(connection_, address);
    if (!fresh.writable) ::mprotect(*moved, fresh.bytes, PROT_READ);
    table_[reinterpret_cast<std::uintptr_t>(*moved)] = fresh;
    result = *moved;
  }
  return true;
}

bool Mappings::sync(void* address, std::size_t bytes, int& result) {
  if (none()) return false;
  std::shared_ptr<const gob::UniqueFd> file;
  {
    const std::lock_guard lock(mutex_);
    const auto found = find(reinterpret_cast<std::uintptr_t>(address), whole_pages(bytes));
    if (found == table_.end()) return false;
    file = found->second.container->file;
  }
  result = ::fsync(file->get());
  return true;
}

void* map_or_share(void* where, std::size_t bytes, int protection, int flags, int fd,
                   off_t offset) {
  static auto* const call = real<void*(void*, std::size_t, int, int, int, off_t)>("mmap");
  void* const mapped = call(where, bytes, protection, flags, fd, offset);
  const int kind = flags & MAP_TYPE;
  if (mapped != MAP_FAILED || errno != ENODEV || fd < 0 ||
      (kind != MAP_SHARED && kind != MAP_SHARED_VALIDATE))
    return mapped;
  return Mappings::all().map(where, bytes, protection, flags, fd, offset);
}

}  // namespace

extern "C" {

GOB_API void* mmap(void* where, std::size_t bytes, int protection, int flags, int fd,
                   off_t offset) {
  return map_or_share(where, bytes, protection, flags, fd, offset);
}

GOB_API void* mmap64(void* where, std::size_t bytes, int protection, int flags, int fd,
                     off64_t offset) {
  return map_or_share(where, bytes, protection, flags, fd, offset);
}

GOB_API int munmap(void* address, std::size_t bytes) {
  int result = 0;
  return Mappings::all().unmap(address, bytes, result) ? result : real_munmap(address, bytes);
}

GOB_API int msync(void* address, std::size_t bytes, int flags) {
  static auto* const call = real<int(void*, std::size_t, int)>("msync");
  int result = 0;
  return Mappings::all().sync(address, bytes, result) ? result : call(address, bytes, flags);
}

GOB_API void* mremap(void* address, std::size_t old_bytes, std::size_t bytes, int flags, ...) {
  static auto* const call = real<void*(void*, std::size_t, std::size_t, int, void*)>("mremap");
  void* where = nullptr;
  if ((flags & MREMAP_FIXED) != 0) {
    std::va_list rest;
    va_start(rest, flags);
    where = va_arg(rest, void*);
    va_end(rest);
  }
  void* result = nullptr;
  if (Mappings::all().remap(address, old_bytes, bytes, flags, result)) return result;
  return call(address, old_bytes, bytes, flags, where);
}

}  // extern "C"
