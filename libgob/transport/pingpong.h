// The yardstick: what plain blocking TCP sockets do on this machine, without anything of ours
// between. `gobbench fault` and `stream` compare with it in the same run. Any thread; starts one of
// its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "libgob/base/result.h"

namespace gob {

// Exchanges `rounds` times over 127.0.0.1: `bytes_out` there, then `bytes_back` back. Returns the
// time of each exchange in nanoseconds, in order.
[[nodiscard]] Result<std::vector<std::uint64_t>> measure_raw_tcp(std::size_t bytes_out,
                                                                 std::size_t bytes_back,
                                                                 std::size_t rounds);

// Sends `bytes` one way over 127.0.0.1 in writes of `bytes_per_write`. Returns nanoseconds until
// the receiver has all of them.
[[nodiscard]] Result<std::uint64_t> measure_raw_tcp_stream(std::size_t bytes,
                                                           std::size_t bytes_per_write);

}  // namespace gob
