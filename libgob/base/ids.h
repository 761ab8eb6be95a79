// Identifiers and sizes that every layer shares. Strong types, so that a page index is never taken
// for a node. Values: no thread affinity.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace gob {

inline constexpr std::size_t kPageSize = 4096;  // bytes of a page; the peer handshake checks it
inline constexpr unsigned kStripePages = 64;    // pages that share a manager and a shard
inline constexpr std::size_t kMaxNodes = 1024;  // nodes of one cluster
inline constexpr std::uint64_t kMaxPages = std::uint64_t{1} << 40;  // pages of one container: 4 PiB
inline constexpr std::uint32_t kMaxContainerId = (1u << 24) - 1;    // a page key packs id and page

template <class Tag, class Rep>
class StrongId {
 public:
  using rep = Rep;
  constexpr StrongId() = default;
  constexpr explicit StrongId(Rep value) : value_(value) {}
  [[nodiscard]] constexpr Rep value() const { return value_; }
  friend constexpr auto operator<=>(StrongId, StrongId) = default;

 private:
  Rep value_{};
};

// Position of a node in the configured list of nodes, from 0.
using NodeId = StrongId<struct NodeTag, std::uint16_t>;
// Cluster-wide, never reused while the cluster runs; at most kMaxContainerId. 0 is no container.
using ContainerId = StrongId<struct ContainerTag, std::uint32_t>;
// Page of a container, from 0.
using PageIndex = StrongId<struct PageTag, std::uint64_t>;
// Number of a cluster view; a larger one is a later one.
using Epoch = StrongId<struct EpochTag, std::uint64_t>;

inline constexpr NodeId kNoNode{0x0fff};  // fits the 12 bits of a directory entry

// One page of one container.
struct PageId {
  ContainerId container;
  PageIndex page;
  friend constexpr auto operator<=>(const PageId&, const PageId&) = default;
};

// A page id in one word: container in the upper 24 bits, page in the lower 40.
using PageKey = std::uint64_t;
constexpr PageKey key_of(PageId id) {
  return (std::uint64_t{id.container.value()} << 40) | id.page.value();
}
constexpr PageId page_of(PageKey key) {
  return {ContainerId{static_cast<std::uint32_t>(key >> 40)}, PageIndex{key & (kMaxPages - 1)}};
}

}  // namespace gob

template <class Tag, class Rep>
struct std::hash<gob::StrongId<Tag, Rep>> {
  std::size_t operator()(gob::StrongId<Tag, Rep> id) const noexcept {
    return std::hash<Rep>{}(id.value());
  }
};
