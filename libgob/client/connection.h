// What a gob_connection and a gob_container are. Any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/client/gate.h"
#include "libgob/client/guardian.h"
#include "libgob/client/mapping_table.h"
#include "libgob/gob.h"
#include "libgob/runtime/control_client.h"

// Constant after gob_open(), but for `id`, which may change when the process moves.
struct gob_container {
  gob_connection* connection = nullptr;
  std::uint32_t id = 0;
  std::string name;
  std::uint64_t size_bytes = 0;
  int access = 0;
  std::uint64_t limit_bytes = 0;  // up to where it may be mapped: of a file, more than its size
  std::shared_ptr<const gob::UniqueFd> file;  // of a file: keeps it open at its home
};

struct gob_connection {
 public:
  static gob::Result<std::unique_ptr<gob_connection>> open(const char* socket_path);
  ~gob_connection();
  gob_connection(const gob_connection&) = delete;
  gob_connection& operator=(const gob_connection&) = delete;

  // False in a process that was forked from the one that connected.
  [[nodiscard]] bool ours() const;
  gob::Result<gob::ControlClient::Answer> call(
      const gob::control::Request& request, std::span<const int> fds = {},
      gob::ControlClient::Milliseconds timeout = gob::ControlClient::kDefaultTimeout);
  [[nodiscard]] const gob::control::HelloReply& hello() const { return client_->hello(); }

  gob_container* adopt(std::unique_ptr<gob_container> container);
  void close(gob_container* container);

  // `where`: take this place, whatever is mapped there; null: any free one.
  gob::Result<void*> map(const gob_container& container, std::uint64_t offset, std::size_t length,
                         bool writable, void* where = nullptr);
  gob::Status unmap(void* address);

  gob::client::Gate& gate() { return gate_; }

  // For the guardian. The process moves (move_door.h): after prepare_move() no thread is in here, until
  // end_move(); the others stand still meanwhile. `socket`: a gobd's.
  [[nodiscard]] int socket() const { return client_->fd(); }
  std::vector<std::string> poison() { return mappings_.poison(); }
  gob::Status prepare_move();
  void end_move();
  std::string descriptors();
  gob::Status try_join(const std::string& socket);
  gob::Status leave();
  gob::Status join(const std::string& socket);

  // Around fork().
  void before_fork() { mappings_.lock(); }
  void after_fork_in_parent() { mappings_.unlock(); }
  void after_fork_in_child();

 private:
  gob_connection(std::unique_ptr<gob::ControlClient> client, gob::UniqueFd empty_file);
  // gobd need not wait for this mapping to become ready.
  void give_up(std::uint64_t mapping_id);

  using Reopened = std::map<std::uint32_t, std::uint32_t>;  // containers there, by their ids here
  gob::Result<std::unique_ptr<gob::ControlClient>> reopen(const std::string& socket,
                                                          Reopened& reopened);
  gob::Status join(gob::ControlClient& gobd, const gob::client::MappingTable::Place& place,
                   std::uint32_t id);

  const pid_t owner_;
  gob::client::Gate gate_;
  std::vector<std::unique_ptr<gob::ControlClient>> former_;  // of nodes that the process has left
  std::unique_ptr<gob::ControlClient> client_;
  gob::client::MappingTable mappings_;
  std::unique_ptr<gob::client::Guardian> guardian_;

  std::mutex containers_mutex_;
  std::list<std::unique_ptr<gob_container>> containers_;  // protected by containers_mutex_
};
