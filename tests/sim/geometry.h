// Which pages a checked cluster has, and how page bytes are abstracted: a value a page, the number
// of the write that made it. Shared by the simulator, the explorer and the paper's tests. Values.
#pragma once

#include <cstdint>
#include <vector>

#include "libgob/base/ids.h"
#include "libgob/base/page_set.h"
#include "libgob/protocol/message.h"

namespace gob::sim {

// A page's bytes: 0 is a page of zeros, anything else names the write that made them.
using Value = std::uint32_t;

// Pages are spoken of by a dense index: container by container. `stride` 1 puts neighbours in one
// stripe; kStripePages gives every page a stripe, and so perhaps a manager, of its own.
struct Geometry {
  std::uint16_t nodes = 2;
  std::uint32_t containers = 1;
  std::uint32_t pages_each = 1;
  std::uint32_t stride = 1;

  [[nodiscard]] unsigned pages() const { return containers * pages_each; }
  [[nodiscard]] PageId page(unsigned index) const {
    return {ContainerId{index / pages_each + 1},
            PageIndex{std::uint64_t{index % pages_each} * stride}};
  }
  [[nodiscard]] bool contains(PageId id) const {
    return id.container.value() >= 1 && id.container.value() <= containers &&
           id.page.value() % stride == 0 && id.page.value() / stride < pages_each;
  }
  [[nodiscard]] unsigned index(PageId id) const {
    return (id.container.value() - 1) * pages_each +
           static_cast<unsigned>(id.page.value() / stride);
  }
  // Every page of the set is one of ours.
  [[nodiscard]] bool contains(PageSet set) const {
    bool all = true;
    for_each_page(set, [&](PageId id) { all = all && contains(id); });
    return all;
  }
  friend bool operator==(const Geometry&, const Geometry&) = default;
};

// A message on a link, with the bytes of its pages in ascending order if it carries any.
struct Packet {
  Message message;
  std::vector<Value> bytes;
  friend bool operator==(const Packet&, const Packet&) = default;
};

}  // namespace gob::sim
