// HeldMessages: messages of a shard about pages that the kernel of this node has not forgotten yet.
// For each page and peer they leave in the order in which they came; what speaks of all pages stays
// behind everything before it, and everything after it stays behind that. To find out what may go
// costs as much as there is held for the same 64 pages. What is held for a peer is bounded, as is
// what waits because its socket is full. Value type of one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include "libgob/base/page_set.h"
#include "libgob/protocol/message.h"

namespace gob {

class HeldMessages {
 public:
  struct Held {
    NodeId to;
    Message message;
    std::vector<std::byte> payload;
  };
  // Which of the pages have to wait.
  using Waits = std::function<std::uint64_t(const PageSet&)>;
  using Send = std::function<void(Held&)>;

  // Of messages for one peer, with what it takes to keep them.
  explicit HeldMessages(std::size_t most_bytes) : most_bytes_(most_bytes) {}

  // Nothing is held that the message would have to stay behind.
  [[nodiscard]] bool passes(const Message& message) const;

  // False if more would be held for the peer than may be: the message is not, and what is behind it
  // must not be sent either.
  [[nodiscard]] bool add(Held held);
  // Sends what need not wait any more, of what is held about these pages: of a message that has to
  // wait for some of its pages the rest is sent, since the kernel may be reading a page of which it
  // has forgotten its copy, and that read wait for this message.
  void release(const PageSet& changed, const Waits& waits, const Send& send);
  // The peer is gone.
  void forget(NodeId to);

 private:
  using Stripe = std::pair<ContainerId, std::uint64_t>;
  // What is held before a message, for one peer.
  struct Before {
    bool any = false;
    bool of_all = false;
    std::map<Stripe, std::uint64_t> pages;
  };
  using Iterator = std::map<std::uint64_t, Held>::iterator;
  static bool speaks_of_all(const Message& message);
  static Stripe stripe_of(const Message& message) {
    return {message.pages.container, message.pages.stripe};
  }
  // Sends the message or part of it, and forgets it if nothing is left.
  void consider(Iterator it, Before& before, const Waits& waits, const Send& send);
  void erase(Iterator it);
  [[nodiscard]] static std::size_t bytes_of(const Held& held) {
    return sizeof(Held) + held.payload.size();
  }

  const std::size_t most_bytes_;
  std::map<NodeId, std::size_t> bytes_;  // of what is held for it
  std::uint64_t next_ = 0;
  std::map<std::uint64_t, Held> held_;                 // by the order in which they came
  std::map<Stripe, std::set<std::uint64_t>> stripes_;  // which of them are about its pages
  std::size_t of_all_ = 0;
};

}  // namespace gob
