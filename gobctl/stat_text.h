// Answers of gobd to `gobctl stat` as text for people. Pure functions but for the stream.
#pragma once

#include "gobctl/arguments.h"
#include "libgob/runtime/control.pb.h"

namespace gob::ctl {

// One container in full, or the node with a line for each of its containers. With `before`, an
// earlier answer to the same question, and the time between them, also what happened a second.
struct Interval {
  const control::StatReply* before = nullptr;
  double seconds = 0;
};
void print_container(const control::StatReply& stat, const control::HelloReply& hello,
                     const Interval& interval, Io& io);
// How each peer is reached. Counts are totals, whatever the interval.
void print_transport(const control::StatReply& stat, const control::HelloReply& hello,
                     const Interval& interval, Io& io);
void print_node(const control::StatReply& stat, const control::HelloReply& hello,
                const Interval& interval, Io& io);

}  // namespace gob::ctl
