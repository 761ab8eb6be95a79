// IoLinker: connects containers to a device (paper §3.2.2), by the paper's four calls, on runs of
// pages. Asynchronous: calls only queue work, which is done on the linker's own thread, and
// completions are collected by poll(). One shard owns a linker and makes all calls on its thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "libgob/base/page_set.h"
#include "libgob/base/result.h"

namespace gob {

// Exactly one for each first_touch and flush_page that was accepted, in order of completion.
struct IoCompletion {
  enum class Kind : std::uint8_t { kTouched, kFlushed };
  Kind kind = Kind::kTouched;
  PageSet pages;  // as in the call
  Status status;  // holds for all pages: on failure nothing changed on the device
  const std::byte* bytes = nullptr;  // kTouched and ok: packed; until the next poll()
};

class IoLinker {
 public:
  virtual ~IoLinker() = default;

  // Reads pages that the device has, for page frames to be filled. The device keeps its copy.
  // However much is under way: who needs the page would be refused it. An Error: nothing was queued
  // (kNotFound: the device has not all of them).
  virtual Status first_touch(PageSet pages) = 0;
  // Writes pages whose frames are to be given up. `bytes`, packed, are copied before the call
  // returns. The device has the pages once the completion says so, and not before. kNoSpace if it
  // is full, kUnavailable if too much is under way (try again after a completion): nothing was
  // queued. Pages it has already are replaced.
  virtual Status flush_page(PageSet pages, const std::byte* bytes) = 0;
  // The pages are gone for good, or newer elsewhere for good: forget them. No completion; one of an
  // operation under way may still come. Pages it does not have are no matter.
  virtual void free_page(PageSet pages) = 0;
  // The local frames of these pages are invalid. What that means is the device's affair: a swap
  // file forgets them, a file on disk keeps its copy. No completion.
  virtual void invalidate_page(PageSet pages) = 0;
  // free_page of all pages of a container.
  virtual void free_container(ContainerId id) = 0;

  // Pages of the set that the device has.
  [[nodiscard]] virtual PageSet held(PageSet pages) const = 0;
  [[nodiscard]] virtual std::uint64_t held_pages() const = 0;
  // Readable when poll() has completions.
  [[nodiscard]] virtual int fd() const = 0;
  // Appends completions; never blocks. What earlier completions point to becomes invalid.
  virtual void poll(std::vector<IoCompletion>& out) = 0;
};

}  // namespace gob
