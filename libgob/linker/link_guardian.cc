#include "libgob/linker/link_guardian.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>

namespace gob {
namespace {

constexpr int kWatched = 3;

// In the child: nothing of the parent's stays open but the pipe.
[[noreturn]] void guard(int pipe, const std::string& service, std::uint32_t patience_ms) {
  ::prctl(PR_SET_NAME, "gob-guardian");
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGPIPE}) std::signal(signal, SIG_IGN);
  const int null = ::open("/dev/null", O_RDWR);
  for (int standard = 0; standard < 3; ++standard) ::dup2(null, standard);
  if (pipe != kWatched) ::dup2(pipe, kWatched);
  ::close_range(kWatched + 1, ~0u, 0);
  char byte = 0;
  while (::read(kWatched, &byte, 1) < 0 && errno == EINTR) {
  }
  // A gobd that was started again at once is here first, and does the same.
  const auto device = GobDevice::open(service, patience_ms);
  if (!device) ::_exit(1);
  for (const GobDevice::Found& link : (*device)->links())
    static_cast<void>(drop_link(**device, link));
  ::_exit(0);
}

}  // namespace

Status drop_link(const GobDevice& device, const GobDevice::Found& link) {
  const std::uint64_t pages = pages_of_cookie(link.cookie);
  for (std::uint64_t first = 0; first < pages; first += abi::kRun) {
    const auto count = static_cast<unsigned>(std::min<std::uint64_t>(abi::kRun, pages - first));
    const auto taken = device.take(link.link, PageIndex{first}, count, true, nullptr);
    if (!taken) return taken.error();
  }
  return {};
}

Result<UniqueFd> start_link_guardian(const std::string& service, std::uint32_t patience_ms) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return system_error("cannot make a pipe");
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return system_error("cannot start the guardian of links");
  if (child == 0) guard(read_end.get(), service, patience_ms);
  return write_end;
}

}  // namespace gob
