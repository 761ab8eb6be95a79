// MoveDoor: how gobmigrate speaks to a connection of a process that moves. A socket pair, both ends of
// which the process has: CRIU takes it along. gobmigrate copies the end `door` (pidfd_getfd(2)), whose
// number is in the name of a memory file, /memfd:gob-session:NUMBER. Linked into gobmigrate, too.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob::client {

inline constexpr const char* kSessionFile = "gob-session:";
inline constexpr const char* kGuardianName = "gob-guardian";

// What the guardian of a connection is asked to do. It answers each: kDone, or kRefused and why.
enum class MoveAsk : char {
  kDescriptors = 'D',  // numbers that will be closed at kLeave; kDone, then they, with blanks
  kPrepare = 'P',      // the program's threads stay out of libgob; refused if they do not
  // With all other threads stopped, and a descriptor (O_PATH) of a gobd's socket:
  kTry = 'T',    // connect and open all containers, as if to join; nothing changes
  kLeave = 'L',  // after kTry: without a connection or a mapping from here on; needs no lock or memory
  kJoin = 'J',   // connect there and map all again, or, if nothing was left, go on
  kLose = 'X',   // it cannot join: as if gobd had ended
};
inline constexpr char kDone = 'y';
inline constexpr char kRefused = 'n';
constexpr std::size_t kMaxMoveBytes = 4096;

struct MoveLetter {
  char what = 0;
  std::uint64_t number = 0;  // of a request; its answer has the same
  std::string text;
  UniqueFd fd;
};

Status send_letter(int socket, const MoveLetter& letter, bool wait);
// Does not wait; nothing: there is none.
std::optional<MoveLetter> receive_letter(int socket);

}  // namespace gob::client
