#include "libgob/migration/hurry.h"

#include <sys/resource.h>

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

}  // namespace gob::migration
