// What a program may have found out about its processor, and goes on using wherever it runs: a
// target that lacks it would end it (SIGILL), or could not restore its registers. Functions; any
// thread.
#pragma once

#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/migration/migration.pb.h"

namespace gob::migration {

// Of this machine: instructions by the names of /proc/cpuinfo, and "xsave:COMPONENT@OFFSET" for
// each part of the registers that the kernel saves. Other processors than x86: the bits of
// AT_HWCAP.
Cpu cpu_here();

// Those of `has` that `needs` names and it lacks.
std::vector<std::string> missing_features(const Cpu& needs, const Cpu& has);

// kUnsupported if what runs on `needs` cannot go on on `has`: what is missing, and what to do. A
// source of an older release says nothing, and is trusted.
Status can_run(const Cpu& needs, const Cpu& has);

}  // namespace gob::migration
