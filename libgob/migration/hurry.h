// Hurry: a stopped process waits for what is done now, and so do all who wait for that process. Priority over
// other programs of the node, as far as nice(2) goes.
#pragma once

#include <sys/types.h>

namespace gob::migration {

// The thread that makes it has it as long as this lives; threads and processes that it starts meanwhile have it
// for good, unless they are told otherwise.
class Hurry {
 public:
  Hurry();
  ~Hurry();
  Hurry(const Hurry&) = delete;
  Hurry& operator=(const Hurry&) = delete;
};

// A process of one thread, for good.
void hurry(pid_t pid);
// The calling thread has the priority with which this program began, whatever it inherited.
void take_time();

}  // namespace gob::migration
