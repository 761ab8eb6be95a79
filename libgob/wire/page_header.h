// Codec of protocol messages: the fixed header of every frame on a shard channel. Pure functions,
// any thread. With the frame's prefix it makes 64 bytes.
//
//   offset  size  field         legal values
//   0       1     version       kVersion
//   1       1     type          MessageType
//   2       1     payload       Payload; others than kNone only with kPage, kGrant, kInject
//   3       1     refusal       Refusal
//   4       1     holding       Holding
//   5       1     flags         bit 0 confirm, bit 1 accepted, bit 2 leaving,
//                                 bit 3 sole; others 0
//   6       2     reserved      0
//   8       2     requester     below kMaxNodes, or kNoNode
//   10      2     node          below kMaxNodes, or kNoNode
//   12      4     acks          at most kMaxNodes
//   16      4     free_frames   any
//   20      4     container     1 ... kMaxContainerId
//   24      8     epoch         any
//   32      8     stripe        below kMaxPages / kStripePages
//   40      8     mask          not 0
//   48      8     ahead         subset of mask
//
// kMarker and kReportEnd speak of no pages: container, stripe, mask and ahead are 0 and the payload
// is kNone. The frame's payload is popcount(mask) pages in ascending order where carries_bytes(),
// else empty. See docs/WIRE.md.
#pragma once

#include <cstddef>
#include <span>

#include "libgob/base/result.h"
#include "libgob/protocol/message.h"

namespace gob::wire {

inline constexpr std::size_t kPageHeaderBytes = 56;

// The message must be one that decode() accepts; the core makes no others.
void encode(const Message& message, std::span<std::byte, kPageHeaderBytes> out);

// Fails with kProtocol and names the field if any value is not legal; believes nothing.
[[nodiscard]] Result<Message> decode(std::span<const std::byte> header);

// Bytes of the payload that belongs to the message. A receiver drops a peer whose frame differs.
[[nodiscard]] constexpr std::size_t payload_bytes(const Message& message) {
  return carries_bytes(message) ? message.pages.size() * kPageSize : 0;
}

}  // namespace gob::wire
