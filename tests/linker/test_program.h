// A program in its own process that maps a container and touches it on command, for the tests of
// the map linker. The test plays gobd: it gets the program's faults and answers them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "libgob/container/frame_pool.h"
#include "libgob/linker/mapping.h"

namespace gob::test {

enum class Op : std::uint32_t {
  kRead,           // result: the word at the page
  kWrite,          // writes `value` there
  kReadInto,       // read(2) of a pipe that holds `value` into the page; result: what read returned
  kWriteOut,       // write(2) out of the page into a pipe; result: the word that came out
  kDontNeed,       // madvise(MADV_DONTNEED) on `value` pages from the page
  kRemove,         // madvise(MADV_REMOVE) on the page
  kUnmap,          // munmap of `value` pages from the page
  kFork,           // forks after MADV_DONTFORK; result: 1 if the child has no such mapping
  kManyReads,      // `value` threads read the page at once; result: the sum of what they saw
  kReadRange,      // reads `value` pages from the page in ascending order; result: the sum
  kWriteRange,     // adds 1 to the word of `value` pages in ascending order; result: their number
  kHammer,         // adds 1 to the word of the page `value` times, from two threads
  kClearNonBlock,  // clears O_NONBLOCK on the userfaultfd
  kExit,
};

struct Command {
  Op op;
  std::uint32_t page = 0;  // of the mapping
  std::uint64_t value = 0;
};
struct Reply {
  std::int64_t result = 0;
  std::int32_t error = 0;  // errno, or kSigbus
  std::int32_t pad = 0;
};
inline constexpr std::int32_t kSigbus = -1;

class TestProgram {
 public:
  struct Config {
    PageIndex first{0};
    std::uint64_t pages = 64;
    bool writable = true;   // PROT_WRITE
    bool may_write = true;  // what gobd believes
    std::uint64_t id = 1;   // of the mapping
    std::uint32_t container = 1;
  };
  TestProgram(const FramePool& pool, const Config& config);
  ~TestProgram();
  TestProgram(const TestProgram&) = delete;

  [[nodiscard]] const std::shared_ptr<Mapping>& mapping() const { return mapping_; }
  [[nodiscard]] pid_t pid() const { return pid_; }
  // Address of the mapping in the program.
  [[nodiscard]] std::uint64_t address() const { return mapping_->config().address; }

  void start(const Command& command);
  // The answer to the last command, if it comes within the time.
  [[nodiscard]] std::optional<Reply> reply(int timeout_ms = 10'000);
  // Kills it and waits until it is gone.
  void kill();

 private:
  UniqueFd socket_;
  pid_t pid_ = -1;
  std::shared_ptr<Mapping> mapping_;
};

// Sends and receives one descriptor with a few bytes over a Unix socket. False on failure.
bool send_fd(int socket, int fd, const void* bytes, std::size_t size);
bool receive_fd(int socket, UniqueFd& fd, void* bytes, std::size_t size);

}  // namespace gob::test
