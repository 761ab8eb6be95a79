#include "libgob/wire/page_header.h"

#include <cstdint>
#include <cstring>
#include <string>

#include "libgob/wire/frame.h"

namespace gob::wire {
namespace {

constexpr std::uint8_t kConfirmFlag = 1;
constexpr std::uint8_t kAcceptedFlag = 2;
constexpr std::uint8_t kLeavingFlag = 4;
constexpr std::uint8_t kSoleFlag = 8;
constexpr std::uint8_t kDeviceFlag = 16;
constexpr std::uint8_t kDirtyFlag = 32;
constexpr std::uint8_t kWrittenFlag = 64;
constexpr std::uint8_t kAllFlags = kConfirmFlag | kAcceptedFlag | kLeavingFlag | kSoleFlag |
                                   kDeviceFlag | kDirtyFlag | kWrittenFlag;

struct PageHeader {
  std::uint8_t version;
  std::uint8_t type;
  std::uint8_t payload;
  std::uint8_t refusal;
  std::uint8_t holding;
  std::uint8_t flags;
  std::uint16_t reserved;
  std::uint16_t requester;
  std::uint16_t node;
  std::uint32_t acks;
  std::uint32_t free_frames;
  std::uint32_t container;
  std::uint64_t epoch;
  std::uint64_t stripe;
  std::uint64_t mask;
  std::uint64_t ahead;
};
static_assert(sizeof(PageHeader) == kPageHeaderBytes);
static_assert(kPrefixBytes + sizeof(PageHeader) == 64);
static_assert(offsetof(PageHeader, version) == 0);
static_assert(offsetof(PageHeader, type) == 1);
static_assert(offsetof(PageHeader, payload) == 2);
static_assert(offsetof(PageHeader, refusal) == 3);
static_assert(offsetof(PageHeader, holding) == 4);
static_assert(offsetof(PageHeader, flags) == 5);
static_assert(offsetof(PageHeader, reserved) == 6);
static_assert(offsetof(PageHeader, requester) == 8);
static_assert(offsetof(PageHeader, node) == 10);
static_assert(offsetof(PageHeader, acks) == 12);
static_assert(offsetof(PageHeader, free_frames) == 16);
static_assert(offsetof(PageHeader, container) == 20);
static_assert(offsetof(PageHeader, epoch) == 24);
static_assert(offsetof(PageHeader, stripe) == 32);
static_assert(offsetof(PageHeader, mask) == 40);
static_assert(offsetof(PageHeader, ahead) == 48);

// Values that the header carries as they are; a new enumerator must be admitted here too.
static_assert(static_cast<std::uint8_t>(MessageType::kGet) == 1);
constexpr auto kLastPayload = static_cast<std::uint8_t>(Payload::kZero);
constexpr auto kLastRefusal = static_cast<std::uint8_t>(Refusal::kRange);
constexpr auto kLastHolding = static_cast<std::uint8_t>(Holding::kSole);

constexpr bool speaks_of_pages(MessageType type) {
  return type != MessageType::kMarker && type != MessageType::kReportEnd;
}

constexpr bool may_carry_payload(MessageType type) {
  return type == MessageType::kPage || type == MessageType::kGrant || type == MessageType::kInject;
}

constexpr bool is_node_or_none(std::uint16_t value) {
  return value < kMaxNodes || value == kNoNode.value();
}

// The first illegal field, or null.
const char* find_fault(const PageHeader& h) {
  if (h.version != kVersion) return "version";
  if (h.type < 1 || h.type > static_cast<std::uint8_t>(kLastMessageType)) return "type";
  const auto type = static_cast<MessageType>(h.type);
  if (h.payload > kLastPayload) return "payload";
  if (h.payload != 0 && !may_carry_payload(type)) return "payload";
  if (h.refusal > kLastRefusal) return "refusal";
  if (h.holding > kLastHolding) return "holding";
  if ((h.flags & ~kAllFlags) != 0) return "flags";
  if (h.reserved != 0) return "reserved";
  if (!is_node_or_none(h.requester)) return "requester";
  if (!is_node_or_none(h.node)) return "node";
  if (h.acks > kMaxNodes) return "acks";
  if (speaks_of_pages(type)) {
    if (h.container == 0 || h.container > kMaxContainerId) return "container";
    if (h.stripe >= kMaxPages / kStripePages) return "stripe";
    if (h.mask == 0) return "mask";
    if ((h.ahead & ~h.mask) != 0) return "ahead";
  } else {
    if (h.container != 0) return "container";
    if (h.stripe != 0) return "stripe";
    if (h.mask != 0) return "mask";
    if (h.ahead != 0) return "ahead";
  }
  return nullptr;
}

constexpr std::uint8_t flag(bool set, std::uint8_t bit) { return set ? bit : std::uint8_t{0}; }

}  // namespace

void encode(const Message& message, std::span<std::byte, kPageHeaderBytes> out) {
  PageHeader h{};
  h.version = static_cast<std::uint8_t>(kVersion);
  h.type = static_cast<std::uint8_t>(message.type);
  h.payload = static_cast<std::uint8_t>(message.payload);
  h.refusal = static_cast<std::uint8_t>(message.refusal);
  h.holding = static_cast<std::uint8_t>(message.holding);
  h.flags = static_cast<std::uint8_t>(
      flag(message.confirm, kConfirmFlag) | flag(message.accepted, kAcceptedFlag) |
      flag(message.leaving, kLeavingFlag) | flag(message.sole, kSoleFlag) |
      flag(message.device, kDeviceFlag) | flag(message.dirty, kDirtyFlag) |
      flag(message.written, kWrittenFlag));
  h.requester = message.requester.value();
  h.node = message.node.value();
  h.acks = message.acks;
  h.free_frames = message.free_frames;
  h.container = message.pages.container.value();
  h.epoch = message.epoch.value();
  h.stripe = message.pages.stripe;
  h.mask = message.pages.mask;
  h.ahead = message.ahead;
  std::memcpy(out.data(), &h, sizeof h);
}

Result<Message> decode(std::span<const std::byte> header) {
  if (header.size() != kPageHeaderBytes) {
    return make_error(ErrorCode::kProtocol,
                      "page message: header of " + std::to_string(header.size()) +
                          " bytes, expected " + std::to_string(kPageHeaderBytes));
  }
  PageHeader h;
  std::memcpy(&h, header.data(), sizeof h);
  if (const char* fault = find_fault(h)) {
    return make_error(ErrorCode::kProtocol, "page message of type " + std::to_string(h.type) +
                                                ": illegal value in field '" + fault + "'");
  }
  Message message;
  message.type = static_cast<MessageType>(h.type);
  message.payload = static_cast<Payload>(h.payload);
  message.refusal = static_cast<Refusal>(h.refusal);
  message.holding = static_cast<Holding>(h.holding);
  message.confirm = (h.flags & kConfirmFlag) != 0;
  message.accepted = (h.flags & kAcceptedFlag) != 0;
  message.leaving = (h.flags & kLeavingFlag) != 0;
  message.sole = (h.flags & kSoleFlag) != 0;
  message.device = (h.flags & kDeviceFlag) != 0;
  message.dirty = (h.flags & kDirtyFlag) != 0;
  message.written = (h.flags & kWrittenFlag) != 0;
  message.requester = NodeId{h.requester};
  message.node = NodeId{h.node};
  message.acks = h.acks;
  message.free_frames = h.free_frames;
  message.epoch = Epoch{h.epoch};
  message.pages = PageSet{ContainerId{h.container}, h.stripe, h.mask};
  message.ahead = h.ahead;
  return message;
}

}  // namespace gob::wire
