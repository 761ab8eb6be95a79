#include "libgob/transport/handshake.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "libgob/transport/transport.h"
#include "libgob/wire/frame.h"

namespace gob {
namespace {

constexpr std::uint16_t kVerbsFeature = 1;
constexpr char kMagic[8] = {'G', 'O', 'B', 'P', 'E', 'E', 'R', '\n'};

struct HelloBytes {
  char magic[8];
  std::uint16_t wire_version;
  std::uint8_t kind;
  std::uint8_t channel;
  std::uint8_t shards;
  std::uint8_t reason;
  std::uint16_t features;
  std::uint32_t page_size;
  std::uint16_t node;
  std::uint16_t target;
  std::uint64_t cluster;
  std::uint64_t incarnation;
  std::uint64_t target_incarnation;
};
static_assert(std::endian::native == std::endian::little);
static_assert(sizeof(HelloBytes) == kHelloBytes);
static_assert(offsetof(HelloBytes, wire_version) == 8);
static_assert(offsetof(HelloBytes, kind) == 10);
static_assert(offsetof(HelloBytes, channel) == 11);
static_assert(offsetof(HelloBytes, shards) == 12);
static_assert(offsetof(HelloBytes, reason) == 13);
static_assert(offsetof(HelloBytes, features) == 14);
static_assert(offsetof(HelloBytes, page_size) == 16);
static_assert(offsetof(HelloBytes, node) == 20);
static_assert(offsetof(HelloBytes, target) == 22);
static_assert(offsetof(HelloBytes, cluster) == 24);
static_assert(offsetof(HelloBytes, incarnation) == 32);
static_assert(offsetof(HelloBytes, target_incarnation) == 40);

}  // namespace

void encode(const Hello& hello, std::span<std::byte, kHelloBytes> out) {
  HelloBytes b{};
  std::memcpy(b.magic, kMagic, sizeof kMagic);
  b.wire_version = wire::kVersion;
  b.kind = static_cast<std::uint8_t>(hello.kind);
  b.channel = hello.channel;
  b.shards = hello.shards;
  b.reason = static_cast<std::uint8_t>(hello.reason);
  b.features = hello.verbs ? kVerbsFeature : 0;
  b.page_size = hello.page_size;
  b.node = hello.node.value();
  b.target = hello.target.value();
  b.cluster = hello.cluster;
  b.incarnation = hello.incarnation;
  b.target_incarnation = hello.target_incarnation;
  std::memcpy(out.data(), &b, sizeof b);
}

HelloFault decode(std::span<const std::byte, kHelloBytes> in, Hello& hello) {
  HelloBytes b;
  std::memcpy(&b, in.data(), sizeof b);
  if (std::memcmp(b.magic, kMagic, sizeof kMagic) != 0) return HelloFault::kMagic;
  if (b.wire_version != wire::kVersion) return HelloFault::kVersion;
  if (b.kind < 1 || b.kind > static_cast<std::uint8_t>(HelloKind::kReject)) {
    return HelloFault::kMalformed;
  }
  const bool rejects = b.kind == static_cast<std::uint8_t>(HelloKind::kReject);
  if ((b.features & ~kVerbsFeature) != 0 || b.reason > static_cast<std::uint8_t>(kLastHelloFault) ||
      rejects != (b.reason != 0)) {
    return HelloFault::kMalformed;
  }
  hello = Hello{.kind = static_cast<HelloKind>(b.kind),
                .channel = b.channel,
                .shards = b.shards,
                .reason = static_cast<HelloFault>(b.reason),
                .verbs = (b.features & kVerbsFeature) != 0,
                .page_size = b.page_size,
                .node = NodeId{b.node},
                .target = NodeId{b.target},
                .cluster = b.cluster,
                .incarnation = b.incarnation,
                .target_incarnation = b.target_incarnation};
  return HelloFault::kNone;
}

bool begins_like_hello(std::span<const std::byte> heard) {
  return std::memcmp(heard.data(), kMagic, std::min(heard.size(), sizeof kMagic)) == 0;
}

std::uint64_t cluster_hash(std::string_view cluster_name) {
  std::uint64_t hash = 0xcbf29ce484222325ull;  // FNV-1a
  for (const char c : cluster_name) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3ull;
  }
  return hash;
}

HelloFault check(const Hello& hello, const HelloRules& rules) {
  if (hello.cluster != rules.cluster) return HelloFault::kCluster;
  if (hello.page_size != kPageSize) return HelloFault::kPageBytes;
  if (hello.shards != rules.shards) return HelloFault::kShards;
  if (hello.channel != kControlChannel && hello.channel >= rules.shards) {
    return HelloFault::kChannel;
  }
  if (hello.node.value() >= rules.nodes || hello.node == rules.self) return HelloFault::kNode;
  if (hello.target != rules.self) return HelloFault::kTarget;
  if (hello.incarnation == 0) return HelloFault::kIncarnation;
  // A first hello cannot know whom it will meet; any later one must mean this very process.
  const bool knows_us = hello.target_incarnation != 0 || hello.kind == HelloKind::kConfirm;
  if (knows_us && hello.target_incarnation != rules.incarnation) return HelloFault::kIncarnation;
  if (rules.needs_verbs && hello.kind == HelloKind::kHello && !hello.verbs) {
    return HelloFault::kNoVerbs;
  }
  return HelloFault::kNone;
}

std::string describe(HelloFault fault, const Hello& theirs, const HelloRules& ours) {
  const bool they_refuse = theirs.kind == HelloKind::kReject;
  const auto both = [](const char* what, auto there, auto here) {
    return std::string(what) + " differs: " + std::to_string(there) + " there, " +
           std::to_string(here) + " here";
  };
  switch (fault) {
    case HelloFault::kNone:
      return "no fault";
    case HelloFault::kMagic:
      return "it does not speak Gobelins' peer protocol; check which program uses this address";
    case HelloFault::kVersion:
      return "it speaks another version of the peer protocol than " +
             std::to_string(wire::kVersion) + "; run the same release on all nodes";
    case HelloFault::kMalformed:
      return "its hello is malformed";
    case HelloFault::kCluster:
      return "it belongs to another cluster; check 'cluster' in both configurations";
    case HelloFault::kPageBytes:
      return both("page size", theirs.page_size, kPageSize);
    case HelloFault::kShards:
      return both("number of shards", theirs.shards, ours.shards) +
             "; set 'shards' alike on all nodes";
    case HelloFault::kChannel:
      return "it asks for channel " + std::to_string(theirs.channel) + ", which does not exist";
    case HelloFault::kNode:
      if (they_refuse) {
        return "it knows no node " + std::to_string(ours.self.value()) +
               "; compare the lists of nodes in both configurations";
      }
      return "it says it is node " + std::to_string(theirs.node.value()) +
             ", which cannot be; compare the lists of nodes in both configurations";
    case HelloFault::kTarget:
      if (they_refuse) {
        return "it is node " + std::to_string(theirs.node.value()) +
               " and not the one this node looks for; compare the lists of nodes in both "
               "configurations";
      }
      return "it looks for node " + std::to_string(theirs.target.value()) + ", this is node " +
             std::to_string(ours.self.value()) +
             "; compare the lists of nodes in both configurations";
    case HelloFault::kDirection:
      return "node " + std::to_string(theirs.node.value()) +
             " must wait to be called, since the higher node number calls the lower";
    case HelloFault::kIncarnation:
      return "one side was restarted in the middle of the handshake";
    case HelloFault::kLinkLost:
      return "a link between these two processes broke before and is never resumed; one of them "
             "has to be restarted";
    case HelloFault::kNoVerbs:
      return std::string(they_refuse ? "it demands RDMA, and this node has none"
                                     : "it has no RDMA, which this node demands") +
             "; set transport = auto where TCP will do, or see why there is no device";
    case HelloFault::kAlreadyConnected:
      return "this process of it is connected already";
  }
  return "?";
}

}  // namespace gob
