// What the two ends of a link say about RDMA, as frames on the link's TCP connection, if both said
// in their hello that they can. Layout and sequence: docs/WIRE.md. Pure functions, any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace gob {

enum class VerbsRecordKind : std::uint8_t {
  kOffer = 1,     // this is my queue pair, and the memory you may write into
  kReady = 2,     // my queue pair takes what yours sends
  kRefuse = 3,    // I cannot: let us stay with TCP
  kFallBack = 4,  // my queue pair is gone: from frame `first_frame` on all frames follow here
};

// How to reach one end of a queue pair.
struct VerbsOffer {
  std::uint8_t mtu = 0;  // enum ibv_mtu: 1 = 256 ... 5 = 4096 bytes
  std::uint16_t lid = 0;
  std::uint32_t queue_pair = 0;
  std::uint32_t first_psn = 0;
  std::array<std::byte, 16> gid{};
  std::uint64_t ring_address = 0;  // where the other end writes its messages
  std::uint32_t ring_bytes = 0;
  std::uint32_t ring_key = 0;
  std::uint32_t chunks = 0;  // how many writes may be under way unacknowledged
  friend bool operator==(const VerbsOffer&, const VerbsOffer&) = default;
};

struct VerbsRecord {
  VerbsRecordKind kind = VerbsRecordKind::kRefuse;
  VerbsOffer offer{};             // kOffer
  std::uint64_t first_frame = 0;  // kFallBack: number of the frame that follows, counted from 0
  std::string reason{};           // kRefuse, kFallBack: for the other side's log
};

inline constexpr std::size_t kVerbsRecordBytes = 64;
inline constexpr std::size_t kMaxVerbsReasonBytes = 256;  // longer ones are cut
inline constexpr std::uint32_t kMinVerbsRingBytes = 1u << 20;
inline constexpr std::uint32_t kMaxVerbsRingBytes = 1u << 22;

// A whole frame, prefix included.
[[nodiscard]] std::vector<std::byte> encode(const VerbsRecord& record);
// False if no correct peer says this; `record` is written only when true.
[[nodiscard]] bool decode(std::span<const std::byte> header, std::span<const std::byte> payload,
                          VerbsRecord& record);

}  // namespace gob
