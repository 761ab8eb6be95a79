// The guardian: a thread of a connection that waits for its end and then takes the mappings away,
// so that no access waits for ever on a gobd that died, or reads zeros. It takes no signals, and
// then needs neither locks nor memory that a program's thread could hold while it waits for a page. It
// is also who acts when the process moves (move_door.h).
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/client/move_door.h"

struct gob_connection;

namespace gob::client {

class Guardian {
 public:
  struct Ends {
    static Result<Ends> make();
    UniqueFd inside, door;  // a socket pair; `door` is for gobmigrate
    UniqueFd stop;
  };
  // Watches `connection`, which outlives it.
  static Result<std::unique_ptr<Guardian>> start(gob_connection& connection, Ends ends);
  // Ends the thread; the mappings stay as they are.
  ~Guardian();
  Guardian(const Guardian&) = delete;
  Guardian& operator=(const Guardian&) = delete;

  // In a forked child, where the thread does not exist.
  void close_in_child();

 private:
  enum class State { kIdle, kPrepared, kAway };
  Guardian(gob_connection& connection, Ends ends)
      : connection_(connection), ends_(std::move(ends)) {}
  void run();
  void answer(const MoveLetter& letter);
  Status obey(const MoveLetter& letter);
  void end_move();
  void lose();

  gob_connection& connection_;
  const bool quiet_ = std::getenv("GOB_QUIET") != nullptr;  // as it was when the program connected
  Ends ends_;
  State state_ = State::kIdle;  // of the thread
  std::thread thread_;
};

}  // namespace gob::client
