// Container records as the control protocol shows them, and programs as containers know them.
// Control thread.
#pragma once

#include "libgob/container/container_record.h"
#include "libgob/runtime/control.pb.h"
#include "libgob/runtime/control_handler.h"

namespace gob {

inline void describe(const ContainerRecord& record, control::Container& out) {
  out.set_id(record.info.id.value());
  out.set_name(record.name);
  out.set_size_bytes(record.size_bytes);
  out.set_mode(record.mode);
  out.set_uid(record.uid);
  out.set_gid(record.gid);
  out.set_created_unix_ms(record.created_unix_ms);
  out.set_kind(static_cast<std::uint32_t>(record.kind));
  out.set_home_node(record.info.home.value());
}

inline Credentials credentials(const PeerCredentials& peer) {
  return {peer.uid, peer.gid, {peer.groups.begin(), peer.groups.end()}};
}

}  // namespace gob
