// SourceTerminal: the relay's part for a terminal, at the node where the process was started. It
// writes to it what the process writes, watches its size, and sees when it is gone; it never reads
// what is typed, which is the shell's. The relay is no process of the terminal's session: nothing
// it does stops it.
#pragma once

#include <atomic>
#include <functional>
#include <string>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/migration/stream_ring.h"

namespace gob::migration {

class SourceTerminal {
 public:
  // `terminal`: of open_terminal(). `keys`: of what is typed, for the size.
  SourceTerminal(UniqueFd terminal, StreamRing output, StreamRing keys,
                 StreamRing::GoOn process_lives)
      : terminal_(std::move(terminal)),
        output_(std::move(output)),
        keys_(std::move(keys)),
        process_lives_(std::move(process_lives)) {}
  // Returns when the process has ended and all that it wrote is out, or the terminal is gone, which
  // the process then knows. Has a thread meanwhile.
  void run();

 private:
  Status pass();
  void watch();
  bool put(const std::string& bytes);
  [[nodiscard]] bool ends_lines() const;

  const UniqueFd terminal_;
  StreamRing output_, keys_;
  const StreamRing::GoOn process_lives_;
  std::atomic<bool> over_{false};
};

// The size of a terminal's window in one word, never 0; 0: it does not say.
std::uint64_t window_of(int terminal);
void set_window(int terminal, std::uint64_t window);

}  // namespace gob::migration
