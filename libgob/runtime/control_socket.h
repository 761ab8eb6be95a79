// System calls on the Unix sockets of the control protocol, with descriptors that cannot leak.
// Functions: no thread affinity.
#pragma once

#include <sys/un.h>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob {

// kInvalidArgument if the path is empty or does not fit (107 bytes and the final zero).
Result<sockaddr_un> unix_address(const std::string& path);

// Sends what the socket takes of `bytes`; `fds` go with the first byte, so they are gone once the
// result is not 0. 0: the socket is full. MSG_DONTWAIT is used unless `wait`.
Result<std::size_t> send_some(int socket, std::string_view bytes, std::span<const int> fds,
                              bool wait);

struct Received {
  enum class What { kBytes, kNothingNow, kEnd };
  What what = What::kNothingNow;
  std::size_t bytes = 0;
};
// Reads without waiting into `buffer`; descriptors that came are appended to `fds`, close-on-exec.
// If this process had no room for all that came at once, none of these is, but an empty one in
// their place. kProtocol if more came at once than a message may carry; the surplus is closed by
// the kernel.
Result<Received> receive_some(int socket, std::span<char> buffer, std::vector<UniqueFd>& fds);

// Takes the first `count` of `queue`; kProtocol if there are fewer. kNoSpace, EMFILE if there was
// no room for those of this message: the next ones are those of the next.
Result<std::vector<UniqueFd>> take_fds(std::vector<UniqueFd>& queue, std::size_t count);

}  // namespace gob
