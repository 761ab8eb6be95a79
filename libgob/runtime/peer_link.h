// PeerLink: one peer as the control thread sees it. It is up when all its channels are, of one
// incarnation; it is down when the first of them breaks. The peer's end may be up earlier, and what
// it says then arrives over the control channel before the other channels have said that they are
// there: it is kept until they have, because nobody will say it again.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "libgob/membership/membership_message.h"
#include "libgob/transport/transport.h"

namespace gob {

class PeerLink {
 public:
  static constexpr std::size_t kMaxEarly = 1024;  // messages; an honest peer says a few

  // `channels`: how many there are. True if the peer is up with this, and was not before.
  [[nodiscard]] bool channel_up(unsigned channel, std::uint64_t incarnation, std::size_t channels) {
    up_[channel] = incarnation;
    const auto same = [&](const auto& each) { return each.second == incarnation; };
    if (up_.size() != channels || !std::ranges::all_of(up_, same)) return false;
    incarnation_ = incarnation;
    last_down_.clear();
    return true;
  }
  // True if the peer was up until now; `why` in words.
  [[nodiscard]] bool channel_down(unsigned channel, const std::string& why) {
    up_.erase(channel);
    if (channel == kControlChannel) early_.clear();
    if (incarnation_ == 0) return false;
    incarnation_ = 0;
    last_down_ = why;
    return true;
  }

  // What came while the peer is not up. False: it is too much, and not kept.
  [[nodiscard]] bool keep(MembershipMessage message) {
    if (early_.size() == kMaxEarly) return false;
    early_.push_back(std::move(message));
    return true;
  }
  // In the order of their coming; to be heard as soon as the peer is up.
  [[nodiscard]] std::vector<MembershipMessage> take_early() { return std::exchange(early_, {}); }

  [[nodiscard]] bool is_up() const { return incarnation_ != 0; }
  [[nodiscard]] bool has_channels() const { return !up_.empty(); }
  [[nodiscard]] const std::string& last_down() const { return last_down_; }

 private:
  std::map<unsigned, std::uint64_t> up_;  // channel -> incarnation
  std::uint64_t incarnation_ = 0;         // announced to membership; 0: down
  std::string last_down_;
  std::vector<MembershipMessage> early_;
};

}  // namespace gob
