// What a node looks at before it takes a process: nothing is stopped yet, a refusal costs nothing.
#include <algorithm>

#include "libgob/migration/criu.h"
#include "libgob/migration/features.h"
#include "libgob/migration/file_facts.h"
#include "libgob/migration/room.h"
#include "libgob/migration/session.h"
#include "libgob/migration/target_run.h"
#include "libgob/migration/view.h"

namespace gob::migration {

Result<Ready> TargetRun::check() {
  if (const auto version = probe_criu(options_.criu); !version) return version.error();
  if (Status can = can_run(begin_.cpu(), cpu_here()); !can) return can.error();
  // CRIU knows what is watched by its inode, which would be another's here.
  if (begin_.watches() != 0 && begin_.boot() != boot_id())
    return make_error(
        ErrorCode::kUnsupported,
        "the process watches files (inotify: " + std::to_string(begin_.watches()) +
            "), which it can only go on with on its own machine: start it without, as most "
            "programs that watch can look from time to time instead");
  if (Status network = check_network(); !network) return network.error();
  const auto mount = mount_path(options_.socket);
  if (!mount) return mount.error();
  auto ready = plan_view(begin_, {node_, *mount});
  if (!ready) return ready;
  auto rooms = rooms_of(options_.socket);
  if (!rooms) return rooms.error();
  if (Status fits = fits_machine(machine_of(options_.folder), options_.folder,
                                 begin_.memory_bytes(), begin_.image_bytes(),
                                 begin_.boot() == boot_id(), begin_.pages(), rooms->own);
      !fits)
    return fits.error();
  *ready->mutable_room() = std::move(rooms->own);
  return ready;
}

// Where its sockets could be.
Status TargetRun::check_network() {
  if (begin_.network().empty() && begin_.moving_addresses().empty()) return {};
  if (begin_.network() == network_id())
    return make_error(
        ErrorCode::kUnavailable,
        "it is in the same network namespace of the same machine, where the sockets of "
        "the process cannot be a second time");
  const auto here = addresses_here();
  if (!here) return here.error();
  const auto has = [&](const std::string& address) {
    return std::ranges::find(*here, address, &Address::address) != here->end();
  };
  for (const std::string& address : begin_.needed_addresses())
    if (!has(address))
      return make_error(ErrorCode::kNotFound,
                        "the process has a socket at " + address +
                            ", which is no address of this node: let it go along (--address " +
                            address + "), or let the program take any (0.0.0.0)");
  for (const std::string& address : begin_.moving_addresses()) {
    auto place = has(address) ? Address{address, "", 0, false} : place_for(address);
    if (!place) return place.error();
    addresses_.push_back(std::move(*place));
  }
  return {};
}

}  // namespace gob::migration
