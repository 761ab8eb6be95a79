// What the tools of the package perftest measure on an RDMA device of this machine, both ends here.
#pragma once

#include <string>

#include "libgob/base/result.h"

namespace gob::bench {

// Microseconds, one way (ib_read_lat: there and back), as ib_send_lat, ib_write_lat and ib_read_lat
// report them as typical, for messages of 4 KiB.
[[nodiscard]] Result<double> perftest_latency_us(const std::string& tool, const std::string& device,
                                                 unsigned iterations);
// MB a second on average, as ib_read_bw, ib_write_bw and ib_send_bw report it.
[[nodiscard]] Result<double> perftest_bandwidth(const std::string& tool, const std::string& device,
                                                unsigned iterations);

}  // namespace gob::bench
