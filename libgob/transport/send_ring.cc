#include "libgob/transport/send_ring.h"

#include <algorithm>

namespace gob {

bool SendRing::is_free(std::size_t offset, std::size_t bytes) const {
  const std::size_t end = offset + bytes;
  if (end > memory_.size()) return false;
  if (log_.empty()) return true;
  const std::size_t first = log_.front().offset;
  const std::size_t last = log_.back().offset;
  // In use is [first, tail_), or, gone round the end, all but [tail_, first).
  if (first <= last) return offset >= tail_ || end <= first;
  return offset >= tail_ && end <= first;
}

bool SendRing::extends(std::size_t bytes) const {
  return open_.bytes != 0 && is_free(open_.offset, open_.bytes + bytes);
}

std::byte* SendRing::append(std::size_t bytes) {
  if (open_.bytes == 0) {
    if (closed_ - acknowledged_ >= max_chunks_) return nullptr;
    if (log_.empty()) tail_ = 0;  // the common case stays in the first, warm pages
    std::size_t offset = tail_;
    if (!is_free(offset, bytes)) {
      offset = 0;
      // At the front only if the tail is not there already.
      if (tail_ == 0 || !is_free(offset, bytes)) return nullptr;
    }
    open_ = {offset, 0, next_frame_};
  } else if (!extends(bytes)) {
    return nullptr;
  }
  std::byte* at = memory_.data() + open_.offset + open_.bytes;
  open_.bytes += bytes;
  ++next_frame_;
  return at;
}

SendRing::Chunk SendRing::close() {
  const Chunk chunk = open_;
  log_.push_back(chunk);
  tail_ = (chunk.offset + chunk.bytes + kAlignment - 1) / kAlignment * kAlignment;
  ++closed_;
  open_ = {};
  return chunk;
}

bool SendRing::acknowledge(std::uint64_t count) {
  if (count > closed_ || count < acknowledged_) return false;
  acknowledged_ = count;
  release();
  return true;
}

void SendRing::complete(std::uint64_t count) {
  completed_ = std::max(completed_, std::min(count, closed_));
  release();
}

void SendRing::release() {
  const std::uint64_t free_before = std::min(acknowledged_, completed_);
  while (!log_.empty() && closed_ - log_.size() < free_before) log_.pop_front();
}

}  // namespace gob
