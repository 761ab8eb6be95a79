// A process beside gobd that outlives it: if gobd dies without ending its links, programs must not
// go on with pages that the cluster has given up. It takes them all away: what the programs touch next
// waits for a gobd that comes back, and then ends in SIGBUS.
#pragma once

#include <string>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/linker/gob_device.h"

namespace gob {

// A segment's cookie tells which one it is, and how many pages it has.
constexpr std::uint64_t link_cookie(std::uint32_t identity, std::uint64_t pages) {
  return std::uint64_t{identity} << 32 | (pages & 0xffffffffu);
}
constexpr std::uint64_t pages_of_cookie(std::uint64_t cookie) { return cookie & 0xffffffffu; }

// Takes every page of a link away.
Status drop_link(const GobDevice& device, const GobDevice::Found& link);

// Forks. It ends when the descriptor returned is closed everywhere: with this process at the latest.
// `service` and `patience_ms` as for GobDevice::open(). Before there are other threads.
Result<UniqueFd> start_link_guardian(const std::string& service, std::uint32_t patience_ms);

}  // namespace gob
