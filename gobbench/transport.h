// What a page costs at the level of the transport, over RDMA and over TCP, next to what the RDMA
// device can do at all.
#pragma once

#include <string>

#include "gobbench/outcome.h"

namespace gob::bench {

struct TransportOptions {
  std::string device;  // RDMA device; empty: TCP only
  unsigned pages = 5000;
  unsigned rounds = 3;  // in which all kinds take turns
  unsigned under_way = 16;
  unsigned busy_wait_us = 200;  // as gobd's rdma_poll_us
};

[[nodiscard]] Result<Outcome> run_transport(const TransportOptions& options);

}  // namespace gob::bench
