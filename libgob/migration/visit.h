// Visit: gobmigrate in a process that stands still: descriptors are put into it and taken from it,
// and memory is mapped there. When it ends nothing of it is left but the mappings. One thread,
// which is the tracer.
#pragma once

#include <fcntl.h>
#include <sys/time.h>

#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/migration/injector.h"

namespace gob::migration {

// Memory that a process has mapped, or shall have.
struct SharedArea {
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;   // whole pages
  std::uint64_t offset = 0;  // in what is mapped
  int protection = 0;        // of mmap(2)
  bool may_write = false;    // the program may give itself the right to write
  std::uint64_t inode = 0;   // of what is mapped, where that is known
};

class Visit {
 public:
  static Result<Visit> begin(pid_t pid, std::chrono::milliseconds limit);
  ~Visit();
  Visit(Visit&& other) noexcept;
  Visit& operator=(Visit&&) = delete;

  [[nodiscard]] pid_t pid() const { return injector_.pid(); }
  [[nodiscard]] std::vector<Injector::Waiting> waiting() const { return injector_.waiting(); }

  // Copies of descriptors of this process: their numbers there, until the end of the visit.
  Result<std::vector<int>> give(std::initializer_list<int> fds);
  // Maps `fd`, a number there, over whatever is in the place.
  Status map(const SharedArea& area, int fd);
  // Takes a record lock (fcntl(2)) by a descriptor there, without waiting; `what`: for the error.
  Status lock(const std::string& what, int fd, const struct flock& record);
  // Sets its timer `which` of setitimer(2), to expire once.
  Status alarm(int which, const timeval& left);
  // A new userfaultfd of that process with kUffdNewsFeatures, of which nothing is left there.
  // `device`: a number there of /dev/userfaultfd, or -1.
  Result<UniqueFd> make_uffd(int device);

 private:
  explicit Visit(Injector injector) : injector_(std::move(injector)) {}
  Status open();  // the way in
  Status take_room();
  Result<UniqueFd> take(int fd);
  void close(int fd);

  Injector injector_;
  UniqueFd process_;        // a pidfd
  std::uint64_t room_ = 0;  // memory there, for arguments
  UniqueFd ours_;           // of a socket pair,
  int theirs_ = -1;         // whose other end is there
  std::vector<int> given_;
};

// Visits to processes, each begun when it is first wanted; all end with this.
class Visits {
 public:
  explicit Visits(std::chrono::milliseconds limit) : limit_(limit) {}
  Result<Visit*> to(pid_t pid);

 private:
  const std::chrono::milliseconds limit_;
  std::map<pid_t, Visit> visits_;
};

}  // namespace gob::migration
