#include "tests/sim/scenario.h"

#include <charconv>
#include <istream>
#include <map>
#include <ostream>
#include <sstream>

namespace gob::sim {
namespace {

using Fields = std::map<std::string, std::string>;

bool parse_number(const std::string& text, int base, std::uint64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc{} && end == text.data() + text.size();
}

// Reads `name`=number if it is there.
template <class T>
bool take(const Fields& fields, const char* name, int base, T& value) {
  const auto found = fields.find(name);
  if (found == fields.end()) return true;
  std::uint64_t number = 0;
  if (!parse_number(found->second, base, number)) return false;
  value = static_cast<T>(number);
  return true;
}

bool take_node(const Fields& fields, const char* name, NodeId& node) {
  std::uint16_t number = node.value();
  if (!take(fields, name, 10, number)) return false;
  node = NodeId{number};
  return true;
}

bool take_pages(const Fields& fields, PageSet& pages) {
  const auto found = fields.find("pages");
  if (found == fields.end()) return true;
  std::istringstream parts(found->second);
  std::string container;
  std::string stripe;
  std::string mask;
  std::getline(parts, container, ':');
  std::getline(parts, stripe, ':');
  std::getline(parts, mask, ':');
  std::uint64_t id = 0;
  if (!parse_number(container, 10, id) || !parse_number(stripe, 10, pages.stripe) ||
      !parse_number(mask, 16, pages.mask))
    return false;
  pages.container = ContainerId{static_cast<std::uint32_t>(id)};
  return true;
}

bool read_event(const Fields& fields, WorldEvent& event) {
  return take_node(fields, "node", event.node) && take_node(fields, "from", event.from) &&
         take(fields, "thread", 10, event.thread) && take(fields, "index", 10, event.index) &&
         take(fields, "ahead", 16, event.ahead) && take(fields, "ok", 10, event.ok) &&
         take_pages(fields, event.pages);
}

bool read_cluster(const Fields& fields, WorldConfig& config) {
  Geometry& g = config.geometry;
  return take(fields, "nodes", 10, g.nodes) && take(fields, "containers", 10, g.containers) &&
         take(fields, "pages", 10, g.pages_each) && take(fields, "stride", 10, g.stride) &&
         take(fields, "threads", 10, config.threads) && take(fields, "files", 10, config.files) &&
         take(fields, "home", 10, config.home) && g.nodes >= 1 && g.nodes <= kMaxNodes &&
         g.containers >= 1 && g.containers < 64 && g.pages_each >= 1 && g.pages_each <= 1u << 20 &&
         g.stride >= 1 && config.threads <= 64;
}

bool read_core(const Fields& fields, CoreConfig& core) {
  return take(fields, "budget", 10, core.budget_frames) &&
         take(fields, "low", 10, core.low_water_frames) &&
         take(fields, "high", 10, core.high_water_frames) && take(fields, "swap", 10, core.swap) &&
         take(fields, "hold", 10, core.hold_grants) &&
         take(fields, "create_ahead", 10, core.create_ahead);
}

}  // namespace

Result<Scenario> read_scenario(std::istream& in) {
  Scenario scenario;
  scenario.start = false;
  scenario.settle = false;
  std::string line;
  for (unsigned number = 1; std::getline(in, line); ++number) {
    line.erase(std::min(line.find('#'), line.size()));
    std::istringstream words(line);
    std::string verb;
    if (!(words >> verb)) continue;
    bool good = true;
    if (verb == "expect") {
      std::getline(words >> std::ws, scenario.expect);
    } else if (verb == "settle") {
      scenario.settle = true;
    } else if (verb == "start") {
      scenario.start = true;
    } else if (verb == "budgets") {
      for (std::uint64_t frames = 0; words >> frames;) scenario.config.budgets.push_back(frames);
      good = scenario.config.budgets.size() == scenario.config.geometry.nodes;
    } else {
      Fields fields;
      for (std::string word; words >> word;) {
        const std::size_t equals = word.find('=');
        good = good && equals != std::string::npos;
        if (good) fields[word.substr(0, equals)] = word.substr(equals + 1);
      }
      WorldEvent event;
      if (const auto kind = kind_named(verb)) {
        event.kind = *kind;
        good = good && read_event(fields, event);
        scenario.events.push_back(event);
      } else {
        good = good && ((verb == "cluster" && read_cluster(fields, scenario.config)) ||
                        (verb == "core" && read_core(fields, scenario.config.core)));
      }
    }
    if (!good)
      return make_error(ErrorCode::kInvalidArgument, "scenario line " + std::to_string(number) +
                                                         ", '" + line + "': not understood");
  }
  return scenario;
}

std::string to_text(const WorldEvent& event) {
  using Kind = WorldEvent::Kind;
  std::string text = name_of(event.kind);
  const auto number = [&](const char* name, std::uint64_t value) {
    text += std::string(" ") + name + "=" + std::to_string(value);
  };
  if (event.kind == Kind::kDeliver || event.kind == Kind::kCut || event.kind == Kind::kDisconnect)
    number("from", event.from.value());
  if (event.kind != Kind::kPropose) number("node", event.node.value());
  switch (event.kind) {
    case Kind::kRead:
    case Kind::kWrite:
    case Kind::kRetry:
      number("thread", event.thread);
      break;
    case Kind::kIo:
      number("index", event.index);
      number("ok", event.ok);
      break;
    case Kind::kView:
    case Kind::kSync:
      number("index", event.index);
      break;
    case Kind::kDeliver:
    case Kind::kHoldExpired:
    case Kind::kFlush:
    case Kind::kExpire:
    case Kind::kLeave:
    case Kind::kCrash:
    case Kind::kCut:
    case Kind::kRestart:
    case Kind::kPropose:
    case Kind::kRemove:
    case Kind::kDisconnect:
    case Kind::kFence:
    case Kind::kWriteBack:
    case Kind::kDiscard:
      break;
  }
  if (!event.pages.empty()) text += " pages=" + to_text(event.pages);
  if (event.ahead != 0) {
    char mask[24];
    std::snprintf(mask, sizeof mask, " ahead=%llx", static_cast<unsigned long long>(event.ahead));
    text += mask;
  }
  return text;
}

void write_scenario(const Scenario& scenario, std::ostream& out) {
  const WorldConfig& config = scenario.config;
  const CoreConfig& core = config.core;
  out << "cluster nodes=" << config.geometry.nodes << " containers=" << config.geometry.containers
      << " pages=" << config.geometry.pages_each << " stride=" << config.geometry.stride
      << " threads=" << config.threads << " files=" << config.files << " home=" << config.home
      << "\n"
      << "core budget=" << core.budget_frames << " low=" << core.low_water_frames
      << " high=" << core.high_water_frames << " swap=" << core.swap << " hold=" << core.hold_grants
      << " create_ahead=" << core.create_ahead << "\n";
  if (!config.budgets.empty()) {
    out << "budgets";
    for (const std::uint64_t frames : config.budgets) out << ' ' << frames;
    out << "\n";
  }
  if (scenario.start) out << "start\n";
  for (const WorldEvent& event : scenario.events) out << to_text(event) << "\n";
  if (scenario.settle) out << "settle\n";
  if (!scenario.expect.empty()) out << "expect " << scenario.expect << "\n";
}

std::string replay(const Scenario& scenario, std::ostream* trace) {
  World world(scenario.config);
  if (scenario.start) world.start();
  for (const WorldEvent& event : scenario.events) {
    const std::string refusal = world.refuses(event);
    if (!refusal.empty()) {
      // A kept scenario outlives the core it was found with: what cannot happen any more is passed.
      if (trace != nullptr) *trace << "- " << to_text(event) << "    (" << refusal << ")\n";
      continue;
    }
    if (trace != nullptr) {
      *trace << "* " << to_text(event);
      const std::string packet = world.describe(event);
      if (!packet.empty()) *trace << "    [" << packet << "]";
      *trace << "\n";
    }
    const std::vector<unsigned> pages = world.concerned(event);
    world.apply(event);
    const bool all = scenario.config.geometry.pages() <= 4;
    if (trace != nullptr) *trace << world.describe(all ? nullptr : &pages);
    if (!world.violation().empty()) break;
  }
  if (scenario.settle && world.violation().empty()) {
    const std::string unrest = settle(world);
    if (trace != nullptr) *trace << "* settle\n" << world.describe();
    if (world.violation().empty() && !unrest.empty()) {
      if (trace != nullptr) *trace << "violation: " << unrest << "\n";
      return unrest;
    }
  }
  const std::string violation =
      world.violation().empty() ? world.check_history() : world.violation();
  if (trace != nullptr && !violation.empty()) *trace << "violation: " << violation << "\n";
  return violation;
}

}  // namespace gob::sim
