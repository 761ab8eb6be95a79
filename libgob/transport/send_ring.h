// SendRing: the sender's side of a ring in the receiver's memory, as arithmetic. Frames are put one
// behind the other into the open chunk; a closed chunk goes out as one RDMA write to the same place
// in the receiver's ring, and is kept here until the receiver has acknowledged it: until then it
// may have to be sent again, over TCP. Pure: no device. One thread owns it.
//
// Chunks are numbered from 0, and so are frames. A chunk's place is free again when the receiver
// acknowledged it and the device has said that it is done with the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>

namespace gob {

class SendRing {
 public:
  static constexpr std::size_t kAlignment = 64;  // of a chunk's offset

  struct Chunk {
    std::size_t offset = 0;  // in the ring
    std::size_t bytes = 0;
    std::uint64_t first_frame = 0;
  };

  // `memory` is not owned. At most `max_chunks` are under way unacknowledged.
  SendRing(std::span<std::byte> memory, std::size_t max_chunks)
      : memory_(memory), max_chunks_(max_chunks) {}

  [[nodiscard]] std::size_t open_bytes() const { return open_.bytes; }
  // A frame of so many bytes can be added to the open chunk.
  [[nodiscard]] bool extends(std::size_t bytes) const;
  // Adds a frame to the open chunk, or opens one; returns where to copy its bytes. Null: no room
  // now. With a chunk open, only if extends(bytes).
  [[nodiscard]] std::byte* append(std::size_t bytes);
  // Closes the open chunk, which is not empty.
  Chunk close();

  // The receiver has taken the chunks before `count`. False if they were never sent.
  [[nodiscard]] bool acknowledge(std::uint64_t count);
  // The device is done with the chunks before `count`.
  void complete(std::uint64_t count);

  [[nodiscard]] std::uint64_t closed() const { return closed_; }  // chunks so far
  [[nodiscard]] std::uint64_t acknowledged() const { return acknowledged_; }
  // Calls `take` with the bytes of each chunk that is not acknowledged, the open one included, in
  // order, and returns the number of the first frame in them.
  template <typename Take>
  std::uint64_t unacknowledged(Take&& take) const {
    std::uint64_t first = next_frame_;
    const auto visit = [&](const Chunk& chunk) {
      first = chunk.first_frame < first ? chunk.first_frame : first;
      take(std::span<const std::byte>(memory_.subspan(chunk.offset, chunk.bytes)));
    };
    const std::uint64_t oldest = closed_ - log_.size();
    for (std::size_t i = 0; i < log_.size(); ++i) {
      if (oldest + i >= acknowledged_) visit(log_[i]);
    }
    if (open_.bytes != 0) visit(open_);
    return first;
  }

 private:
  void release();
  // Whether [offset, offset + bytes) is free.
  [[nodiscard]] bool is_free(std::size_t offset, std::size_t bytes) const;

  const std::span<std::byte> memory_;
  const std::size_t max_chunks_;
  std::deque<Chunk> log_;  // closed, place not yet free
  Chunk open_;
  std::size_t tail_ = 0;  // where the next chunk would begin
  std::uint64_t closed_ = 0;
  std::uint64_t acknowledged_ = 0;
  std::uint64_t completed_ = 0;
  std::uint64_t next_frame_ = 0;
};

}  // namespace gob
