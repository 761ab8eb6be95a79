// ReceiveBuffer: turns the byte stream of a link into frames, in place. Its owner reads from the
// socket into writable(), says how much with commit(), and takes frames with next() until there are
// no more. Believes nothing: any bytes are safe. One thread owns it.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <span>

#include "libgob/wire/frame.h"

namespace gob {

class ReceiveBuffer {
 public:
  static constexpr std::size_t kBytes = std::size_t{1} << 20;  // grows for larger frames only
  static constexpr std::size_t kAlignment = 64;

  struct Frame {
    std::span<const std::byte> header;
    std::span<const std::byte> payload;
  };
  enum class Next {
    kFrame,    // `frame` holds until writable() is called
    kPartial,  // more bytes are needed
    kBad,      // a frame beyond the limits; the stream is of no further use
  };

  explicit ReceiveBuffer(std::size_t max_payload);

  // Room for at least one byte, enough for the rest of a frame that has begun.
  [[nodiscard]] std::span<std::byte> writable();
  void commit(std::size_t bytes);
  [[nodiscard]] Next next(Frame& frame);
  // next() would not say kPartial.
  [[nodiscard]] bool ready() const;

 private:
  struct Free {
    void operator()(std::byte* bytes) const {
      ::operator delete[](bytes, std::align_val_t{kAlignment});
    }
  };
  using Storage = std::unique_ptr<std::byte[], Free>;
  static Storage allocate(std::size_t bytes);

  [[nodiscard]] std::size_t held() const { return end_ - begin_; }
  [[nodiscard]] wire::Prefix prefix() const;  // held() must be at least kPrefixBytes
  void make_room(std::size_t frame_bytes);

  std::size_t max_payload_;  // constant
  std::size_t capacity_;
  Storage storage_;
  std::size_t begin_ = 0;  // bytes [begin_, end_) arrived and were not taken
  std::size_t end_ = 0;
};

}  // namespace gob
