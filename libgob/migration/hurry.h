// Hurry: a stopped process waits for what is done now, and so do all who wait for that process. Priority over
// other programs of the node, as far as nice(2) goes.
#pragma once

#include <sys/types.h>

#include <string>

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

// That of this node's gobd: who serves the pages of a process that runs is page service, too (0042).
// `socket`: of gobd. If it cannot be told, that with which this program began.
int page_service_priority(const std::string& socket);
// That of those who fill and stream: no fault stands in line behind them, nor they behind programs.
inline int behind(int page_service) { return page_service < 0 ? page_service / 2 : page_service; }
// The calling thread has this priority, as nice(1) counts.
void work_at(int priority);

}  // namespace gob::migration
