// BufferPool: room for the answers to large reads. The memory of a large buffer comes from the
// kernel page by page, at a fault each, and would go back there after every read; here the buffers
// that were used last stay at hand. Any thread.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

namespace gob::file {

class BufferPool {
 public:
  class Return {
   public:
    Return() = default;
    explicit Return(BufferPool* pool) : pool_(pool) {}
    void operator()(std::byte* bytes) const;

   private:
    BufferPool* pool_ = nullptr;  // null: the memory is not the pool's
  };
  // Goes back to the pool, which outlives it.
  using Buffer = std::unique_ptr<std::byte[], Return>;

  // Buffers of `large_bytes` are kept, `most` at most.
  BufferPool(std::size_t large_bytes, std::size_t most) : large_bytes_(large_bytes), most_(most) {}
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // Room for `size` bytes, whatever they are now; at most large_bytes.
  [[nodiscard]] Buffer take(std::size_t size);

 private:
  const std::size_t large_bytes_;
  const std::size_t most_;
  std::mutex mutex_;
  std::vector<std::byte*> free_;  // guarded by mutex_
};

}  // namespace gob::file
