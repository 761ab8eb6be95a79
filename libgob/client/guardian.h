// The guardian: a thread of a connection that waits for its end and then takes the mappings away,
// so that no access waits for ever on a gobd that died, or reads zeros. It takes no signals, and
// needs neither locks nor memory that a program's thread could hold while it waits for a page.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/client/mapping_table.h"

namespace gob::client {

class Guardian {
 public:
  // Watches `socket`; both outlive the guardian. `node` is for its message.
  static Result<std::unique_ptr<Guardian>> start(int socket, MappingTable& mappings,
                                                 const std::string& node);
  // Ends the thread; the mappings stay as they are.
  ~Guardian();
  Guardian(const Guardian&) = delete;
  Guardian& operator=(const Guardian&) = delete;

  // In a forked child, where the thread does not exist.
  void close_in_child() { stop_.reset(); }

 private:
  Guardian(int socket, MappingTable& mappings, std::string node, UniqueFd stop)
      : socket_(socket), mappings_(mappings), node_(std::move(node)), stop_(std::move(stop)) {}
  void run();

  const int socket_;
  MappingTable& mappings_;
  const std::string node_;
  const bool quiet_ = std::getenv("GOB_QUIET") != nullptr;  // as it was when the program connected
  UniqueFd stop_;
  std::thread thread_;
};

}  // namespace gob::client
