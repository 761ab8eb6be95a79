#include "libgob/file/buffer_pool.h"

namespace gob::file {

namespace {
constexpr std::size_t kSmallShare = 16;  // a buffer up to this share of a large one is no burden
}  // namespace

void BufferPool::Return::operator()(std::byte* bytes) const {
  if (pool_ != nullptr) {
    const std::lock_guard lock(pool_->mutex_);
    if (pool_->free_.size() < pool_->most_) return pool_->free_.push_back(bytes);
  }
  delete[] bytes;
}

BufferPool::~BufferPool() {
  for (const std::byte* bytes : free_) delete[] bytes;
}

BufferPool::Buffer BufferPool::take(std::size_t size) {
  if (size <= large_bytes_ / kSmallShare) return Buffer(new std::byte[size], Return());
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      Buffer last(free_.back(), Return(this));
      free_.pop_back();
      return last;
    }
  }
  return Buffer(new std::byte[large_bytes_], Return(this));
}

}  // namespace gob::file
