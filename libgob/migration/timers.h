// What CRIU loses of timers. Functions; any thread.
#pragma once

#include <sys/types.h>

#include <vector>

#include "libgob/base/result.h"
#include "libgob/migration/criu_images.h"

namespace gob::migration {

// The stopped process `root` and its descendants have just been restored. A periodic timerfd that
// had expired and was not read has no time left by the kernel's word, so that CRIU makes one that
// never expires again: it gets its period, and keeps the number of its ticks.
void rearm_timers(pid_t root);
// Timers of setitimer(2) that expire once, which it has disarmed.
Status rearm_alarms(pid_t root, const std::vector<Alarm>& alarms);

}  // namespace gob::migration
