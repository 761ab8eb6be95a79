// Control-channel messages as protobuf bytes (peer.proto), checked on the way in: whatever a peer
// sends, only values that a correct peer could send get past here. Pure functions, any thread.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <variant>

#include "libgob/base/result.h"
#include "libgob/container/container_message.h"
#include "libgob/file/file_message.h"
#include "libgob/membership/membership_message.h"
#include "libgob/sync/sync_message.h"

namespace gob {

// Nothing but that the peer runs.
struct AliveMessage {};

using PeerMessage =
    std::variant<MembershipMessage, ContainerMessage, SyncMessage, peer::FileBody, AliveMessage>;

[[nodiscard]] std::string encode_peer_message(const MembershipMessage& message);
[[nodiscard]] std::string encode_peer_message(const ContainerMessage& message);
[[nodiscard]] std::string encode_peer_message(const SyncMessage& message);
[[nodiscard]] std::string encode_peer_message(peer::FileBody message);
[[nodiscard]] std::string encode_peer_message(AliveMessage message);

// kProtocol if no correct peer sends such bytes.
[[nodiscard]] Result<PeerMessage> decode_peer_message(std::span<const std::byte> bytes);

}  // namespace gob
