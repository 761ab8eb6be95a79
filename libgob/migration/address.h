// IPv4 addresses that go along with a process: which node has one, and how another one takes it
// over. Uses ip(8) and nft(8) in the network namespace of the caller; as root; any thread.
#pragma once

#include <string>
#include <vector>

#include "libgob/base/result.h"

namespace gob::migration {

struct Address {
  std::string address;  // as text
  std::string device;
  int prefix = 0;        // bits of the network
  bool carries = false;  // the kernel would take others of the same network away with it
};

Result<std::vector<Address>> addresses_here();
// `address` for the device of this node that is in its network; kNotFound: none is.
Result<Address> place_for(const std::string& address);
// Which network namespace of which machine this is.
std::string network_id();

// From now on this node neither takes nor sends packets of these addresses: nobody shall hear from
// it that a connection is unknown. `name`: by which let_packets() ends it.
Status hold_packets(const std::string& name, const std::vector<std::string>& addresses);
void let_packets(const std::string& name);

Status add_address(const Address& address);
Status remove_address(const Address& address);
// Tells the neighbours where the address is now.
void announce(const Address& address);

}  // namespace gob::migration
