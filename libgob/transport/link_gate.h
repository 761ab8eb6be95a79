// Where the set-up thread and a channel's owner meet: links come in through the channel's gate,
// breaks go out as reports. Off the data path. Internal to the TCP transport.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "libgob/base/ids.h"
#include "libgob/base/unique_fd.h"
#include "libgob/transport/channel.h"

namespace gob {

struct NewLink {
  NodeId peer;
  std::uint64_t incarnation = 0;
  UniqueFd socket;
  bool verbs = false;  // both sides said that they can: they agree on it over the socket first
};

// The link of this incarnation broke, on this channel or another one.
struct LinkBreak {
  NodeId peer;
  std::uint64_t incarnation = 0;
  DownReason reason = DownReason::kClosed;
  std::string detail;
};

// Holds at most one new link and one break for each peer.
class LinkGate {
 public:
  // `event` is an eventfd.
  explicit LinkGate(UniqueFd event) : event_(std::move(event)) {}

  // Set-up thread. A link that was never taken is replaced silently.
  void attach(NewLink link);
  void cut(LinkBreak cut);
  // The channel is gone: links that come are closed at once.
  void close();

  // Channel owner, or anyone who wants the channel's poll() to run.
  void wake();
  [[nodiscard]] int fd() const { return event_.get(); }
  [[nodiscard]] bool signalled() const { return signalled_.load(std::memory_order_acquire); }
  struct Taken {
    std::vector<LinkBreak> cuts;  // to be applied first
    std::vector<NewLink> links;
  };
  // Empties the gate and makes fd() unreadable.
  [[nodiscard]] Taken take();

 private:
  void wake_locked();

  UniqueFd event_;  // constant; written and read under mutex_
  std::atomic<bool> signalled_{false};
  std::mutex mutex_;
  bool closed_ = false;               // under mutex_
  std::map<NodeId, NewLink> links_;   // under mutex_
  std::map<NodeId, LinkBreak> cuts_;  // under mutex_
};

// Who wants to know that a link broke; called on the channel owner's thread.
class LinkObserver {
 public:
  virtual ~LinkObserver() = default;
  virtual void on_link_broken(LinkBreak link_break) = 0;
};

}  // namespace gob
