#include "libgob/migration/address.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/if_ether.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "libgob/base/unique_fd.h"
#include "libgob/migration/file_facts.h"
#include "libgob/migration/program.h"

namespace gob::migration {
namespace {

std::uint32_t network_of(const std::string& address, int prefix) {
  in_addr bytes{};
  ::inet_pton(AF_INET, address.c_str(), &bytes);
  return prefix == 0 ? 0 : ntohl(bytes.s_addr) >> (32 - prefix);
}

std::string words_of(const std::vector<std::string>& addresses) {
  std::string words;
  for (const std::string& address : addresses) words += (words.empty() ? "" : ", ") + address;
  return words;
}

}  // namespace

Result<std::vector<Address>> addresses_here() {
  const auto text = run_program({"ip", "-json", "-4", "address"});
  if (!text) return text.error();
  std::vector<Address> all;
  try {
    const auto devices = nlohmann::json::parse(*text);
    for (const auto& device : devices) {
      const auto known = device.find("addr_info");
      if (known == device.end()) continue;
      for (const auto& each : *known)
        all.push_back({each.at("local"), device.at("ifname"), each.at("prefixlen"),
                       !each.value("secondary", false)});
    }
  } catch (const nlohmann::json::exception& error) {
    return make_error(ErrorCode::kProtocol,
                      std::string("\"ip -json address\" answers oddly: ") + error.what());
  }
  for (Address& address : all)
    address.carries = address.carries && std::ranges::any_of(all, [&](const Address& other) {
                        return other.device == address.device && other.address != address.address &&
                               other.prefix == address.prefix &&
                               network_of(other.address, other.prefix) ==
                                   network_of(address.address, address.prefix);
                      });
  return all;
}

Result<Address> place_for(const std::string& address) {
  const auto all = addresses_here();
  if (!all) return all.error();
  for (const Address& near : *all)
    if (near.prefix < 32 && !near.address.starts_with("127.") &&
        network_of(near.address, near.prefix) == network_of(address, near.prefix))
      return Address{address, near.device, near.prefix, false};
  return make_error(ErrorCode::kNotFound, "no device of this node is in the network of " + address);
}

std::string network_id() {
  std::error_code ignored;
  return boot_id() + " " + std::filesystem::read_symlink("/proc/self/ns/net", ignored).string();
}

Status hold_packets(const std::string& name, const std::vector<std::string>& addresses) {
  const std::string set = " { " + words_of(addresses) + " } drop; ";
  const auto done = run_program(
      {"nft", "add table inet " + name + "; add chain inet " + name +
                  " input { type filter hook input priority -500; }; add chain inet " + name +
                  " output { type filter hook output priority -500; }; add rule inet " + name +
                  " input ip daddr" + set + "add rule inet " + name + " output ip saddr" + set});
  return done ? Status() : done.error();
}

void let_packets(const std::string& name) {
  static_cast<void>(run_program({"nft", "delete", "table", "inet", name}));
}

Status add_address(const Address& address) {
  const auto done = run_program({"ip", "address", "add",
                                 address.address + "/" + std::to_string(address.prefix), "dev",
                                 address.device});
  return done ? Status() : done.error();
}

Status remove_address(const Address& address) {
  const auto done = run_program({"ip", "address", "delete",
                                 address.address + "/" + std::to_string(address.prefix), "dev",
                                 address.device});
  return done ? Status() : done.error();
}

// By an ARP request for the address itself, which asks nothing (RFC 5227, section 3).
void announce(const Address& address) {
  const UniqueFd socket(::socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_ARP)));
  ifreq device{};
  address.device.copy(device.ifr_name, sizeof device.ifr_name - 1);
  if (!socket || ::ioctl(socket.get(), SIOCGIFHWADDR, &device) != 0 ||
      device.ifr_hwaddr.sa_family != ARPHRD_ETHER)
    return;  // a device without neighbours
  ether_arp packet{};
  packet.ea_hdr.ar_hrd = htons(ARPHRD_ETHER);
  packet.ea_hdr.ar_pro = htons(ETH_P_IP);
  packet.ea_hdr.ar_hln = ETH_ALEN;
  packet.ea_hdr.ar_pln = 4;
  packet.ea_hdr.ar_op = htons(ARPOP_REQUEST);
  std::memcpy(packet.arp_sha, device.ifr_hwaddr.sa_data, ETH_ALEN);
  ::inet_pton(AF_INET, address.address.c_str(), packet.arp_spa);
  ::inet_pton(AF_INET, address.address.c_str(), packet.arp_tpa);
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_protocol = htons(ETH_P_ARP);
  to.sll_ifindex = static_cast<int>(::if_nametoindex(address.device.c_str()));
  to.sll_halen = ETH_ALEN;
  std::memset(to.sll_addr, 0xff, ETH_ALEN);
  // Whoever misses it asks when its entry has aged.
  static_cast<void>(!::sendto(socket.get(), &packet, sizeof packet, 0,
                              reinterpret_cast<sockaddr*>(&to), sizeof to));
}

}  // namespace gob::migration
