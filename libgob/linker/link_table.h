// LinkTable: which container a link of /dev/gob belongs to. The kernel may ask for pages of a link
// before the call that makes it returns: such requests are to be kept until the link is known here.
// Any thread.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>

#include "libgob/linker/mapping.h"

namespace gob {

class LinkTable {
 public:
  struct Known {
    MappingId mapping;
    ContainerId container;
  };

  // Between these two a request of a link that is not known may be of the one that is being made.
  void begin_linking() {
    const std::lock_guard lock(mutex_);
    ++linking_;
  }
  void end_linking() {
    const std::lock_guard lock(mutex_);
    --linking_;
  }
  void add(std::uint32_t link, Known known) {
    const std::lock_guard lock(mutex_);
    links_[link] = known;
  }
  void remove(std::uint32_t link) {
    const std::lock_guard lock(mutex_);
    links_.erase(link);
  }
  // Nothing, and `wait` set: ask again later. Nothing else: nobody serves that link.
  [[nodiscard]] std::optional<Known> find(std::uint32_t link, bool& wait) const {
    const std::lock_guard lock(mutex_);
    wait = linking_ != 0;
    const auto found = links_.find(link);
    return found == links_.end() ? std::nullopt : std::optional(found->second);
  }

 private:
  mutable std::mutex mutex_;
  unsigned linking_ = 0;
  std::map<std::uint32_t, Known> links_;
};

}  // namespace gob
