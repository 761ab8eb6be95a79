// The addresses that a migrant brings along.
#include <cstdlib>

#include "libgob/migration/warden_process.h"

namespace gob::migration {

// `words`: the name of the rules, then for each address itself, its device (none: it is here), and
// the bits of its network.
Status WardenProcess::hold_addresses(const std::vector<std::string>& words) {
  std::vector<std::string> all;
  for (std::size_t i = 1; i + 2 < words.size(); i += 3) {
    addresses_.push_back({words[i], words[i + 1], std::atoi(words[i + 2].c_str()), false});
    all.push_back(words[i]);
  }
  held_ = words[0];
  return hold_packets(held_, all);
}

Status WardenProcess::add_addresses() {
  for (; added_ < addresses_.size(); ++added_)
    if (!addresses_[added_].device.empty())
      if (Status added = add_address(addresses_[added_]); !added) return added;
  return {};
}

// What its connections missed is sent again by the other ends.
void WardenProcess::open_network() {
  if (held_.empty()) return;
  let_packets(held_);
  held_.clear();
  for (const Address& address : addresses_) announce(address);
}

void WardenProcess::leave_network() {
  if (held_.empty()) return;
  for (std::size_t i = 0; i < added_; ++i)
    if (!addresses_[i].device.empty()) static_cast<void>(remove_address(addresses_[i]).ok());
  let_packets(held_);
  held_.clear();
}

}  // namespace gob::migration
