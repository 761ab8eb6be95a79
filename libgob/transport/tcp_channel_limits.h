// What bounds one turn of a TcpChannel. Internal to it.
#pragma once

#include <chrono>
#include <cstddef>

namespace gob {

inline constexpr std::size_t kMessagesPerPoll = 256;
inline constexpr std::size_t kEventsPerPoll = 64;
// Of one call: a message with a whole stripe, and not much more.
inline constexpr std::size_t kReceiveBytes = std::size_t{272} * 1024;
// Up to so many links poll() reads each socket at once, which is cheaper than to ask epoll first.
inline constexpr std::size_t kDirectLinks = 4;
// While corked, so much small output is worth a system call.
inline constexpr std::size_t kHoldBackBytes = std::size_t{64} * 1024;
// A lost link is read so many times more at most, for what the peer said before it was lost.
inline constexpr unsigned kDrainReads = 64;
// While messages come over RDMA, sockets are looked at this often.
inline constexpr std::chrono::microseconds kLookInterval{500};

}  // namespace gob
