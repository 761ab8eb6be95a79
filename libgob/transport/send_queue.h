// SendQueue: bytes that wait for a full socket, or for the end of a cork, in order. One thread owns
// it.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace gob {

class SendQueue {
 public:
  [[nodiscard]] bool empty() const { return head_ == bytes_.size(); }
  [[nodiscard]] std::size_t size() const { return bytes_.size() - head_; }
  // All that waits, contiguous; valid until the next call of a non-const member.
  [[nodiscard]] std::span<const std::byte> front() const {
    return std::span(bytes_).subspan(head_);
  }

  void append(std::span<const std::byte> bytes) {
    if (bytes.size() > bytes_.capacity() - bytes_.size() && head_ >= size()) {
      bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(head_));
      head_ = 0;
    }
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }

  void consume(std::size_t count) {
    head_ += count;
    if (!empty()) return;
    head_ = 0;
    bytes_.clear();
    // A burst's memory goes back; what common traffic needs stays.
    if (bytes_.capacity() > kKeepBytes) bytes_.shrink_to_fit();
  }

 private:
  static constexpr std::size_t kKeepBytes = std::size_t{256} * 1024;
  std::vector<std::byte> bytes_;
  std::size_t head_ = 0;  // bytes before it are gone
};

}  // namespace gob
