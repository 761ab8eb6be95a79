// What a gobd is told at start: a TOML file (gobd.toml(5)), overridden by flags.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "libgob/base/ids.h"
#include "libgob/base/result.h"

namespace gob {

struct NodeConfig {
  std::string name;
  std::string host;  // address or name that the other nodes reach
  std::uint16_t port = 7400;
};

struct DaemonConfig {
  std::string cluster = "gob";  // peers of another cluster are refused
  std::string node;             // which of `nodes` this one is
  std::vector<NodeConfig> nodes;
  std::string control_socket = "/run/gob/gobd.sock";
  std::uint32_t control_mode = 0666;  // rights are checked for each container
  std::uint32_t shards = 1;
  std::uint64_t budget_bytes = std::uint64_t{1} << 30;  // frames kept on this node
  std::string swap_dir;                                 // empty: no swap
  std::uint64_t swap_bytes = std::uint64_t{4} << 30;
  std::uint32_t page_timeout_ms = 15000;   // a waiting access ends after this, with an error
  std::uint32_t peer_timeout_ms = 2000;    // a peer whose kernel is silent is taken for dead after this
  std::uint32_t stall_timeout_ms = 10000;  // so is one whose gobd is, though its kernel answers
  std::uint32_t form_timeout_ms = 3000;    // how long to wait for all nodes before a first view
  std::uint32_t leave_timeout_ms = 30000;  // how long SIGTERM tries to hand over pages
  std::uint32_t hold_us = 100;             // a granted access gets this long for its turn
  std::uint32_t poll_us = 0;               // busy polling after work before sleeping
  std::int32_t nice = -19;                 // before (less than 0) or behind programs; 0: as started
  std::uint32_t read_ahead_pages = 256;    // 0: none
  std::string mount;                       // where attached files appear; empty: nowhere
  std::uint32_t file_timeout_ms = 30000;   // an operation on a file ends after this, with EIO
  std::uint32_t write_back_ms = 5000;      // stores to mapped files reach the disk so often; 0: at
                                           // fsync and when the node leaves only
  std::string linker = "auto";             // auto, kernel, userfaultfd
  std::string transport = "auto";          // auto, verbs, tcp
  std::string rdma_device;                 // "device" or "device:port"; empty: chosen
  std::uint32_t rdma_poll_us = 200;        // longest busy wait after traffic over RDMA
  std::string log_level = "info";
  std::string trace_dir;  // where to record what happens to every page; empty: nothing is

  // Position of `node` in `nodes`.
  [[nodiscard]] NodeId self() const;
};

// Reads and checks a file. The error names file, line and what was expected.
[[nodiscard]] Result<DaemonConfig> load_config(const std::string& path);
// Rules that hold for a file and its overriding flags together.
[[nodiscard]] Status check_config(const DaemonConfig& config);
// The same configuration as TOML text, for `gobctl cluster up` and `gobd --print-config`.
[[nodiscard]] std::string to_toml(const DaemonConfig& config);

}  // namespace gob
