// Hostile page messages: whatever decodes is a message that obeys the rules of page_header.h and
// encodes to the same bytes again.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

#include "libgob/wire/frame.h"
#include "libgob/wire/page_header.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

bool is_node_or_none(gob::NodeId node) {
  return node.value() < gob::kMaxNodes || node == gob::kNoNode;
}

void check_rules(const gob::Message& m) {
  require(is_node_or_none(m.requester) && is_node_or_none(m.node));
  require(m.acks <= gob::kMaxNodes);
  require((m.ahead & ~m.pages.mask) == 0);
  require(m.pages.container.value() <= gob::kMaxContainerId);
  // The last page of the stripe is a page a container can have.
  require(m.pages.first_of_stripe().value() + gob::kStripePages <= gob::kMaxPages);
  require(gob::wire::payload_bytes(m) <= gob::wire::kMaxPagePayloadBytes);
  require(gob::wire::payload_bytes(m) == 0 || gob::carries_bytes(m));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  const auto message = gob::wire::decode(input);
  if (!message.ok()) {
    require(message.error().code == gob::ErrorCode::kProtocol);
    require(!message.error().context.empty());
    return 0;
  }
  require(size == gob::wire::kPageHeaderBytes);
  check_rules(*message);
  std::array<std::byte, gob::wire::kPageHeaderBytes> again;
  gob::wire::encode(*message, again);
  require(std::memcmp(again.data(), data, size) == 0);
  return 0;
}
