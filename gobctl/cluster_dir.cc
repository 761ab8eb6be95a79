#include "gobctl/cluster_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string_view>

namespace gob::ctl {
namespace fs = std::filesystem;
namespace {

std::string default_dir() {
  if (const char* dir = std::getenv("GOB_DIR"); dir != nullptr && *dir != '\0') return dir;
  if (const char* dir = std::getenv("XDG_RUNTIME_DIR"); dir != nullptr && *dir != '\0')
    return std::string(dir) + "/gob";
  return "/tmp/gob-" + std::to_string(::geteuid());
}

bool natural_less(const std::string& a, const std::string& b) {
  return a.size() != b.size() ? a.size() < b.size() : a < b;
}

}  // namespace

ClusterDir::ClusterDir(const std::string& path) : path_(path.empty() ? default_dir() : path) {
  std::error_code ignored;
  if (fs::path absolute = fs::absolute(path_, ignored); !ignored)
    path_ = absolute.lexically_normal().string();
  while (path_.size() > 1 && path_.back() == '/') path_.pop_back();
}

std::vector<std::string> ClusterDir::nodes() const {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(path_, error), end; !error && it != end; it.increment(error)) {
    std::string name = it->path().filename().string();
    if (has_node(name)) names.push_back(std::move(name));
  }
  std::sort(names.begin(), names.end(), natural_less);
  return names;
}

bool ClusterDir::has_node(const std::string& name) const {
  std::error_code ignored;
  return !name.empty() && name.find('/') == std::string::npos && name != "." && name != ".." &&
         fs::is_regular_file(node(name).config(), ignored);
}

std::string ClusterDir::tag() const {
  // FNV-1a: the same in every build, as the namespaces of a cluster outlive the gobctl that made
  // them.
  std::uint32_t hash = 2166136261u;
  for (const char c : path_) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "%05x", (hash ^ (hash >> 20)) & 0xfffffu);
  return text.data();
}

Status ClusterDir::check() const {
  struct stat found {};
  if (::lstat(path_.c_str(), &found) != 0) {
    if (errno == ENOENT)
      return make_error(ErrorCode::kNotFound, "no development cluster in " + path_ +
                                                  "; start one with \"gobctl cluster up\", or say "
                                                  "where it is (--dir, $GOB_DIR)");
    return system_error("looking at " + path_);
  }
  if (!S_ISDIR(found.st_mode))
    return make_error(ErrorCode::kInvalidArgument,
                      path_ + " is no directory; choose another one (--dir)");
  if (found.st_uid != ::geteuid())
    return make_error(ErrorCode::kPermissionDenied,
                      path_ + " belongs to another user (" + std::to_string(found.st_uid) +
                          "); run gobctl as that user, or choose another directory (--dir)");
  if ((found.st_mode & 022) != 0)
    return make_error(ErrorCode::kPermissionDenied,
                      "others may write to " + path_ +
                          ", so what it holds cannot be trusted; take that right away (chmod go-w) "
                          "or choose another directory (--dir)");
  return {};
}

Status ClusterDir::make() const {
  std::error_code error;
  const fs::path parent = fs::path(path_).parent_path();
  fs::create_directories(parent, error);
  if (error) return make_error(ErrorCode::kSystem, "creating " + parent.string(), error.value());
  // Others may enter: programs of any user reach the sockets, which have permissions of their own.
  if (::mkdir(path_.c_str(), 0755) == 0) {
    if (::chmod(path_.c_str(), 0755) != 0) return system_error("setting the mode of " + path_);
  } else if (errno != EEXIST) {
    return system_error("creating the directory " + path_ + " for the cluster's files");
  }
  return check();
}

Result<UniqueFd> ClusterDir::lock() const {
  const std::string path = path_ + "/lock";
  while (true) {
    UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file) return system_error("opening " + path);
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EWOULDBLOCK)
        return make_error(
            ErrorCode::kUnavailable,
            "another gobctl is at work on the cluster in " + path_ + "; wait until it is done",
            EBUSY);
      return system_error("locking " + path);
    }
    // Whoever held it may have removed the file in the meantime: then it guards nothing.
    struct stat held {};
    struct stat named {};
    if (::fstat(file.get(), &held) == 0 && ::stat(path.c_str(), &named) == 0 &&
        held.st_ino == named.st_ino && held.st_dev == named.st_dev)
      return file;
  }
}

Status ClusterDir::remove_mount(const std::string& name) const {
  const std::string folder = mount(name);
  // Never recursively: whatever may still be mounted there are somebody's files.
  if (::rmdir(folder.c_str()) == 0 || errno == ENOENT) return {};
  if (::umount2(folder.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0 && ::rmdir(folder.c_str()) == 0)
    return {};
  return system_error("removing " + folder +
                      ", where files were attached; unmount it with \"fusermount3 -u\"");
}

Status ClusterDir::remove() const {
  std::error_code error;
  for (const std::string& name : nodes()) {
    if (Status gone = remove_mount(name); !gone) return gone;
    fs::remove_all(node(name).path(), error);
    if (error)
      return make_error(ErrorCode::kSystem, "removing " + node(name).path(), error.value());
  }
  for (const std::string& file : {namespaces(), notify_socket(), path_ + "/lock"})
    fs::remove(file, error);
  ::rmdir(path_.c_str());  // stays if something that is not ours is in it
  return {};
}

Status write_file(const std::string& path, const std::string& text) {
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!file) return system_error("creating " + path);
  for (std::string_view rest = text; !rest.empty();) {
    const ssize_t written = ::write(file.get(), rest.data(), rest.size());
    if (written < 0) return system_error("writing " + path);
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

Result<std::string> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return make_error(ErrorCode::kNotFound, "cannot read " + path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string last_lines(const std::string& path, std::size_t lines) {
  constexpr std::streamoff kTailBytes = 16 << 10;
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return "";
  file.seekg(std::max<std::streamoff>(0, static_cast<std::streamoff>(file.tellg()) - kTailBytes));
  std::ostringstream buffer;
  buffer << file.rdbuf();
  const std::string text = buffer.str();
  std::size_t begin = text.size();
  if (begin != 0 && text.back() == '\n') --begin;
  for (; begin != 0 && lines != 0; --lines) {
    const std::size_t newline = text.rfind('\n', begin - 1);
    begin = newline == std::string::npos ? 0 : newline;
  }
  return text.substr(begin != 0 ? begin + 1 : 0);
}

}  // namespace gob::ctl
