// The single experiments of scale.h, each on one cluster size. Pure but for time.
#pragma once

#include "gobbench/simulate/scale.h"

namespace gob::bench {

// Of exact samples, in microseconds.
struct Latency {
  double p50_us = 0;
  double p99_us = 0;
  double mean_us = 0;
};

struct IndependentPages {
  Latency all;
  Latency two_hops;            // the manager is requester or owner
  Latency three_hops;          // requester, manager and owner are three nodes
  double three_hop_share = 0;  // of the misses
  double messages_a_miss = 0;
  double manager_load_max_over_mean = 0;
  double directory_bytes_max = 0;   // of a node
  double directory_bytes_mean = 0;  // over the nodes
};
[[nodiscard]] Result<IndependentPages> independent_pages(const Timing& timing, unsigned nodes,
                                                         const ScaleOptions& options);

struct SharedPages {
  Latency read;                 // all nodes read the set at once
  Latency write;                // then one node writes it, page by page
  double messages_a_write = 0;  // sent by the whole cluster
};
// `readers`: how many nodes read before the write; the writer is none of them.
[[nodiscard]] Result<SharedPages> shared_pages(const Timing& timing, unsigned nodes,
                                               unsigned readers, unsigned pages);

// Microseconds of one barrier of all nodes.
[[nodiscard]] Result<double> barrier_us(const Timing& timing, unsigned nodes);

struct ViewChange {
  double ms = 0;
  double messages = 0;
};
[[nodiscard]] Result<ViewChange> view_change(const Timing& timing, unsigned nodes,
                                             std::uint64_t pages);

}  // namespace gob::bench
