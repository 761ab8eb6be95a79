// Timing: what everything costs in a simulated cluster, in one table. Values; a preset says where
// each number is from. Durations are per event unless the name says per page or byte.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "libgob/base/result.h"

namespace gob::bench {

using SimTime = std::uint64_t;  // nanoseconds since the simulation began

// The kernel's calls on frames: the first page of a run, and each page after it.
struct FrameCosts {
  double map_us = 0;
  double map_page_us = 0;
  double protect_us = 0;
  double protect_page_us = 0;
  double unmap_us = 0;
  double unmap_page_us = 0;
  double load_us = 0;
  double load_page_us = 0;
};

struct Timing : FrameCosts {
  // The processor, and what a program does with it.
  double cores = 0;           // of a node; with 1 the program stands still while gobd works
  double flop_ns = 0;         // an addition or multiplication on doubles in cache
  double divide_ns = 0;       // a division
  double memory_byte_ns = 0;  // a byte to or from memory beyond the cache
  double cache_mib = 0;       // what a worker sweeps over is in cache if it is not more
  // Program and gobd on one node.
  double fault_us = 0;   // from the access until gobd has read the fault
  double resume_us = 0;  // from gobd's kernel call until the program goes on
  double call_us = 0;    // a call to gobd (a barrier), one way
  // Messages.
  double wake_us = 0;       // a message is here until the sleeping thread looks at it
  double wake_busy_us = 0;  // the same while the program computes on the thread's core
  double kick_us = 0;       // what that costs the sender, if both nodes are one machine's
  double receive_us = 0;    // processor time to take in what one send brought
  double send_us = 0;       // processor time to send
  double byte_ns = 0;       // processor time of each byte, at each end
  double step_us = 0;       // the protocol core and the codec, a message or fault
  // The network: every node has one port to one switch, which never blocks.
  double link_us = 0;            // port to port, without the time of the bytes
  double gigabits_a_second = 0;  // of a port in each direction; 0: no limit
  // How gobd is set.
  double hold_us = 0;
  double read_ahead_pages = 0;
};

struct Parameter {
  const char* name;  // on the command line
  double Timing::*member;
  const char* meaning;
};
[[nodiscard]] const std::vector<Parameter>& timing_parameters();

// A cluster that somebody could own.
struct Preset {
  std::string name;
  std::string description;
  Timing timing;
  std::map<std::string, std::string> sources;  // by parameter: where its number is from
};
[[nodiscard]] const std::vector<Preset>& presets();
// Fails with kInvalidArgument, which names those that exist.
[[nodiscard]] Result<Preset> find_preset(const std::string& name);

// Applies "name=value"; the source of that parameter becomes the command line.
[[nodiscard]] Status override_parameter(Preset& preset, const std::string& assignment);

// What a kernel of the parallel programs costs for one element.
struct KernelCost {
  double flops = 0;
  double divisions = 0;
  double memory_bytes = 0;  // moved if it is not in cache
};
// Nanoseconds an element takes when a worker sweeps over `swept_bytes` again and again: the
// processor or memory, whichever is slower.
[[nodiscard]] double element_ns(const Timing& timing, const KernelCost& cost, double swept_bytes);

[[nodiscard]] constexpr SimTime to_ns(double us) { return static_cast<SimTime>(us * 1e3 + 0.5); }

}  // namespace gob::bench
