// A look at a process and its descendants before anything is frozen: what moves, and what would
// stop it from moving. Functions over /proc; any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/migration/address.h"
#include "libgob/migration/common_memory.h"
#include "libgob/migration/migration.pb.h"
#include "libgob/migration/net_socket.h"

namespace gob::migration {

struct Plan {
  pid_t pid = 0;
  pid_t inside = 0;  // its number in its own namespace
  pid_t parent = 0;
  bool migrant = false;         // it was moved here,
  std::string node;             // that is, to this node,
  std::string record;           // and this is its Migrant
  std::uint64_t out_pages = 0;  // and so much of its memory is still on its way
  std::string command;
  std::vector<pid_t> processes;  // pid first
  std::uint64_t threads = 0;
  std::uint64_t private_bytes = 0;  // anonymous memory that it uses, here, swapped out or still out
  std::uint64_t shared_bytes = 0;   // that goes with the context: shared memory, removed files
  std::vector<File> files;          // that it has open or mapped, and its working folders
  std::vector<Cover> covers;        // what a migrant sees of other nodes
  std::vector<NetSocket> sockets;   // of TCP and UDP
  std::vector<std::string> needed_addresses;  // at which it has such, and which stay
  std::vector<Address> moving_addresses;      // that go along
  std::uint64_t timers = 0;                   // of timerfd_create(2)
  std::uint64_t watches = 0;                  // of inotify
  std::vector<Stream> streams;                // pipes to processes that stay, which will be relayed
  std::vector<CommonSegment> common;          // memory that becomes containers,
  std::uint64_t common_areas = 0;    // and areas where there are such since an earlier move
  std::vector<Stream> relayed;       // those of a migrant that are
  std::optional<Terminal> terminal;  // likewise
  std::optional<Terminal> relayed_terminal;
  std::vector<std::string> obstacles;  // each says what, and what to do; empty: it can move
};

// A file that was removed while in use goes along as a copy up to this size.
constexpr std::int64_t kMaxCopiedFile = std::int64_t{64} << 20;

// `addresses`: of this node, IPv4, that shall go along. kNotFound: there is no such process.
Result<Plan> inspect(pid_t pid, const std::vector<std::string>& addresses = {});
// The number of a process in its own pid namespace; 0: it has ended.
pid_t inside_number(pid_t pid);
// The numbers here of `root` and its descendants, by those.
std::map<pid_t, pid_t> outside_numbers(pid_t root);
// The process and all its descendants that live now, parents first.
std::vector<pid_t> tree_of(pid_t pid);
// Those of `pages` pages from `address` that the process has of its own, not of a file; none if it
// has ended. Addresses.
std::vector<std::uint64_t> present_pages(pid_t pid, std::uint64_t address, std::uint64_t pages);

}  // namespace gob::migration
