// What gobctl's exit status says; documented in gobctl(1). Values: no thread affinity.
#pragma once

#include <cerrno>

#include "libgob/base/result.h"

namespace gob::ctl {

enum ExitCode : int {
  kExitOk = 0,
  kExitFailed = 1,
  kExitUsage = 2,     // the command line, or a value in it, can never work
  kExitNoDaemon = 3,  // no gobd answers there
  kExitNotFound = 4,
  kExitDenied = 5,
  kExitExists = 6,
  kExitNoSpace = 7,
  kExitNotInTime = 8,  // timed out, or busy
  // "gobctl wait" gives the status of the process; this, if it has none to give.
  kExitNotWaited = 125,
};

inline ExitCode exit_code_of(const Error& error) {
  if (error.errno_value == EBUSY) return kExitNotInTime;
  switch (error.code) {
    case ErrorCode::kInvalidArgument:
      return kExitUsage;
    case ErrorCode::kNotFound:
      return kExitNotFound;
    case ErrorCode::kAlreadyExists:
      return kExitExists;
    case ErrorCode::kPermissionDenied:
      return kExitDenied;
    case ErrorCode::kNoSpace:
      return kExitNoSpace;
    case ErrorCode::kUnavailable:
      return kExitNoDaemon;
    case ErrorCode::kTimedOut:
      return kExitNotInTime;
    case ErrorCode::kLost:
    case ErrorCode::kProtocol:
    case ErrorCode::kUnsupported:
    case ErrorCode::kSystem:
      return kExitFailed;
  }
  return kExitFailed;
}

}  // namespace gob::ctl
