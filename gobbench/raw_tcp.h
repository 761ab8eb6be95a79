// What plain TCP sockets do between the same two places, in the same run: the measure that faults
// and streams are held against. Each end is a thread of this program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "gobbench/tcp_pair.h"
#include "libgob/base/result.h"

namespace gob::bench {

// `rounds` times `bytes_out` to the server and `bytes_back` from it, over blocking sockets with
// TCP_NODELAY: nanoseconds of each round.
[[nodiscard]] Result<std::vector<std::uint64_t>> tcp_ping_pong(const TcpPlaces& places,
                                                               std::size_t bytes_out,
                                                               std::size_t bytes_back,
                                                               unsigned rounds);

// What the calls themselves take when nobody has to be woken: medians, in microseconds.
struct TcpCalls {
  double send_us = 0;
  double receive_us = 0;
};
// Both ends of a connection over loopback in one thread, which before each call sweeps over `swept`
// (cache_sweep.h).
[[nodiscard]] Result<TcpCalls> tcp_calls(std::size_t bytes, unsigned rounds,
                                         std::span<double> swept);

// Medians of a raw TCP exchange between two cores, in microseconds.
struct TcpExchange {
  double round_us = 0;
  double send_us = 0;  // of the client: its call alone
};
// The client sweeps over `swept` between rounds.
[[nodiscard]] Result<TcpExchange> tcp_exchange(const TcpPlaces& places, std::size_t bytes_out,
                                               std::size_t bytes_back, unsigned rounds,
                                               std::span<double> swept);

// Server to client in writes of 256 KiB: bytes a second, seen by the receiver. `congestion`: the
// algorithm of congestion control; empty: the system's choice.
[[nodiscard]] Result<double> tcp_stream(const TcpPlaces& places, std::uint64_t bytes,
                                        const std::string& congestion = {});
// The system's choice of congestion control.
[[nodiscard]] std::string tcp_congestion();

}  // namespace gob::bench
