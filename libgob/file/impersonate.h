// What a thread may do on the host's file system: that of the program that asks, on whatever node
// it is. Changes the calling thread only; for threads that do nothing else (WorkerPool).
#pragma once

#include "libgob/base/result.h"
#include "libgob/file/file.pb.h"

namespace gob::file {

// Once in each thread: file modes are as asked for, whatever this process's umask is.
void prepare_to_impersonate();

// Takes user, group and supplementary groups for access to files. Returns 0 or an errno: a gobd
// that does not run as root serves only its own user, EPERM.
[[nodiscard]] int impersonate(const peer::FileCaller& caller);
// gobd's own rights again.
void be_gobd();

}  // namespace gob::file
