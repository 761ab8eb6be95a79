#include "libgob/migration/common_memory.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>

#include "libgob/base/ids.h"
#include "libgob/migration/proc.h"

namespace gob::migration {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostSegments = 32;
constexpr std::size_t kMostAreas = 64;  // of one process in one segment
constexpr std::size_t kMostStaying = 128;
constexpr std::string_view kGone = " (deleted)";

std::string link_of(const std::string& path) {
  std::error_code error;
  return fs::read_symlink(path, error).string();
}

bool is_traced(pid_t pid) {
  std::ifstream status(proc(pid, "status"));
  for (std::string word; status >> word;)
    if (word == "TracerPid:")
      return status >> word && word != "0" && word != std::to_string(::getpid());
  return false;
}

// A line of maps(5).
struct Line {
  std::string range, path;
  char rights[5] = {};
  dev_t device = 0;
  std::uint64_t start = 0, end = 0, offset = 0, inode = 0;

  static bool parse(const std::string& text, Line& line) {
    unsigned major = 0, minor = 0;
    int at = 0;
    if (std::sscanf(text.c_str(), "%lx-%lx %4s %lx %x:%x %lu %n", &line.start, &line.end,
                    line.rights, &line.offset, &major, &minor, &line.inode, &at) < 7)
      return false;
    line.device = ::makedev(major, minor);
    line.range = text.substr(0, text.find(' '));
    line.path = text.substr(static_cast<std::size_t>(at));
    return true;
  }
  [[nodiscard]] bool is_shared() const { return rights[3] == 's'; }
  [[nodiscard]] bool is_system_v() const { return path.starts_with("/SYSV"); }
  // Such memory may be common.
  [[nodiscard]] bool is_memory() const {
    return is_system_v() || path == "/dev/zero (deleted)" ||
           (path.starts_with("/memfd:") && !path.starts_with("/memfd:gob")) ||
           (path.starts_with("/dev/shm/") && path.ends_with(kGone));
  }
  [[nodiscard]] SharedArea area(pid_t pid) const {
    SharedArea area{start, end - start, offset, 0, false, inode};
    area.protection = (rights[0] == 'r' ? PROT_READ : 0) | (rights[1] == 'w' ? PROT_WRITE : 0) |
                      (rights[2] == 'x' ? PROT_EXEC : 0);
    struct stat link {};  // shows the rights with which it was opened
    area.may_write =
        rights[1] == 'w' || (::lstat(proc(pid, "map_files/" + range).c_str(), &link) == 0 &&
                             (link.st_mode & S_IWUSR) != 0);
    return area;
  }
};

template <class Function>
void each_line(pid_t pid, const Function& function) {
  std::ifstream maps(proc(pid, "maps"));
  for (std::string text; std::getline(maps, text);)
    if (Line line; text.find('/') != std::string::npos && Line::parse(text, line)) function(line);
}

template <class Function>
void each_process(const Function& function) {
  std::error_code error;
  for (fs::directory_iterator it("/proc", error), end; !error && it != end; it.increment(error)) {
    const auto pid = static_cast<pid_t>(std::atoi(it->path().filename().c_str()));
    if (pid > 0) function(pid);
  }
}

// System V segments have numbers of their own, on a device that others have, too.
using Key = std::pair<dev_t, std::uint64_t>;
Key key_of(const Line& line) { return {line.is_system_v() ? 0 : line.device, line.inode}; }

class Finder {
 public:
  explicit Finder(const std::vector<pid_t>& moving) : moving_(moving) {}

  Common find() {
    for (const pid_t pid : moving_) look_at(pid, true);
    if (segments_.empty()) return std::move(common_);
    each_process([this](pid_t pid) {
      if (std::ranges::find(moving_, pid) == moving_.end()) look_at(pid, false);
    });
    // What only processes that move have goes along by itself, but for System V segments.
    std::erase_if(segments_, [](const auto& entry) {
      return entry.second.staying.empty() && !entry.second.system_v;
    });
    if (std::ranges::any_of(segments_, [](const auto& entry) { return !entry.second.system_v; }))
      each_process([this](pid_t pid) { look_at_descriptors(pid); });
    for (auto& [key, segment] : segments_) {
      if (const auto odd = odd_.find(key); odd != odd_.end())
        common_.obstacles.push_back(segment.name +
                                    " is shared and cannot become a container: " + odd->second);
      measure(segment);
      common_.segments.push_back(std::move(segment));
    }
    if (common_.segments.size() > kMostSegments)
      common_.obstacles.push_back("it shares more than " + std::to_string(kMostSegments) +
                                  " pieces of memory with processes that stay");
    return std::move(common_);
  }

 private:
  void look_at(pid_t pid, bool moves) {
    const std::string number = "process " + std::to_string(pid);
    each_line(pid, [&](const Line& line) {
      if (moves && line.path.starts_with(std::string("/memfd:gob:") + kCommonName))
        ++common_.joined;
      if (!line.is_memory()) return;
      const Key key = key_of(line);
      if (moves && !segments_.contains(key)) {
        CommonSegment& made = segments_[key];
        made.name = line.is_system_v()
                        ? "the System V segment " + std::to_string(line.inode)
                        : "the memory " + line.path.substr(0, line.path.size() - kGone.size()) +
                              " of " + number;
        made.inode = line.inode;
        made.system_v = line.is_system_v();
        made.device = key.first;
      }
      const auto found = segments_.find(key);
      if (found == segments_.end()) return;
      CommonSegment& segment = found->second;
      // Their segments have the same numbers.
      if (!moves && segment.system_v &&
          link_of(proc(pid, "ns/ipc")) != link_of("/proc/self/ns/ipc"))
        return;
      if (!line.is_shared()) odd_[key] = number + " has it mapped privately";
      if (!moves && is_traced(pid)) odd_[key] = number + " is being traced; end the debugger first";
      auto& users = moves ? segment.moving : segment.staying;
      if (users.empty() || users.back().pid != pid) users.push_back({pid, {}});
      users.back().areas.push_back(line.area(pid));
      if (users.back().areas.size() > kMostAreas)
        odd_[key] = number + " has it mapped in too many places";
      if (users.size() > kMostStaying) odd_[key] = "too many processes have it";
    });
  }

  // A descriptor would go on to lead to the old bytes.
  void look_at_descriptors(pid_t pid) {
    if (pid == ::getpid()) return;  // for copying
    std::error_code error;
    for (fs::directory_iterator it(proc(pid, "fd"), error), end; !error && it != end;
         it.increment(error)) {
      const std::string link = link_of(it->path());
      if (!link.starts_with("/memfd:") && !link.ends_with(kGone)) continue;
      struct stat info {};
      if (::stat(it->path().c_str(), &info) != 0) continue;
      const Key key(info.st_dev, info.st_ino);
      if (segments_.contains(key))
        odd_[key] = "process " + std::to_string(pid) + " has it open as descriptor " +
                    it->path().filename().string() +
                    ", too, which would show old bytes; let it close that after mapping, or move "
                    "together with the others";
    }
  }

  void measure(CommonSegment& segment) {
    const auto file = open_common(segment);
    struct stat info {};
    struct statfs of {};
    if (!file || ::fstat(file->get(), &info) != 0 || ::fstatfs(file->get(), &of) != 0) {
      common_.obstacles.push_back(segment.name + " cannot be read" +
                                  (file ? "" : ": " + file.error().message()));
      return;
    }
    segment.bytes =
        (static_cast<std::uint64_t>(info.st_size) + kPageSize - 1) / kPageSize * kPageSize;
    if (info.st_nlink != 0)
      common_.obstacles.push_back(segment.name + " has a name, too, which would show old bytes");
    if (of.f_type != TMPFS_MAGIC)
      common_.obstacles.push_back(segment.name +
                                  " has pages of another size: it cannot become a container");
    for (const auto* users : {&segment.moving, &segment.staying})
      for (const CommonSegment::User& user : *users)
        for (const SharedArea& area : user.areas)
          if (area.offset + area.bytes > segment.bytes) {
            common_.obstacles.push_back("process " + std::to_string(user.pid) +
                                        " has mapped more than there is of " + segment.name +
                                        ": it cannot become a container");
            return;
          }
  }

  const std::vector<pid_t>& moving_;
  std::map<Key, CommonSegment> segments_;
  std::map<Key, std::string> odd_;
  Common common_;
};

std::vector<NamedArea> areas_named(pid_t pid, const std::string& prefix, std::size_t cut) {
  std::vector<NamedArea> all;
  each_line(pid, [&](const Line& line) {
    if (!line.path.starts_with(prefix)) return;
    std::string name = line.path.substr(cut);
    if (name.ends_with(kGone)) name.resize(name.size() - kGone.size());
    all.emplace_back(std::move(name), line.area(pid));
  });
  return all;
}

bool is_keeper(pid_t pid) {
  std::string name;
  std::getline(std::ifstream(proc(pid, "comm")), name);
  return name == kKeeperName;
}

}  // namespace

Common common_memory(const std::vector<pid_t>& moving) { return Finder(moving).find(); }

Result<UniqueFd> open_common(const CommonSegment& segment) {
  for (const auto* users : {&segment.moving, &segment.staying})
    for (const CommonSegment::User& user : *users)
      for (const SharedArea& area : user.areas) {
        char range[64];
        std::snprintf(range, sizeof range, "map_files/%lx-%lx", area.address,
                      area.address + area.bytes);
        UniqueFd file(::open(proc(user.pid, range).c_str(), O_RDONLY | O_CLOEXEC));
        if (file) return file;
      }
  return system_error("opening " + segment.name);
}

std::vector<NamedArea> container_areas(pid_t pid) {
  const std::string before = "/memfd:gob:";
  return areas_named(pid, before + kCommonName, before.size());
}

std::vector<NamedArea> places_of(pid_t pid) {
  const std::string before = std::string("/memfd:") + kPlaceName;
  return areas_named(pid, before, before.size());
}

std::vector<pid_t> users_of(const std::set<std::uint64_t>& inodes) {
  std::vector<pid_t> users;
  each_process([&](pid_t pid) {
    if (std::ranges::any_of(container_areas(pid), [&](const NamedArea& named) {
          return inodes.contains(named.second.inode);
        }))
      users.push_back(pid);
  });
  std::erase_if(users, is_keeper);
  return users;
}

bool has_keeper(const std::string& socket) {
  using namespace std::string_literals;
  const std::string wanted = "\0--socket\0"s + socket + "\0"s;
  bool found = false;
  each_process([&](pid_t pid) {
    if (found || !is_keeper(pid)) return;
    std::ifstream file(proc(pid, "cmdline"));
    const std::string words{std::istreambuf_iterator<char>(file), {}};  // none: it has ended
    found = words.find(wanted) != std::string::npos;
  });
  return found;
}

}  // namespace gob::migration
