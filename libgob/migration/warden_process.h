// The warden's own side: what runs as process 1 of a migrant's namespaces. One thread.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "libgob/base/unique_fd.h"

namespace gob::migration {

class WardenProcess {
 public:
  WardenProcess(UniqueFd socket, std::string socket_path, std::string session, std::string folder)
      : socket_(std::move(socket)),
        gobd_(std::move(socket_path)),
        folder_(std::move(folder)),
        sessions_{std::move(session)} {}
  [[noreturn]] void run();

 private:
  void set_up();
  // False: whoever served the memory is gone.
  bool hear();
  void start_criu(const std::string& bytes);
  void reap();
  void tell(char what, int status);
  [[noreturn]] void end_migrant();
  void clean_up();

  UniqueFd socket_;
  std::string gobd_, folder_;
  std::vector<std::string> sessions_;
  UniqueFd children_;  // signalfd of SIGCHLD
  std::vector<UniqueFd> uffds_;
  pid_t criu_ = -1;
  pid_t root_ = -1;
  int root_status_ = 0;
  bool restored_ = false;
  bool done_ = false;
  bool cleaned_ = false;
};

}  // namespace gob::migration
