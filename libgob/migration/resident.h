// Resident: how gobmigrate reaches the process that serves a migrant's memory on this node, when the
// migrant shall move on. An abstract Unix socket, named after the migrant's pid namespace: it is
// found from any of its processes, and leaves no file behind.
#pragma once

#include <sys/types.h>

#include <optional>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/migration/migration.pb.h"

namespace gob::migration {

// gobmigrate's end. One thread.
class Resident {
 public:
  // kNotFound: `pid` is no migrant, or nobody serves it any more.
  static Result<Resident> connect(pid_t pid);
  // kUnavailable: its server has ended. The reply's error becomes an error here.
  Result<ResidentReply> call(const ResidentRequest& request);

 private:
  explicit Resident(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

// The server's end: one client a time. One thread.
class ResidentPort {
 public:
  // For the namespace of `pid`.
  static Result<ResidentPort> open(pid_t pid);
  // Readable when next() has something.
  [[nodiscard]] int fd() const { return client_ ? client_.get() : listener_.get(); }
  // A request; none while a client comes or goes.
  std::optional<ResidentRequest> next();
  [[nodiscard]] bool has_client() const { return static_cast<bool>(client_); }
  void reply(const ResidentReply& reply);

 private:
  explicit ResidentPort(UniqueFd listener) : listener_(std::move(listener)) {}
  UniqueFd listener_;
  UniqueFd client_;
};

}  // namespace gob::migration
