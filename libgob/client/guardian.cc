#include "libgob/client/guardian.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdlib>
#include <system_error>
#include <vector>

namespace gob::client {
namespace {

// With write(2): the lock of stdio may be held by a thread that waits for a page.
void tell(const std::string& node, const std::vector<std::string>& containers) {
  std::string line = "gob: the gobd of node " + node + " ended or dropped this program; " +
                     "accesses to what is mapped of ";
  for (std::size_t i = 0; i < containers.size(); ++i) {
    line += (i == 0 ? "\"" : ", \"") + containers[i] + "\"";
  }
  line += " raise SIGBUS\n";
  (void)!::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace

Result<std::unique_ptr<Guardian>> Guardian::start(int socket, MappingTable& mappings,
                                                  const std::string& node) {
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC));
  if (!stop) return system_error("creating an eventfd");
  std::unique_ptr<Guardian> guardian(new Guardian(socket, mappings, node, std::move(stop)));
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);  // inherited by the thread
  Status started;
  try {
    guardian->thread_ = std::thread([raw = guardian.get()] { raw->run(); });
    ::pthread_setname_np(guardian->thread_.native_handle(), "gob-guardian");
  } catch (const std::system_error& error) {
    started = make_error(ErrorCode::kSystem, "starting the thread that watches gobd",
                         error.code().value());
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!started.ok()) return started.error();
  return guardian;
}

Guardian::~Guardian() {
  if (!thread_.joinable()) return;
  ::eventfd_write(stop_.get(), 1);
  thread_.join();
}

void Guardian::run() {
  pollfd watched[2] = {{socket_, POLLRDHUP, 0}, {stop_.get(), POLLIN, 0}};
  while (watched[0].revents == 0 && watched[1].revents == 0) {
    if (::poll(watched, 2, -1) < 0 && errno != EINTR) break;
  }
  // If even poll fails nobody would notice gobd's end later: take it as the end now.
  if (watched[1].revents != 0) return;
  const std::vector<std::string> containers = mappings_.poison();
  if (!containers.empty() && !quiet_) tell(node_, containers);
}

}  // namespace gob::client
