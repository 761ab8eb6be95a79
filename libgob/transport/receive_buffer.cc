#include "libgob/transport/receive_buffer.h"

#include <algorithm>
#include <cstring>

namespace gob {

ReceiveBuffer::ReceiveBuffer(std::size_t max_payload)
    : max_payload_(max_payload), capacity_(kBytes), storage_(allocate(kBytes)) {}

ReceiveBuffer::Storage ReceiveBuffer::allocate(std::size_t bytes) {
  // Left uninitialised: the kernel gives memory for those pages only that traffic touches.
  return Storage(new (std::align_val_t{kAlignment}) std::byte[bytes]);
}

wire::Prefix ReceiveBuffer::prefix() const {
  return wire::decode_prefix(
      std::span<const std::byte, wire::kPrefixBytes>(storage_.get() + begin_, wire::kPrefixBytes));
}

std::span<std::byte> ReceiveBuffer::writable() {
  if (held() == 0) {
    // Start over at the front: the common case never leaves the first, warm pages.
    begin_ = end_ = 0;
    if (capacity_ > kBytes) {
      storage_ = allocate(kBytes);
      capacity_ = kBytes;
    }
  } else if (held() < wire::kPrefixBytes) {
    make_room(wire::kPrefixBytes);
  } else if (wire::acceptable(prefix(), max_payload_)) {
    make_room(prefix().frame_bytes());
  }
  return {storage_.get() + end_, capacity_ - end_};
}

void ReceiveBuffer::make_room(std::size_t frame_bytes) {
  // One byte more than the frame, so that there is room even behind a frame that is complete.
  const std::size_t wanted = frame_bytes + 1;
  if (begin_ + wanted <= capacity_ && end_ < capacity_) return;
  const std::size_t needed = std::max(wanted, held() + 1);
  if (needed > capacity_) {
    Storage larger = allocate(needed);
    std::memcpy(larger.get(), storage_.get() + begin_, held());
    storage_ = std::move(larger);
    capacity_ = needed;
  } else {
    std::memmove(storage_.get(), storage_.get() + begin_, held());
  }
  end_ = held();
  begin_ = 0;
}

void ReceiveBuffer::commit(std::size_t bytes) { end_ += std::min(bytes, capacity_ - end_); }

ReceiveBuffer::Next ReceiveBuffer::next(Frame& frame) {
  if (held() < wire::kPrefixBytes) return Next::kPartial;
  const wire::Prefix p = prefix();
  if (!wire::acceptable(p, max_payload_)) return Next::kBad;
  if (held() < p.frame_bytes()) return Next::kPartial;
  const std::byte* at = storage_.get() + begin_ + wire::kPrefixBytes;
  frame.header = {at, p.header_bytes};
  frame.payload = {at + p.header_bytes, p.payload_bytes};
  begin_ += p.frame_bytes();
  return Next::kFrame;
}

bool ReceiveBuffer::ready() const {
  if (held() < wire::kPrefixBytes) return false;
  const wire::Prefix p = prefix();
  return !wire::acceptable(p, max_payload_) || held() >= p.frame_bytes();
}

}  // namespace gob
