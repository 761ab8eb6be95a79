#include "gobbench/simulate/timing.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace gob::bench {

const std::vector<Parameter>& timing_parameters() {
  static const std::vector<Parameter> all = {
      {"cores", &Timing::cores, "cores of a node; with 1 the program stands still for gobd"},
      {"flop_ns", &Timing::flop_ns, "an addition or multiplication, in cache"},
      {"divide_ns", &Timing::divide_ns, "a division"},
      {"memory_byte_ns", &Timing::memory_byte_ns, "a byte to or from memory beyond the cache"},
      {"cache_mib", &Timing::cache_mib, "cache of a core, MiB"},
      {"fault_us", &Timing::fault_us, "from an access until gobd has read the fault"},
      {"resume_us", &Timing::resume_us, "from gobd's answer until the program goes on"},
      {"call_us", &Timing::call_us, "a program's call to gobd (a barrier), one way"},
      {"wake_us", &Timing::wake_us, "a message is here until a sleeping thread looks at it"},
      {"wake_busy_us", &Timing::wake_busy_us, "the same while the program computes on its core"},
      {"kick_us", &Timing::kick_us, "processor time that this costs the sender"},
      {"receive_us", &Timing::receive_us, "processor time to receive"},
      {"send_us", &Timing::send_us, "processor time to send"},
      {"byte_ns", &Timing::byte_ns, "processor time of each byte, at each end"},
      {"step_us", &Timing::step_us, "protocol core and codec, each message or fault"},
      {"map_us", &Timing::map_us, "storing and mapping the first page of a run"},
      {"map_page_us", &Timing::map_page_us, "each page after it"},
      {"protect_us", &Timing::protect_us, "write-protecting the first page of a run"},
      {"protect_page_us", &Timing::protect_page_us, "each page after it"},
      {"unmap_us", &Timing::unmap_us, "unmapping and freeing the first page of a run"},
      {"unmap_page_us", &Timing::unmap_page_us, "each page after it"},
      {"load_us", &Timing::load_us, "reading the first page of a run to send it"},
      {"load_page_us", &Timing::load_page_us, "each page after it"},
      {"link_us", &Timing::link_us, "from port to port, without the time of the bytes"},
      {"gigabits_a_second", &Timing::gigabits_a_second, "of a port, each way; 0: no limit"},
      {"hold_us", &Timing::hold_us, "hold after a grant (gobd's hold_us)"},
      {"read_ahead_pages", &Timing::read_ahead_pages, "gobd's read_ahead_pages; 0: none"},
  };
  return all;
}

Result<Preset> find_preset(const std::string& name) {
  std::string names;
  for (const Preset& preset : presets()) {
    if (preset.name == name) return preset;
    names += (names.empty() ? "" : ", ") + preset.name;
  }
  return make_error(ErrorCode::kInvalidArgument,
                    "there is no preset '" + name + "'; there are " + names);
}

Status override_parameter(Preset& preset, const std::string& assignment) {
  const std::size_t equals = assignment.find('=');
  const std::string name = assignment.substr(0, equals);
  const auto& all = timing_parameters();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const Parameter& p) { return name == p.name; });
  if (equals == std::string::npos || found == all.end())
    return make_error(ErrorCode::kInvalidArgument,
                      "'" + assignment +
                          "' sets no parameter; give NAME=VALUE with a name that "
                          "'gobbench simulate presets' lists");
  const std::string value = assignment.substr(equals + 1);
  double number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() || !std::isfinite(number) ||
      number < 0 || number > 1e9)
    return make_error(ErrorCode::kInvalidArgument,
                      "'" + value + "' is no value for " + name + ": give a number from 0 to 1e9");
  preset.timing.*(found->member) = number;
  preset.sources[name] = "command line";
  return {};
}

double element_ns(const Timing& timing, const KernelCost& cost, double swept_bytes) {
  const double processor = cost.flops * timing.flop_ns + cost.divisions * timing.divide_ns;
  const bool cached = swept_bytes <= timing.cache_mib * 1024 * 1024;
  return cached ? processor : std::max(processor, cost.memory_bytes * timing.memory_byte_ns);
}

}  // namespace gob::bench
