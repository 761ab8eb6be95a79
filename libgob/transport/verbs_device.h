// VerbsDevice: the RDMA device of this node, chosen once at start, opened, and watched for its end.
// Shared by the set-up thread, which watches it, and the channels, which use it; closed when the
// last of them lets go, which is what the removal of a device may wait for. Calls may come from any
// thread.
#pragma once

#include <infiniband/verbs.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/transport/socket.h"

namespace gob {

class VerbsDevice {
 public:
  // `wanted`: "" for any, else "device" or "device:port". Of several ports, the one whose GIDs have
  // an address of `own` (where the peers reach this node) is taken. The error says what was found.
  static Result<std::shared_ptr<VerbsDevice>> open(const std::string& wanted,
                                                   const std::vector<SocketAddress>& own);
  ~VerbsDevice();
  VerbsDevice(const VerbsDevice&) = delete;
  VerbsDevice& operator=(const VerbsDevice&) = delete;

  // Constant.
  [[nodiscard]] ibv_context* context() const { return context_; }
  [[nodiscard]] ibv_pd* domain() const { return domain_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::uint8_t port() const { return port_; }
  [[nodiscard]] std::uint16_t lid() const { return lid_; }
  [[nodiscard]] ibv_mtu mtu() const { return mtu_; }
  [[nodiscard]] const ibv_gid& gid() const { return gid_; }
  [[nodiscard]] int gid_index() const { return gid_index_; }
  [[nodiscard]] bool routed() const { return ethernet_; }  // packets carry GIDs
  [[nodiscard]] unsigned max_completions() const { return max_completions_; }
  [[nodiscard]] std::string gid_text() const;
  // "rxe0 port 1, GID ::ffff:10.0.0.1, MTU 4096"
  [[nodiscard]] std::string describe() const;

  // The device is going or gone: nothing new may be begun with it.
  [[nodiscard]] bool lost() const { return lost_.load(std::memory_order_acquire); }
  // What the driver counts for this port (retries, lost packets, ...), by its own names. Reads
  // files.
  [[nodiscard]] std::map<std::string, std::uint64_t> hardware_counters() const;

  // Set-up thread: readable when look() has work.
  [[nodiscard]] int event_fd() const { return context_->async_fd; }
  [[nodiscard]] int removal_fd() const { return removal_.get(); }  // -1: cannot be watched
  // Takes the device's events. True if it was lost just now.
  bool look();

 private:
  VerbsDevice() = default;
  Status choose_port(ibv_context* context, const std::vector<SocketAddress>& own, int wanted_port,
                     int& best);
  void watch();
  bool lose(const std::string& why);

  ibv_context* context_ = nullptr;
  ibv_pd* domain_ = nullptr;
  std::string name_;
  std::string node_;  // of the device in /dev/infiniband
  std::uint8_t port_ = 0;
  std::uint16_t lid_ = 0;
  ibv_mtu mtu_ = IBV_MTU_1024;
  ibv_gid gid_{};
  int gid_index_ = 0;
  bool ethernet_ = false;
  unsigned max_completions_ = 0;
  UniqueFd removal_;  // inotify
  std::atomic<bool> lost_{false};
};

// Bytes, of an ibv_mtu.
[[nodiscard]] unsigned mtu_bytes(ibv_mtu mtu);

}  // namespace gob
