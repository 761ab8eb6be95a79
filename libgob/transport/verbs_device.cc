#include "libgob/transport/verbs_device.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <spdlog/spdlog.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace gob {
namespace {

constexpr const char* kDeviceFolder = "/dev/infiniband";
constexpr std::size_t kMaxGids = 256;

// The GID of a RoCE port that has this address.
ibv_gid gid_of(const SocketAddress& address) {
  ibv_gid gid{};
  if (address.family() == AF_INET6) {
    std::memcpy(gid.raw, &reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr, 16);
  } else if (address.family() == AF_INET) {
    gid.raw[10] = gid.raw[11] = 0xff;
    std::memcpy(gid.raw + 12, &reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr, 4);
  }
  return gid;
}

bool is_v4(const ibv_gid& gid) {
  static constexpr std::uint8_t kPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return std::memcmp(gid.raw, kPrefix, sizeof kPrefix) == 0;
}

// How well a GID suits: 0 not at all.
int rank(const ibv_gid_entry& entry, const std::vector<SocketAddress>& own) {
  for (const SocketAddress& address : own) {
    const ibv_gid gid = gid_of(address);
    const bool same = std::memcmp(entry.gid.raw, gid.raw, sizeof gid.raw) == 0;
    if (same) return entry.gid_type == IBV_GID_TYPE_ROCE_V2 ? 5 : 4;
  }
  if (entry.gid_type == IBV_GID_TYPE_ROCE_V2) return is_v4(entry.gid) ? 3 : 2;
  return 1;
}

}  // namespace

unsigned mtu_bytes(ibv_mtu mtu) { return 128u << static_cast<unsigned>(mtu); }

// Takes the best GID of this device's active ports if it beats `best`.
Status VerbsDevice::choose_port(ibv_context* context, const std::vector<SocketAddress>& own,
                                int wanted_port, int& best) {
  ibv_device_attr device{};
  if (::ibv_query_device(context, &device) != 0) return system_error("it cannot be queried");
  std::array<ibv_gid_entry, kMaxGids> gids;
  const ssize_t known = ::ibv_query_gid_table(context, gids.data(), gids.size(), 0);
  bool active = false;
  for (int port = 1; port <= device.phys_port_cnt; ++port) {
    if (wanted_port != 0 && port != wanted_port) continue;
    ibv_port_attr attributes{};
    if (::ibv_query_port(context, static_cast<std::uint8_t>(port), &attributes) != 0) continue;
    if (attributes.state != IBV_PORT_ACTIVE) continue;
    active = true;
    for (ssize_t i = 0; i < known; ++i) {
      const ibv_gid_entry& entry = gids[static_cast<std::size_t>(i)];
      if (entry.port_num != static_cast<std::uint32_t>(port)) continue;
      if (const int fits = rank(entry, own); fits > best) {
        best = fits;
        port_ = static_cast<std::uint8_t>(port);
        lid_ = attributes.lid;
        mtu_ = attributes.active_mtu;
        gid_ = entry.gid;
        gid_index_ = static_cast<int>(entry.gid_index);
        ethernet_ = attributes.link_layer == IBV_LINK_LAYER_ETHERNET;
        max_completions_ = static_cast<unsigned>(device.max_cqe);
      }
    }
  }
  if (!active) return make_error(ErrorCode::kUnavailable, "it has no active port");
  if (known <= 0) return make_error(ErrorCode::kUnavailable, "it has no GID");
  return {};
}

Result<std::shared_ptr<VerbsDevice>> VerbsDevice::open(const std::string& wanted,
                                                       const std::vector<SocketAddress>& own) {
  const std::size_t colon = wanted.find(':');
  const std::string wanted_name = wanted.substr(0, colon);
  int wanted_port = 0;
  if (colon != std::string::npos) {
    const char* end = wanted.data() + wanted.size();
    const auto parsed = std::from_chars(wanted.data() + colon + 1, end, wanted_port);
    if (parsed.ptr != end || parsed.ec != std::errc{} || wanted_port < 1 || wanted_port > 255) {
      return make_error(ErrorCode::kInvalidArgument,
                        "RDMA device '" + wanted + "': say 'device' or 'device:port'");
    }
  }
  int count = 0;
  const std::unique_ptr<ibv_device*[], decltype(&::ibv_free_device_list)> list(
      ::ibv_get_device_list(&count), ::ibv_free_device_list);
  if (list == nullptr) count = 0;

  std::shared_ptr<VerbsDevice> chosen(new VerbsDevice);
  std::string found;
  int best = 0;
  for (int i = 0; i < count; ++i) {
    ibv_device* device = list[static_cast<std::size_t>(i)];
    const std::string name = ::ibv_get_device_name(device);
    if (!wanted_name.empty() && name != wanted_name) continue;
    const auto note = [&](const std::string& what) {
      found += (found.empty() ? "" : "; ") + name + ": " + what;
    };
    if (device->transport_type != IBV_TRANSPORT_IB) {
      note("it is no InfiniBand or RoCE device");  // iWARP connects by other means
      continue;
    }
    ibv_context* context = ::ibv_open_device(device);
    if (context == nullptr) {
      note(std::string("cannot be opened: ") + std::strerror(errno));
      continue;
    }
    const int before = best;
    if (const Status status = chosen->choose_port(context, own, wanted_port, best); !status) {
      note(status.error().context);
    }
    if (best == before) {
      ::ibv_close_device(context);
      continue;
    }
    if (chosen->context_ != nullptr) ::ibv_close_device(chosen->context_);
    chosen->context_ = context;
    chosen->name_ = name;
    chosen->node_ = device->dev_name;
  }
  if (chosen->context_ == nullptr) {
    if (found.empty()) {
      found = wanted_name.empty() ? "this machine has no RDMA device" : "there is no such device";
    }
    return make_error(ErrorCode::kNotFound,
                      (wanted.empty() ? "" : "RDMA device '" + wanted + "': ") + found);
  }
  chosen->domain_ = ::ibv_alloc_pd(chosen->context_);
  if (chosen->domain_ == nullptr) {
    return system_error("RDMA device " + chosen->name_ + ": no protection domain");
  }
  chosen->watch();
  return chosen;
}

VerbsDevice::~VerbsDevice() {
  if (domain_ != nullptr) ::ibv_dealloc_pd(domain_);
  if (context_ != nullptr) ::ibv_close_device(context_);
}

void VerbsDevice::watch() {
  ::fcntl(context_->async_fd, F_SETFL, ::fcntl(context_->async_fd, F_GETFL) | O_NONBLOCK);
  // Drivers that cannot take a device away from its users tell them nothing: removal waits, with
  // the device's node already gone, until they close it.
  removal_.reset(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!removal_ || ::inotify_add_watch(removal_.get(), kDeviceFolder, IN_DELETE) < 0) {
    spdlog::debug("RDMA device {}: its removal cannot be watched: {}", name_, std::strerror(errno));
    removal_.reset();
  }
}

bool VerbsDevice::lose(const std::string& why) {
  if (lost_.exchange(true, std::memory_order_acq_rel)) return false;
  spdlog::warn("RDMA device {} is lost: {}; peers are reached over TCP from here on", name_, why);
  return true;
}

bool VerbsDevice::look() {
  bool lost_now = false;
  ibv_async_event event;
  while (::ibv_get_async_event(context_, &event) == 0) {
    if (event.event_type == IBV_EVENT_DEVICE_FATAL) lost_now = lose("the driver says so");
    // A port that is down may come back before messages are given up for lost.
    if (event.event_type == IBV_EVENT_PORT_ERR || event.event_type == IBV_EVENT_PORT_ACTIVE) {
      spdlog::info("RDMA device {} port {}: {}", name_, event.element.port_num,
                   ::ibv_event_type_str(event.event_type));
    }
    ::ibv_ack_async_event(&event);
  }
  if (removal_) {
    alignas(inotify_event) std::array<char, 4096> buffer;
    ssize_t bytes;
    while ((bytes = ::read(removal_.get(), buffer.data(), buffer.size())) > 0) {
    }
    const std::string node = std::string(kDeviceFolder) + "/" + node_;
    if (::access(node.c_str(), F_OK) != 0) lost_now = lose("it is being removed") || lost_now;
  }
  return lost_now;
}

std::string VerbsDevice::gid_text() const {
  char text[INET6_ADDRSTRLEN] = "?";
  ::inet_ntop(AF_INET6, gid_.raw, text, sizeof text);
  return text;
}

std::string VerbsDevice::describe() const {
  return name_ + " port " + std::to_string(port_) + ", GID " + gid_text() + ", MTU " +
         std::to_string(mtu_bytes(mtu_));
}

std::map<std::string, std::uint64_t> VerbsDevice::hardware_counters() const {
  std::map<std::string, std::uint64_t> counters;
  const std::filesystem::path folder =
      "/sys/class/infiniband/" + name_ + "/ports/" + std::to_string(port_) + "/hw_counters";
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    std::uint64_t value = 0;
    if (std::ifstream(entry.path()) >> value) counters[entry.path().filename()] = value;
  }
  return counters;
}

}  // namespace gob
