// The numbers of the presets, each with its source. "Assumed" says that nobody measured it for us;
// what hangs on such a number, `gobbench simulate sensitivity` tells.
#include "gobbench/simulate/timing.h"
#include "libgob/linker/stream_detector.h"

namespace gob::bench {
namespace {

struct Value {
  const char* name;
  double value;
  const char* source;
};

Preset make(const char* name, const char* description, const std::vector<Value>& values) {
  Preset preset{name, description, {}, {}};
  for (const Value& value : values)
    for (const Parameter& parameter : timing_parameters())
      if (std::string(parameter.name) == value.name) {
        preset.timing.*(parameter.member) = value.value;
        preset.sources[value.name] = value.source;
      }
  return preset;
}

constexpr const char* kGobd = "gobd's default";

Preset gige_2002() {
  return make(
      "gige-2002", "the paper's cluster: six Pentium III 500 MHz on Gigabit Ethernet",
      {{"cores", 1, "RR-4384 §6: each PC has one Pentium III 500 MHz"},
       {"flop_ns", 3, "a dependent addition takes 3 cycles of 2 ns and covers a multiplication"},
       {"divide_ns", 64, "FDIV on doubles takes 32 cycles (Intel, IA-32 optimisation manual)"},
       {"memory_byte_ns", 2.9, "assumed: 350 MB/s, under half of the 800 MB/s peak of PC100"},
       {"cache_mib", 0.5, "512 KiB of second-level cache (Pentium III 500, Katmai)"},
       {"fault_us", 3, "assumed: the paper's fault handler is in the kernel (§5), so no switch"},
       {"resume_us", 5, "assumed: one context switch"},
       {"call_us", 3, "assumed: a system call; the paper's service is in the kernel"},
       {"wake_us", 10, "assumed: interrupt to handler"},
       {"wake_busy_us", 10, "the same: the interrupt comes either way"},
       {"kick_us", 0, "nodes are machines of their own"},
       {"receive_us", 10,
        "with send, link and wake 46 µs one way: twice the 23 µs of 2 GHz PCs, "
        "half of the 46 µs UDP round trip (Li, transport protocols, fig. A.8)"},
       {"send_us", 10, "see receive_us"},
       {"byte_ns", 6, "assumed: one copy over memory (2 × 2.9 ns)"},
       {"step_us", 2, "assumed: 1000 cycles"},
       {"map_us", 3, "assumed: page table and allocation in the kernel"},
       {"map_page_us", 1, "assumed"},
       {"protect_us", 2, "assumed: one processor, so no shoot-down"},
       {"protect_page_us", 0.5, "assumed"},
       {"unmap_us", 3, "assumed"},
       {"unmap_page_us", 1, "assumed"},
       {"load_us", 0, "sent from the frame: its copy is in byte_ns"},
       {"load_page_us", 0, "see load_us"},
       {"link_us", 16, "see receive_us: network cards, PCI, switch"},
       {"gigabits_a_second", 1, "RR-4384 §6: Gigabit Ethernet"},
       {"hold_us", 100, kGobd},
       {"read_ahead_pages", 0, "RR-4384 §5.2.1: a fault brings its page, and no other"}});
}

Preset tcp_25g() {
  return make("tcp-25g", "servers of today on 25 Gbit/s Ethernet, TCP of the kernel",
              {{"cores", 16, "program and gobd each have a core"},
               {"flop_ns", 0.25, "assumed: 4 Gflop/s a core, compiled without fused operations"},
               {"divide_ns", 1.5, "assumed: 4 to 5 cycles each, in vectors"},
               {"memory_byte_ns", 0.1, "assumed: 10 GB/s a core"},
               {"cache_mib", 16, "assumed: a core's share of the last-level cache"},
               {"fault_us", 3,
                "with map and resume 7.8 µs, a bare userfaultfd fault on a PC (N. Watkins, "
                "Measuring userfaultfd page-fault latency, 2016)"},
               {"resume_us", 2.8, "see fault_us"},
               {"call_us", 5, "assumed: a Unix socket and a wake-up"},
               {"wake_us", 6, "assumed: interrupt, wake-up, epoll"},
               {"wake_busy_us", 6, "not used: gobd has a core of its own"},
               {"kick_us", 0, "nodes are machines of their own"},
               {"receive_us", 2,
                "assumed: with send, link and wake 13 µs one way, 38,000 round trips a "
                "second (netperf TCP_RR)"},
               {"send_us", 3, "see receive_us"},
               {"byte_ns", 0.2,
                "one core moves about 40 Gbit/s (Cai et al., Understanding Host Network "
                "Stack Overheads, SIGCOMM 2021)"},
               {"step_us", 0.5, "gobbench micro: core and codec"},
               {"map_us", 2, "see fault_us"},
               {"map_page_us", 0.5, "assumed"},
               {"protect_us", 4, "assumed: with one shoot-down of another core"},
               {"protect_page_us", 0.2, "assumed"},
               {"unmap_us", 4, "see protect_us"},
               {"unmap_page_us", 0.3, "assumed"},
               {"load_us", 0.8, "assumed: pread of a page"},
               {"load_page_us", 0.4, "assumed"},
               {"link_us", 2, "assumed: two network cards and a switch"},
               {"gigabits_a_second", 25, "25 Gbit/s Ethernet"},
               {"hold_us", 100, kGobd},
               {"read_ahead_pages", StreamDetector::kMaxWindow, kGobd}});
}

Preset roce_100g() {
  Preset preset = tcp_25g();
  preset.name = "roce-100g";
  preset.description = "the same servers on 100 Gbit/s RoCE, completions polled";
  const std::vector<Value> differences = {
      {"wake_us", 0.1, "completions are polled"},
      {"receive_us", 0.15,
       "with send, link and wake 0.85 µs one way: ib_send_lat of 32 bytes "
       "(D. Potter, master's thesis, table of MTU and latency)"},
      {"send_us", 0.15, "see receive_us"},
      {"byte_ns", 0.12,
       "4 KiB take 2.26 µs in the same table: 1.43 µs more than 32 bytes, of which "
       "the wire takes 0.33"},
      {"link_us", 0.45, "see receive_us"},
      {"gigabits_a_second", 100, "100 Gbit/s Ethernet"}};
  for (const Value& value : differences)
    for (const Parameter& parameter : timing_parameters())
      if (std::string(parameter.name) == value.name) {
        preset.timing.*(parameter.member) = value.value;
        preset.sources[value.name] = value.source;
      }
  return preset;
}

}  // namespace

const std::vector<Preset>& presets() {
  static const std::vector<Preset> all = {gige_2002(), tcp_25g(), roce_100g()};
  return all;
}

}  // namespace gob::bench
