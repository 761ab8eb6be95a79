// The hello that two nodes exchange before a connection becomes a link, and the rules by which each
// refuses the other. Layout and sequence: docs/WIRE.md. Pure functions, any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "libgob/base/ids.h"

namespace gob {

inline constexpr std::size_t kHelloBytes = 48;

enum class HelloKind : std::uint8_t { kHello = 1, kConfirm = 2, kReject = 3 };

enum class HelloFault : std::uint8_t {
  kNone,
  kMagic,      // no Gobelins node speaks there
  kVersion,    // another version of the wire formats
  kMalformed,  // kind, reason, reserved or direction make no sense
  kCluster,    // a node of another cluster
  kPageBytes,  // another page size
  kShards,
  kChannel,           // no such channel
  kNode,              // not a node of this cluster, or not the one that was called
  kTarget,            // it takes us for another node
  kDirection,         // the higher id connects to the lower, never the other way
  kIncarnation,       // 0, or another than it had said, or it means another incarnation of ours
  kLinkLost,          // a link to this incarnation broke: it must be restarted
  kAlreadyConnected,  // this incarnation has a link for this channel
  kNoVerbs,           // it has no RDMA, which this node's configuration demands
};
inline constexpr HelloFault kLastHelloFault = HelloFault::kNoVerbs;

struct Hello {
  HelloKind kind = HelloKind::kHello;
  std::uint8_t channel = 0;
  std::uint8_t shards = 0;
  HelloFault reason = HelloFault::kNone;  // kReject: what its sender refuses
  bool verbs = false;                     // its sender has an RDMA device that it may use
  std::uint32_t page_size = kPageSize;
  NodeId node;
  NodeId target;
  std::uint64_t cluster = 0;  // cluster_hash()
  std::uint64_t incarnation = 0;
  std::uint64_t target_incarnation = 0;
  friend bool operator==(const Hello&, const Hello&) = default;
};

void encode(const Hello& hello, std::span<std::byte, kHelloBytes> out);
// kNone, or kMagic, kVersion, kMalformed; only with kNone is `hello` written.
[[nodiscard]] HelloFault decode(std::span<const std::byte, kHelloBytes> in, Hello& hello);

// False as soon as the first bytes of a stream, however few, show that no hello will come.
[[nodiscard]] bool begins_like_hello(std::span<const std::byte> heard);

[[nodiscard]] std::uint64_t cluster_hash(std::string_view cluster_name);

// What this node is, to compare hellos with.
struct HelloRules {
  NodeId self;
  std::size_t nodes = 0;  // configured
  std::uint8_t shards = 1;
  std::uint64_t cluster = 0;
  std::uint64_t incarnation = 0;
  bool needs_verbs = false;
};

// Faults of a hello whatever its place in the sequence; kNone if it may be believed.
[[nodiscard]] HelloFault check(const Hello& hello, const HelloRules& rules);

// For the log: what is wrong with their hello, or in a kReject with ours, and what to do about it.
[[nodiscard]] std::string describe(HelloFault fault, const Hello& theirs, const HelloRules& ours);

}  // namespace gob
