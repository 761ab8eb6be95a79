#include "libgob/migration/outside_terminal.h"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "libgob/migration/proc.h"

namespace gob::migration {
namespace {

// Numbers of the kernel's documentation, admin-guide/devices.txt.
constexpr unsigned kConsoles = 4, kAlternate = 5, kFirstPty = 136, kLastPty = 143;
constexpr unsigned kMostConsoles = 63;
const dev_t kOwnTerminal = makedev(kAlternate, 0);  // /dev/tty

bool is_terminal(dev_t device) {
  const unsigned kind = major(device);
  return device == kOwnTerminal || (kind >= kFirstPty && kind <= kLastPty) ||
         (kind == kConsoles && minor(device) <= kMostConsoles);
}

// proc(5), stat: which terminal a process belongs to.
struct Belongs {
  pid_t group = 0, session = 0;
  dev_t terminal = 0;  // 0: none
  pid_t foreground = 0;
};
Belongs belongs_to(pid_t pid) {
  std::ifstream file(proc(pid, "stat"));
  std::string line, state;
  std::getline(file, line);
  Belongs found;
  const std::size_t at = line.rfind(") ");
  if (at == std::string::npos) return found;
  std::istringstream words(line.substr(at + 2));
  pid_t parent = 0;
  std::uint32_t device = 0;
  words >> state >> parent >> found.group >> found.session >> device >> found.foreground;
  if (device != 0)
    found.terminal = makedev((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
  return found;
}

std::uint32_t flags_of(pid_t pid, const std::string& fd) {
  std::ifstream info(proc(pid, "fdinfo/" + fd));
  for (std::string word; info >> word;)
    if (word == "flags:" && info >> word)
      return static_cast<std::uint32_t>(std::strtoul(word.c_str(), nullptr, 8));
  return O_RDWR;
}

}  // namespace

bool OutsideTerminal::add(pid_t pid, const std::string& fd, const std::string& path,
                          const struct stat& info) {
  if (!is_terminal(info.st_rdev)) return false;
  uses_.emplace(Device{info.st_rdev, info.st_dev}, Use{pid, fd, path});
  return true;
}

std::optional<Terminal> OutsideTerminal::terminal(const std::vector<pid_t>& moving,
                                                  const std::optional<Terminal>* known,
                                                  std::vector<std::string>& obstacles) const {
  if (uses_.empty()) return std::nullopt;
  const auto of = [](const Use& use) {
    return "descriptor " + use.fd + " of process " + std::to_string(use.pid) + " is " + use.path;
  };
  const auto is_real = [](const auto& each) { return each.first.first != kOwnTerminal; };
  const auto real = std::ranges::find_if(uses_, is_real);
  if (real == uses_.end()) {
    // It would have to be found by another name than the one that the process has.
    obstacles.push_back(
        of(uses_.begin()->second) +
        ", and no other is a terminal: only one that is a standard stream, too, can "
        "be relayed");
    return std::nullopt;
  }
  const auto& [device, use] = *real;
  if (std::ranges::count_if(uses_, is_real) != 1) {
    std::string all;
    for (const auto& each : uses_)
      if (is_real(each)) all += (all.empty() ? "" : ", ") + of(each.second);
    obstacles.push_back(all + ": only one terminal can be relayed");
    return std::nullopt;
  }
  Terminal found;
  if (known != nullptr) {
    if (!*known || (*known)->devices_size() == 0 || (*known)->devices(0).rdev() != device.first) {
      obstacles.push_back(of(use) + ", a terminal that it has opened since it came here");
      return std::nullopt;
    }
    found = **known;
    found.clear_devices();
  } else {
    found.set_path(use.path);
  }
  for (const pid_t pid : moving) {
    const Belongs process = belongs_to(pid);
    if (process.terminal != device.first) continue;
    if (process.session == pid && known == nullptr)
      obstacles.push_back("process " + std::to_string(pid) + " is the first of the session of " +
                          use.path +
                          ", which ends with it: start the program from a shell that stays, "
                          "as in sh -c 'PROGRAM; :'");
    if (known != nullptr) break;
    found.set_controls(true);
    if (process.foreground == process.group) found.set_foreground(true);
  }
  found.set_pid(use.pid);
  found.set_fd(static_cast<std::int32_t>(std::strtol(use.fd.c_str(), nullptr, 10)));
  found.set_flags(flags_of(use.pid, use.fd));
  for (const auto& each : uses_) {
    Terminal::Device& entry = *found.add_devices();
    entry.set_rdev(each.first.first);
    entry.set_dev(each.first.second);
  }
  // The real one first.
  for (int i = 0; i < found.devices_size(); ++i)
    if (found.devices(i).rdev() == device.first) found.mutable_devices()->SwapElements(0, i);
  if (known == nullptr)
    if (const auto opened = open_terminal(found); !opened)
      obstacles.push_back(of(use) + ", which is gone: " + opened.error().message());
  return found;
}

Result<UniqueFd> open_terminal(const Terminal& terminal) {
  const std::string path = proc(terminal.pid(), "fd/" + std::to_string(terminal.fd()));
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
  struct stat info {};
  if (!fd) return system_error("opening the terminal " + terminal.path());
  if (::fstat(fd.get(), &info) != 0 || terminal.devices_size() == 0 ||
      info.st_rdev != terminal.devices(0).rdev())
    return make_error(ErrorCode::kUnavailable,
                      "the process has changed its standard streams just now; try again");
  return fd;
}

std::vector<std::string> criu_names(const Terminal& terminal) {
  std::vector<std::string> names;
  for (const Terminal::Device& each : terminal.devices()) {
    char name[64];
    std::snprintf(name, sizeof name, "tty[%llx:%llx]", static_cast<unsigned long long>(each.rdev()),
                  static_cast<unsigned long long>(each.dev()));
    names.emplace_back(name);
  }
  return names;
}

}  // namespace gob::migration
