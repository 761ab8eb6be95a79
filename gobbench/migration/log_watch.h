// Waiting for what another process writes to a file or a pipe. Any thread.
#pragma once

#include <chrono>
#include <string>

#include "gobbench/process.h"
#include "libgob/base/result.h"

namespace gob::bench {

// The first whole line of the file that holds `text`, now or later. kTimedOut otherwise: the error
// has the end of the file.
[[nodiscard]] Result<std::string> await_line(const std::string& file, const std::string& text,
                                             std::chrono::milliseconds limit);
// Until `process` has written something to the pipe whose read end is `fd`. Fails if it ends first.
[[nodiscard]] Status await_word(int fd, Process& process, const std::string& what,
                                std::chrono::milliseconds limit);
// The last lines of a file.
[[nodiscard]] std::string end_of(const std::string& file);

}  // namespace gob::bench
