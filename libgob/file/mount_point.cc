#include "libgob/file/mount_point.h"

#include <fcntl.h>
#include <spawn.h>
#include <spdlog/spdlog.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <optional>
#include <sstream>
#include <vector>

#include "libgob/base/unique_fd.h"

namespace gob::file {

namespace {

constexpr const char* kMountType = "fuse.gob";  // the subtype that Mount gives
constexpr decltype(statfs::f_type) kFuseControlMagic = 0x65735543;

struct Mounted {
  unsigned major = 0;
  unsigned minor = 0;  // of its device, by which the kernel names the FUSE connection
  std::string type;
  std::string path;
};

// mountinfo writes blanks and backslashes of paths in octal.
std::string unescaped(const std::string& text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      plain += static_cast<char>(std::stoi(text.substr(i + 1, 3), nullptr, 8));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

// In the order in which they were made. Does not touch the file systems, which may be dead.
std::vector<Mounted> all_mounts() {
  std::ifstream table("/proc/self/mountinfo");
  std::vector<Mounted> mounts;
  for (std::string line; std::getline(table, line);) {
    std::istringstream words(line);
    std::string id, parent, device, root, target, word, type;
    if (!(words >> id >> parent >> device >> root >> target)) continue;
    while (words >> word && word != "-") {
    }
    words >> type;
    const std::size_t colon = device.find(':');
    mounts.push_back({static_cast<unsigned>(std::stoul(device.substr(0, colon))),
                      static_cast<unsigned>(std::stoul(device.substr(colon + 1))), type,
                      unescaped(target)});
  }
  return mounts;
}

// The topmost mount at `path`.
std::optional<Mounted> mounted_at(const std::string& path) {
  std::optional<Mounted> found;
  for (Mounted& mount : all_mounts())
    if (mount.path == path) found = std::move(mount);
  return found;
}

// The kernel's folder of FUSE connections. Where nobody has mounted it, root has it for himself.
UniqueFd open_connections() {
  UniqueFd usual(::open("/sys/fs/fuse/connections", O_DIRECTORY | O_RDONLY | O_CLOEXEC));
  struct statfs system {};
  if (usual && ::fstatfs(usual.get(), &system) == 0 && system.f_type == kFuseControlMagic)
    return usual;
  const UniqueFd context(::fsopen("fusectl", FSOPEN_CLOEXEC));
  if (!context || ::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
    return {};
  return UniqueFd(::fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
}

Status unmount_lazily(const std::string& path) {
  if (::umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) return {};
  const int error = errno;
  if (error == EPERM) {
    // Mounted by an ordinary user: fusermount3 has the right to undo it.
    const char* const words[] = {"fusermount3", "-u", "-z", "-q", "--", path.c_str(), nullptr};
    pid_t pid = 0;
    int status = 0;
    if (::posix_spawnp(&pid, "fusermount3", nullptr, nullptr, const_cast<char* const*>(words),
                       environ) == 0 &&
        ::waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0)
      return {};
  }
  return make_error(ErrorCode::kSystem, "cannot unmount " + path, error);
}

}  // namespace

bool is_mount_of_gob(dev_t device) {
  return std::ranges::any_of(all_mounts(), [&](const Mounted& mount) {
    return mount.type == kMountType && mount.major == major(device) && mount.minor == minor(device);
  });
}

Status prepare_mount_point(const std::string& path) {
  const auto bad = [&](const std::string& why, int error) {
    return make_error(ErrorCode::kInvalidArgument, "cannot mount at '" + path + "': " + why, error);
  };
  if (path.empty() || path.front() != '/') return bad("give a full path", EINVAL);
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno != ENOTCONN)
      return bad(errno == ENOENT ? "the folder does not exist; make it with mkdir"
                                 : "it cannot be looked at",
                 errno);
    spdlog::warn("{}: a mount whose daemon is dead is taken away", path);
    if (Status gone = unmount_lazily(path); !gone) return gone;
    if (::stat(path.c_str(), &status) != 0) return bad("it cannot be looked at", errno);
  }
  if (!S_ISDIR(status.st_mode)) return bad("it is not a folder", ENOTDIR);
  const auto there = mounted_at(path);
  if (there && there->type.starts_with("fuse"))
    return bad("a living " + there->type + " file system is mounted there", EBUSY);
  return {};
}

bool set_read_ahead(const std::string& path, std::size_t bytes) {
  const auto there = mounted_at(path);
  if (!there) return false;
  const std::string file = "/sys/class/bdi/0:" + std::to_string(there->minor) + "/read_ahead_kb";
  const UniqueFd fd(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
  const std::string text = std::to_string(bytes / 1024);
  return fd && ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

UniqueFd open_abort(const std::string& path) {
  const auto there = mounted_at(path);
  if (!there || !there->type.starts_with("fuse")) {
    errno = ENOENT;
    return {};
  }
  const UniqueFd folder = open_connections();
  if (!folder) return {};
  const std::string name = std::to_string(there->minor) + "/abort";
  return UniqueFd(::openat(folder.get(), name.c_str(), O_WRONLY | O_CLOEXEC));
}

void abort_mount(const std::string& path) {
  const auto there = mounted_at(path);
  if (!there || !there->type.starts_with("fuse")) return;  // somebody unmounted it already
  if (const UniqueFd fd = open_abort(path)) static_cast<void>(!::write(fd.get(), "1", 1));
  if (::umount2(path.c_str(), MNT_FORCE | UMOUNT_NOFOLLOW) == 0) return;
  if (Status gone = unmount_lazily(path); !gone) spdlog::error("{}", gone.error().message());
}

}  // namespace gob::file
