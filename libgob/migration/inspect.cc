#include "libgob/migration/inspect.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <sstream>

#include "libgob/base/ids.h"
#include "libgob/base/unique_fd.h"
#include "libgob/migration/file_facts.h"
#include "libgob/migration/outside_pipes.h"
#include "libgob/migration/outside_terminal.h"
#include "libgob/migration/proc.h"
#include "libgob/migration/resident.h"
#include "libgob/migration/sharers.h"
#include "libgob/migration/ties.h"

namespace gob::migration {
namespace {

namespace fs = std::filesystem;

std::string link_of(const std::string& path) {
  std::error_code error;
  const fs::path target = fs::read_symlink(path, error);
  return error ? std::string() : target.string();
}

std::string status_field(pid_t pid, const std::string& name) {
  std::ifstream status(proc(pid, "status"));
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(name + ":")) {
      const std::size_t at = line.find_first_not_of(" \t", name.size() + 1);
      return at == std::string::npos ? "" : line.substr(at);
    }
  return "";
}

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    names.push_back(it->path().filename());
  return names;
}

constexpr std::string_view kRemoved = " (deleted)";

class Inspector {
 public:
  Inspector(Plan& plan, std::vector<std::string> moving) : plan_(plan), moving_(std::move(moving)) {
    Common common = common_memory(plan_.processes);
    plan_.common = std::move(common.segments);
    plan_.common_areas = common.joined;
    for (const std::string& each : common.obstacles) obstacle(each);
  }

  void process(pid_t pid) {
    const std::size_t known = plan_.obstacles.size();
    look_at(pid);
    // Of a child that ended meanwhile nothing can be seen, which looks like much that is in the
    // way.
    const std::string state = status_field(pid, "State");
    if (pid != plan_.pid && (state.empty() || state.starts_with("Z")))
      plan_.obstacles.resize(known);
  }

  // Does it live, and is neither the process to be moved nor a descendant? Asked anew of each: the
  // process may have started others since it was looked at.
  [[nodiscard]] bool stays(pid_t pid) const {
    const std::string state = status_field(pid, "State");
    if (state.empty() || state.starts_with("Z")) return false;
    while (pid > 1 && pid != plan_.pid) {
      const std::string parent = status_field(pid, "PPid");
      if (parent.empty()) return false;  // it ended meanwhile
      pid = static_cast<pid_t>(std::strtol(parent.c_str(), nullptr, 10));
    }
    return pid != plan_.pid;
  }

  // Processes that came with a migrant and whose parents have ended since are children of process 1
  // of its namespace: they would stay, and end with it.
  void left_behind() {
    const pid_t first =
        static_cast<pid_t>(std::strtol(status_field(plan_.pid, "PPid").c_str(), nullptr, 10));
    for (const pid_t pid : tree_of(first))
      if (pid != first && stays(pid))
        obstacle("process " + std::to_string(pid) +
                 " came with it, and is no descendant of it any more: it would be left behind");
  }

  // The addresses that go along, once all sockets are known.
  void addresses() {
    if (moving_.empty()) return;
    const auto here = addresses_here();
    if (!here) return obstacle(here.error().message());
    for (const std::string& wanted : moving_) {
      const auto found = std::ranges::find(*here, wanted, &Address::address);
      if (found == here->end()) {
        obstacle(wanted + " is no IPv4 address of this node, so that it cannot go along");
        continue;
      }
      if (found->carries)
        obstacle(wanted + " is the first address of its network on " + found->device +
                 ": the others would go with it; add it after them");
      if (const std::uint16_t port = other_port_at(wanted, net_inodes_); port != 0)
        obstacle("the address " + wanted + " is in use by a process that stays, with port " +
                 std::to_string(port) + ": it cannot go along");
      plan_.moving_addresses.push_back(*found);
    }
  }

  // What processes that move may share with each other, but not with one that stays.
  void outside() {
    const auto outsider = [this](pid_t pid) { return stays(pid); };
    for (std::string& text : ties_.outside(outsider)) plan_.obstacles.push_back(std::move(text));
    plan_.streams =
        pipes_.streams(outsider, plan_.migrant ? &plan_.relayed : nullptr, plan_.obstacles);
    plan_.terminal = terminal_.terminal(
        plan_.processes, plan_.migrant ? &plan_.relayed_terminal : nullptr, plan_.obstacles);
    if (plan_.terminal && !plan_.migrant)
      plan_.terminal->set_index(static_cast<std::uint32_t>(plan_.streams.size()));
  }

 private:
  void obstacle(const std::string& text) { plan_.obstacles.push_back(text); }

  void look_at(pid_t pid) {
    const std::string who = "process " + std::to_string(pid) + " ";
    for (const std::string kind : {"pid", "mnt", "net", "ipc", "uts", "user", "cgroup"}) {
      // A migrant's namespaces are those it came in with its descendants.
      const bool own = plan_.migrant && (kind == "pid" || kind == "mnt");
      if (link_of(proc(pid, "ns/" + kind)) !=
          link_of(own ? proc(plan_.pid, "ns/" + kind) : "/proc/self/ns/" + kind))
        obstacle(who + "is in another " + kind + " namespace than " +
                 (own ? "the process that is to move" : "gobmigrate") +
                 " (a container?): that cannot be moved yet");
    }
    if (status_field(pid, "TracerPid") != "0")
      obstacle(who + "is being traced by process " + status_field(pid, "TracerPid") +
               "; end the debugger first");
    const std::string state = status_field(pid, "State");
    if (state.starts_with("T") || state.starts_with("t"))
      obstacle(who + "is stopped; continue it first (fg or bg in its shell, or kill -CONT)");
    plan_.threads += names_in(proc(pid, "task")).size();
    for (const char* kind : {"RssAnon", "VmSwap"})
      plan_.private_bytes += std::strtoull(status_field(pid, kind).c_str(), nullptr, 10) * 1024;
    mounts_.emplace(proc(pid, "mountinfo"));
    file(link_of(proc(pid, "exe")), proc(pid, "exe"), true);
    file(link_of(proc(pid, "cwd")), proc(pid, "cwd"), false);
    file(link_of(proc(pid, "root")), proc(pid, "root"), false);
    const std::set<int> left = sharers_descriptors(pid);
    shares_ = !left.empty();
    for (const std::string& fd : names_in(proc(pid, "fd")))
      if (!left.contains(std::atoi(fd.c_str()))) descriptor(pid, fd);
    maps(pid);
  }

  // `at`: the link below /proc that leads to it, whatever is at its path by now.
  void file(const std::string& path, const std::string& at, bool installed,
            bool stored_into = false) {
    if (path.empty() || path == "/") return;
    const auto known = seen_.find(path);
    if (known == seen_.end()) {
      auto facts = facts_of(at, *mounts_);
      if (!facts) return;  // closed or unmapped meanwhile
      if (path.ends_with(kRemoved)) return removed(path, at, std::move(*facts));
      seen_[path] = plan_.files.size();
      plan_.files.push_back(std::move(*facts));
      plan_.files.back().set_path(path);
      plan_.files.back().set_installed(installed);
      if (installed) plan_.files.back().set_build_id(build_id_of(at));
      plan_.files.back().set_stored_into(stored_into);
      return;
    }
    File& entry = plan_.files[known->second];
    entry.set_installed(entry.installed() && installed);
    entry.set_stored_into(entry.stored_into() || stored_into);
  }

  // A file without a name is copied, if nobody else has it.
  void removed(const std::string& path, const std::string& at, File facts) {
    struct stat info {};
    if (::stat(at.c_str(), &info) != 0) return;
    const std::string what = "the file " + path + " was removed while in use";
    if (!S_ISREG(info.st_mode) || info.st_nlink != 0)
      return obstacle(what + ", and is a folder, or has another name: that cannot be moved");
    if (info.st_size > kMaxCopiedFile)
      return obstacle(what + ", and has more than the " + std::to_string(kMaxCopiedFile >> 20) +
                      " MiB that are copied: that cannot be moved");
    ties_.add(info, what);
    plan_.shared_bytes += static_cast<std::uint64_t>(info.st_blocks) * 512;
    seen_[path] = plan_.files.size();
    facts.set_path(path.substr(0, path.size() - kRemoved.size()));
    facts.set_copied(true);
    plan_.files.push_back(std::move(facts));
  }

  void descriptor(pid_t pid, const std::string& fd) {
    const std::string path = proc(pid, "fd/" + fd);
    const std::string target = link_of(path);
    const std::string who = "descriptor " + fd + " of process " + std::to_string(pid);
    if (target.starts_with("pipe:")) return pipes_.add(pid, fd, target);
    if (target.starts_with("socket:")) return socket(pid, fd, target, who);
    if (target.starts_with("anon_inode:")) {
      for (const char* fine : {"[eventfd]", "[eventpoll]", "[signalfd]", "[timerfd]", "inotify"})
        if (target == std::string("anon_inode:") + fine) return without_inode(pid, fd, who, target);
      return obstacle(who + " is " + target + ", which CRIU cannot move");
    }
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) return;  // closed meanwhile
    if (target.starts_with("/memfd:")) return memory(target, info, who + " is " + target);
    if (S_ISCHR(info.st_mode)) {
      for (const char* fine :
           {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"})
        if (target == fine) return;
      if (terminal_.add(pid, fd, target, info)) return;
      return obstacle(who + " is " + target +
                      ", a device, or a terminal's master side (what runs in the terminal would "
                      "stay): end what needs it, or start the program with its streams to files "
                      "or /dev/null");
    }
    if (S_ISFIFO(info.st_mode)) ties_.add(target, who + " is the named pipe " + target);
    if (S_ISREG(info.st_mode) || S_ISDIR(info.st_mode) || S_ISFIFO(info.st_mode))
      return file(target, path, false);
    obstacle(who + " is " + target + ", which cannot be moved");
  }

  // What the kernel says of it, and CRIU may lose.
  void without_inode(pid_t pid, const std::string& fd, const std::string& who,
                     const std::string& target) {
    if (target == "anon_inode:[timerfd]") ++plan_.timers;
    std::ifstream info(proc(pid, "fdinfo/" + fd));
    for (std::string line; std::getline(info, line);) {
      if (line.starts_with("inotify wd:")) ++plan_.watches;
      if (line.starts_with("eventfd-semaphore: 1"))
        obstacle(who +
                 " is an eventfd that counts as a semaphore (EFD_SEMAPHORE), which CRIU would make "
                 "a plain one of");
    }
  }

  void maps(pid_t pid) {
    std::ifstream maps(proc(pid, "maps"));
    for (std::string line; std::getline(maps, line);) {
      std::istringstream words(line);
      std::string range, rights, offset, device, inode, path;
      words >> range >> rights >> offset >> device >> inode;
      std::getline(words >> std::ws, path);
      if (!path.starts_with("/") && !path.starts_with("anon_inode:")) continue;
      const std::string who = "process " + std::to_string(pid) + " has mapped " + path;
      const std::string link = proc(pid, "map_files/" + range);
      struct stat info {};
      if (path.starts_with("/SYSV")) continue;  // they become containers
      if (path.ends_with(kRemoved) && ::stat(link.c_str(), &info) == 0 && is_common(info)) continue;
      if (path.starts_with("anon_inode:") || path.starts_with("/anon_hugepage"))
        obstacle(who + ", which CRIU cannot move");
      else if (path == "/dev/zero (deleted)" || path.starts_with("/memfd:")) {
        if (::stat(link.c_str(), &info) == 0) memory(path, info, who);
      } else
        mapping(path, link, rights[3] == 's');
    }
  }

  // It becomes a container.
  [[nodiscard]] bool is_common(const struct stat& info) const {
    return std::ranges::any_of(plan_.common, [&](const CommonSegment& segment) {
      return segment.device == info.st_dev && segment.inode == info.st_ino;
    });
  }

  // Shared memory goes along with the last process that has it.
  void memory(const std::string& name, const struct stat& info, const std::string& who) {
    if (is_common(info)) return;
    if (name.starts_with("/memfd:gob:")) {
      if (!shares_ && !name.starts_with(std::string("/memfd:gob:") + kCommonName))
        obstacle(who +
                 ", a container, and its libgob is of a release that cannot move, or does not "
                 "answer");
      return;
    }
    if (ties_.add(info, who))
      plan_.shared_bytes += static_cast<std::uint64_t>(info.st_blocks) * 512;
  }

  void socket(pid_t pid, const std::string& fd, const std::string& link, const std::string& who) {
    const std::uint64_t number =
        std::strtoull(link.substr(link.find('[') + 1).c_str(), nullptr, 10);
    const auto found = sockets_.find(number);
    if (found == sockets_.end()) {
      if (std::ranges::find(net_inodes_, number) != net_inodes_.end()) return;
      auto socket = net_socket(pid, std::atoi(fd.c_str()));
      if (!socket && link_of(proc(pid, "fd/" + fd)) != link) return;  // closed meanwhile
      if (!socket)
        return obstacle(who +
                        " is a socket neither of TCP, of UDP, nor of Unix: it cannot be moved");
      ties_.add(link, who + " is a socket of a network");
      net_inodes_.push_back(number);
      return net(std::move(*socket), who);
    }
    if (found->second.named || found->second.peer == 0)
      return obstacle(who +
                      " is a Unix socket with a name, or without another end: only pairs can "
                      "be moved yet");
    const std::string peer = "socket:[" + std::to_string(found->second.peer) + "]";
    ties_.add(link, who + " is a Unix socket");
    ties_.add(peer, who + " is a Unix socket");
  }

  // Packets find a socket by its address.
  void net(NetSocket socket, const std::string& who) {
    const bool moves = std::ranges::find(moving_, socket.local) != moving_.end();
    if (socket.state == NetSocket::State::kConnected && is_loopback(socket.remote)) {
      obstacle(who + " is connected with port " + std::to_string(socket.remote_port) +
               " of this node, which stays: close it first");
    } else if (socket.state == NetSocket::State::kConnected && socket.tcp && !moves) {
      obstacle(who + " is a connection of " + socket.local + " with " + socket.remote +
               ", whose packets come to this node: let the address go along, if no other process "
               "here needs it (--address " +
               socket.local + ")");
    } else if (!socket.local.empty() && !is_loopback(socket.local) && !moves &&
               std::ranges::find(plan_.needed_addresses, socket.local) ==
                   plan_.needed_addresses.end()) {
      plan_.needed_addresses.push_back(socket.local);
    }
    plan_.sockets.push_back(std::move(socket));
  }

  void mapping(const std::string& path, const std::string& link, bool shared) {
    struct stat rights {};  // of the descriptor that was mapped
    const bool writable = ::lstat(link.c_str(), &rights) == 0 && (rights.st_mode & S_IWUSR) != 0;
    file(path, link, !shared, shared && writable);
  }

  Plan& plan_;
  const std::vector<std::string> moving_;  // addresses
  bool shares_ = false;  // the process that is looked at has connections, and will leave them
  std::optional<NetworkMounts> mounts_;      // of the process that is looked at
  std::map<std::string, std::size_t> seen_;  // files of the plan, by path
  Ties ties_;
  OutsidePipes pipes_;
  OutsideTerminal terminal_;
  std::vector<std::uint64_t> net_inodes_;
  const std::map<std::uint64_t, UnixPeer> sockets_ = unix_sockets();
};

}  // namespace

std::vector<pid_t> tree_of(pid_t pid) {
  std::vector<pid_t> all{pid};
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::string folder = proc(all[i], "task");
    for (const std::string& thread : names_in(folder)) {
      std::ifstream children(folder + "/" + thread + "/children");
      for (pid_t child = 0; children >> child;) all.push_back(child);
    }
  }
  return all;
}

pid_t inside_number(pid_t pid) {
  const std::string numbers = status_field(pid, "NSpid");
  const std::size_t last = numbers.find_last_of('\t');
  return static_cast<pid_t>(
      std::strtol(numbers.c_str() + (last == std::string::npos ? 0 : last + 1), nullptr, 10));
}

std::map<pid_t, pid_t> outside_numbers(pid_t root) {
  std::map<pid_t, pid_t> numbers;
  for (const pid_t pid : tree_of(root)) numbers[inside_number(pid)] = pid;
  return numbers;
}

std::vector<std::uint64_t> present_pages(pid_t pid, std::uint64_t address, std::uint64_t pages) {
  constexpr std::uint64_t kPresentOrSwapped = std::uint64_t{3} << 62;
  constexpr std::uint64_t kOfAFile = std::uint64_t{1} << 61;
  const UniqueFd map(::open(proc(pid, "pagemap").c_str(), O_RDONLY | O_CLOEXEC));
  std::vector<std::uint64_t> entries(pages);
  const ssize_t got = map ? ::pread(map.get(), entries.data(), pages * sizeof entries[0],
                                    static_cast<off_t>(address / kPageSize * sizeof entries[0]))
                          : 0;
  std::vector<std::uint64_t> present;
  for (std::size_t i = 0; got > 0 && i < static_cast<std::size_t>(got) / sizeof entries[0]; ++i)
    if ((entries[i] & kPresentOrSwapped) != 0 && (entries[i] & kOfAFile) == 0)
      present.push_back(address + i * kPageSize);
  return present;
}

Result<Plan> inspect(pid_t pid, const std::vector<std::string>& addresses) {
  Plan plan;
  plan.pid = pid;
  if (pid <= 1 || !fs::exists(proc(pid, "status")))
    return make_error(ErrorCode::kNotFound,
                      "there is no process " + std::to_string(pid) + " that could be moved", ESRCH);
  std::getline(std::ifstream(proc(pid, "comm")), plan.command);
  plan.processes = tree_of(pid);
  if (link_of(proc(pid, "exe")).empty()) {
    plan.obstacles.push_back("process " + std::to_string(pid) +
                             " is a thread of the kernel, or not yours to move: run as root");
    return plan;
  }
  if (std::ranges::count(plan.processes, ::getpid()) != 0)
    plan.obstacles.push_back("gobmigrate itself runs under process " + std::to_string(pid) +
                             "; start it from elsewhere");
  plan.inside = inside_number(pid);
  plan.parent = static_cast<pid_t>(std::strtol(status_field(pid, "PPid").c_str(), nullptr, 10));
  if (link_of(proc(pid, "ns/pid")) != link_of("/proc/self/ns/pid")) {
    auto resident = Resident::connect(pid);
    ResidentRequest hello;
    hello.set_hello(true);
    if (const auto said = resident ? resident->call(hello) : resident.error(); !said) {
      plan.obstacles.push_back(
          "process " + std::to_string(pid) +
          " is in another pid namespace than gobmigrate (a container?): " + said.error().message());
    } else if (said->root() != plan.inside) {
      plan.obstacles.push_back(
          "process " + std::to_string(pid) +
          " came here with its parent: they only move on together; move the parent");
    } else {
      plan.migrant = true;
      plan.node = said->node();
      plan.record = said->record();
      plan.relayed = {said->streams().begin(), said->streams().end()};
      if (said->has_terminal()) plan.relayed_terminal = said->terminal();
      plan.out_pages = said->out_pages();
      plan.covers = {said->covers().begin(), said->covers().end()};
      plan.private_bytes = plan.out_pages * kPageSize;
    }
  }
  Inspector inspector(plan, addresses);
  for (const pid_t each : plan.processes) inspector.process(each);
  inspector.outside();
  inspector.addresses();
  if (plan.migrant) inspector.left_behind();
  return plan;
}

}  // namespace gob::migration
