#include "libgob/migration/hurry.h"

#include <sys/resource.h>
#include <sys/socket.h>

#include "libgob/runtime/control_client.h"

namespace gob::migration {
namespace {

constexpr int kHurried = -20;
const int kUsual = ::getpriority(PRIO_PROCESS, 0);

// Who may not have it works without.
void set(pid_t thread, int priority) {
  static_cast<void>(::setpriority(PRIO_PROCESS, static_cast<id_t>(thread), priority));
}

}  // namespace

Hurry::Hurry() { set(0, kHurried); }
Hurry::~Hurry() { take_time(); }

void hurry(pid_t pid) { set(pid, kHurried); }

void take_time() { set(0, kUsual); }

int page_service_priority(const std::string& socket) {
  const auto client = ControlClient::connect(socket, "gobmigrate", std::chrono::seconds(5));
  ucred peer{};
  socklen_t bytes = sizeof peer;
  if (!client || ::getsockopt((*client)->fd(), SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0)
    return kUsual;
  errno = 0;
  const int priority = ::getpriority(PRIO_PROCESS, static_cast<id_t>(peer.pid));
  return errno == 0 ? priority : kUsual;
}

void work_at(int priority) { set(0, priority); }

}  // namespace gob::migration
