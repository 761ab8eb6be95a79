// What the container tables of two nodes say to each other. The lowest member of the view orders
// all changes; links are FIFO, so every member's table is a prefix of that order.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "libgob/base/ids.h"
#include "libgob/base/result.h"
#include "libgob/container/container_record.h"

namespace gob {
namespace container {

// Any member -> orderer. `record` lacks what the orderer decides: id, epoch.
struct Create {
  ContainerRecord record;
  friend bool operator==(const Create&, const Create&) = default;
};
struct Remove {
  std::uint64_t sequence = 0;
  ContainerId id;
  Credentials who;
  friend bool operator==(const Remove&, const Remove&) = default;
};
// Orderer -> requester: it cannot be.
struct Refuse {
  std::uint64_t sequence = 0;
  ErrorCode code = ErrorCode::kInvalidArgument;
  int errno_value = 0;
  std::string text;
  friend bool operator==(const Refuse&, const Refuse&) = default;
};
// Orderer -> all members: change number `version`.
struct Add {
  std::uint64_t version = 0;
  ContainerRecord record;
  friend bool operator==(const Add&, const Add&) = default;
};
struct Erase {
  std::uint64_t version = 0;
  ContainerId id;
  NodeId requester;
  std::uint64_t sequence = 0;
  friend bool operator==(const Erase&, const Erase&) = default;
};
// Member -> orderer: made all changes up to this.
struct Ack {
  std::uint64_t version = 0;
  friend bool operator==(const Ack&, const Ack&) = default;
};
// Orderer -> all members: every member has made all changes up to this.
struct Commit {
  std::uint64_t version = 0;
  friend bool operator==(const Commit&, const Commit&) = default;
};

using Body = std::variant<Create, Remove, Refuse, Add, Erase, Ack, Commit>;

}  // namespace container

struct ContainerMessage {
  Epoch epoch;
  container::Body body;
  friend bool operator==(const ContainerMessage&, const ContainerMessage&) = default;
};

}  // namespace gob
