// The warden's own side: what runs as process 1 of a migrant's namespaces. One thread.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/migration/address.h"

namespace gob::migration {

constexpr std::size_t kMaxWardenMessage = std::size_t{64} << 10;

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
  // warden_view.cc
  Status view(const std::vector<std::string>& words);
  Status mount_folders(const std::vector<std::string>& words);

  // warden_network.cc
  Status hold_addresses(const std::vector<std::string>& words);
  Status add_addresses();
  void open_network();  // the migrant is about to run
  void leave_network();  // it will not

  void take_terminal(UniqueFd terminal);
  void bring_forward(pid_t group);
  void start_criu(std::vector<std::string> words);
  void reap();
  void tell(char what, int status, const std::string& text = {});
  [[noreturn]] void end_migrant();
  void clean_up();  // images and containers
  void detach();

  UniqueFd socket_;
  UniqueFd gobd_folder_;  // where gobd's socket is, whatever covers its path
  std::string gobd_, folder_;
  std::vector<std::string> sessions_;  // whose containers it would have to remove
  std::vector<std::string> attached_;
  std::string held_;  // the name of the rules that hold its packets back
  std::vector<Address> addresses_;  // that it brings along; with a device: to be added here
  std::size_t added_ = 0;           // of these
  UniqueFd children_;  // signalfd of SIGCHLD
  std::vector<UniqueFd> uffds_;
  std::vector<UniqueFd> streams_;  // until the migrant has them
  UniqueFd terminal_;               // of this session, likewise
  pid_t criu_ = -1;
  pid_t root_ = -1;
  int root_status_ = 0;
  bool restored_ = false;
  bool done_ = false;  // the migrant needs nobody
};

}  // namespace gob::migration
