// A hostile peer from its first byte: a hello, then a stream of frames that arrives in arbitrary
// pieces. The stream parser must find exactly the frames that lie in the bytes, whatever the
// pieces.
//   byte 0      lengths of the pieces; its lowest bit chooses a shard or the control channel
//   bytes 1-48  the hello
//   the rest    the stream
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <span>

#include "libgob/transport/handshake.h"
#include "libgob/transport/receive_buffer.h"
#include "libgob/wire/frame.h"
#include "libgob/wire/page_header.h"

namespace {

using Bytes = std::span<const std::byte>;

void require(bool condition) {
  if (!condition) std::abort();
}

void judge_hello(std::span<const std::byte, gob::kHelloBytes> bytes) {
  const gob::HelloRules rules{.self = gob::NodeId{1},
                              .nodes = 3,
                              .shards = 2,
                              .cluster = gob::cluster_hash("blue"),
                              .incarnation = 1001};
  gob::Hello hello;
  const gob::HelloFault fault = gob::decode(bytes, hello);
  require(gob::begins_like_hello(bytes) == (fault != gob::HelloFault::kMagic));
  require(!gob::describe(fault, hello, rules).empty());
  if (fault != gob::HelloFault::kNone) return;
  std::array<std::byte, gob::kHelloBytes> again;
  gob::encode(hello, again);
  require(std::equal(again.begin(), again.end(), bytes.begin()));
  const gob::HelloFault verdict = gob::check(hello, rules);
  require(!gob::describe(verdict, hello, rules).empty());
  if (verdict == gob::HelloFault::kNone) {
    require(hello.node.value() < rules.nodes && hello.target == rules.self);
    require(hello.incarnation != 0);
  }
}

// The stream as it should be understood: one frame after the other in a flat span.
class Reference {
 public:
  Reference(Bytes stream, std::size_t max_payload) : rest_(stream), max_payload_(max_payload) {}

  [[nodiscard]] bool next_is_bad() const {
    return prefix() && !gob::wire::acceptable(*prefix(), max_payload_);
  }
  Bytes next_frame() {
    const Bytes frame = rest_.first(prefix()->frame_bytes());
    rest_ = rest_.subspan(frame.size());
    return frame;
  }
  [[nodiscard]] bool next_is_whole() const {
    return prefix() && !next_is_bad() && prefix()->frame_bytes() <= rest_.size();
  }

 private:
  [[nodiscard]] std::optional<gob::wire::Prefix> prefix() const {
    if (rest_.size() < gob::wire::kPrefixBytes) return std::nullopt;
    return gob::wire::decode_prefix(rest_.first<gob::wire::kPrefixBytes>());
  }
  Bytes rest_;
  std::size_t max_payload_;
};

void read_stream(Bytes stream, std::size_t max_payload, std::size_t piece) {
  gob::ReceiveBuffer buffer(max_payload);
  Reference reference(stream, max_payload);
  while (!stream.empty()) {
    const auto room = buffer.writable();
    require(!room.empty());
    const std::size_t count = std::min({room.size(), stream.size(), piece});
    std::memcpy(room.data(), stream.data(), count);
    buffer.commit(count);
    stream = stream.subspan(count);
    for (;;) {
      gob::ReceiveBuffer::Frame frame;
      const auto next = buffer.next(frame);
      if (next == gob::ReceiveBuffer::Next::kPartial) break;
      if (next == gob::ReceiveBuffer::Next::kBad) {
        require(reference.next_is_bad());
        return;
      }
      const Bytes whole = reference.next_frame();
      require(gob::wire::kPrefixBytes + frame.header.size() + frame.payload.size() == whole.size());
      require(std::equal(frame.header.begin(), frame.header.end(),
                         whole.begin() + gob::wire::kPrefixBytes));
      require(std::equal(frame.payload.rbegin(), frame.payload.rend(), whole.rbegin()));
      const auto message = gob::wire::decode(frame.header);
      if (message.ok()) (void)gob::wire::payload_bytes(*message);
    }
  }
  require(!reference.next_is_whole());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Bytes input = std::as_bytes(std::span(data, size));
  (void)gob::begins_like_hello(input);
  if (size < 1 + gob::kHelloBytes) return 0;
  judge_hello(input.subspan<1, gob::kHelloBytes>());
  const std::size_t max_payload =
      (data[0] & 1) != 0 ? gob::wire::kMaxControlPayloadBytes : gob::wire::kMaxPagePayloadBytes;
  const std::size_t piece = data[0] < 128 ? 1u + data[0] / 2 : std::size_t{64} * data[0];
  read_stream(input.subspan(1 + gob::kHelloBytes), max_payload, piece);
  return 0;
}
