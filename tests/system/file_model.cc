#include "tests/system/file_model.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

namespace gob {

namespace {

constexpr std::size_t kSlots = 6;
constexpr std::size_t kHistory = 60;
constexpr std::uint64_t kFileBytes = 20000;  // offsets of operations lie below this

std::string hash_of(const std::string& bytes) {
  std::uint64_t hash = 1469598103934665603u;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return std::to_string(bytes.size()) + " bytes " + std::to_string(hash);
}

// A call's result as a program sees it.
std::string result(long value) {
  return value < 0 ? std::string("error ") + std::strerror(errno) : std::to_string(value);
}

std::string describe(const struct stat& status) {
  std::string text = "mode " + std::to_string(status.st_mode) + " links " +
                     std::to_string(status.st_nlink) + " owner " + std::to_string(status.st_uid) +
                     " group " + std::to_string(status.st_gid);
  if (!S_ISDIR(status.st_mode)) text += " size " + std::to_string(status.st_size);
  return text;
}

std::string stat_of(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return result(-1);
  return describe(status);
}

std::string read_all(int fd) {
  std::string all;
  std::string piece(8192, '\0');
  for (;;) {
    const ssize_t got = ::pread(fd, piece.data(), piece.size(), static_cast<off_t>(all.size()));
    if (got < 0) return result(-1);
    if (got == 0) return hash_of(all);
    all.append(piece, 0, static_cast<std::size_t>(got));
  }
}

std::string content_of(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) return result(-1);
  const std::string text = read_all(fd);
  ::close(fd);
  return text;
}

// Through a private mapping, as programs and libraries are loaded.
std::string mapped_content_of(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) return result(-1);
  struct stat status {};
  std::string text;
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size == 0) {
    text = "nothing to map";
  } else {
    const auto size = static_cast<std::size_t>(status.st_size);
    void* at = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    text = at == MAP_FAILED ? result(-1) : hash_of(std::string(static_cast<const char*>(at), size));
    if (at != MAP_FAILED) ::munmap(at, size);
  }
  ::close(fd);
  return text;
}

std::string entries_of(const std::string& path) {
  DIR* folder = ::opendir(path.c_str());
  if (folder == nullptr) return result(-1);
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(folder))
    names.push_back(std::string(entry->d_name) + ":" + std::to_string(entry->d_type));
  ::closedir(folder);
  std::ranges::sort(names);
  std::string text;
  for (const std::string& each : names) text += each + " ";
  return text;
}

std::string attributes_of(const std::string& path) {
  char list[4096];
  const ssize_t size = ::listxattr(path.c_str(), list, sizeof list);
  if (size < 0) return result(-1);
  std::vector<std::string> all;
  for (ssize_t at = 0; at < size; at += static_cast<ssize_t>(std::strlen(list + at)) + 1) {
    char value[512];
    const ssize_t length = ::getxattr(path.c_str(), list + at, value, sizeof value);
    if (std::strncmp(list + at, "user.", 5) == 0)
      all.push_back(std::string(list + at) + "=" +
                    std::string(value, static_cast<std::size_t>(std::max<ssize_t>(length, 0))));
  }
  std::ranges::sort(all);
  std::string text;
  for (const std::string& each : all) text += each + " ";
  return text;
}

}  // namespace

FileModel::FileModel(std::uint64_t seed, std::vector<std::string> roots, std::string reference)
    : random_(seed), roots_(std::move(roots)), reference_(std::move(reference)), slots_(kSlots) {}

FileModel::~FileModel() {
  for (const Slot& slot : slots_) {
    if (slot.fd >= 0) ::close(slot.fd);
    if (slot.reference_fd >= 0) ::close(slot.reference_fd);
  }
}

std::string FileModel::name() {
  static const char* const kNames[] = {"a", "b", "c", "d", "d/a", "d/b", "e", "e/a", "e/d"};
  return kNames[below(std::size(kNames))];
}

std::string FileModel::bytes() {
  std::string made(1 + below(below(3) == 0 ? 9000 : 300), '\0');
  for (char& c : made) c = static_cast<char>(random_());
  return made;
}

std::string FileModel::compare(const std::string& what, const Act& act, Slot* slot, Slot* to) {
  const std::size_t root = slot != nullptr ? slot->root : below(roots_.size());
  const std::string seen =
      act(roots_[root] + "/", slot != nullptr ? slot->fd : -1, to != nullptr ? to->fd : -1);
  const std::string expected = act(reference_ + "/", slot != nullptr ? slot->reference_fd : -1,
                                   to != nullptr ? to->reference_fd : -1);
  history_.push_back("mount " + std::to_string(root) + ": " + what + " -> " + expected);
  if (history_.size() > kHistory) history_.pop_front();
  if (seen == expected) return "";
  std::string report;
  for (const std::string& line : history_) report += "  " + line + "\n";
  return report + "but the mount said: " + seen;
}

std::string FileModel::step() {
  Slot& slot = slots_[below(kSlots)];
  switch (below(10)) {
    case 0:
    case 1:
    case 2:
      return on_names();
    case 3:
    case 4:
      return on_attributes();
    default:
      return slot.fd < 0 ? open_file(slot) : on_slot(slot);
  }
}

std::string FileModel::open_file(Slot& slot) {
  static constexpr int kAccess[] = {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR};
  int flags = kAccess[below(4)] | O_NOFOLLOW | O_CLOEXEC;
  if (below(2) == 0) flags |= O_CREAT;
  if (below(8) == 0) flags |= O_EXCL;
  if (below(6) == 0) flags |= O_TRUNC;
  if (below(4) == 0) flags |= O_APPEND;
  if (below(8) == 0) flags |= below(2) == 0 ? O_SYNC : O_DSYNC;
  const std::string file = name();
  slot.root = below(roots_.size());
  return compare(
      "open " + file + " flags " + std::to_string(flags),
      [&](const std::string& root, int, int) {
        const int fd = ::open((root + file).c_str(), flags, 0640);
        if (fd < 0) return result(-1);
        struct stat status {};
        if (::fstat(fd, &status) == 0 && S_ISDIR(status.st_mode)) {
          ::close(fd);
          return std::string("a folder");
        }
        (root == reference_ + "/" ? slot.reference_fd : slot.fd) = fd;
        return std::string("open");
      },
      &slot);
}

std::string FileModel::on_slot(Slot& slot) {
  const auto offset = static_cast<off_t>(below(kFileBytes));
  const std::size_t length = 1 + below(6000);
  const std::string data = bytes();
  Slot& other = slots_[below(kSlots)];
  switch (below(13)) {
    case 0:
    case 1: {
      const std::string report = compare(
          "close", [&](const std::string&, int fd, int) { return result(::close(fd)); }, &slot);
      slot.fd = slot.reference_fd = -1;
      return report;
    }
    case 2:
    case 3:
    case 4:
      return compare(
          "pwrite " + std::to_string(data.size()) + " at " + std::to_string(offset),
          [&](const std::string&, int fd, int) {
            // With O_APPEND the offset is ignored, here as there.
            return result(::pwrite(fd, data.data(), data.size(), offset));
          },
          &slot);
    case 5:
    case 6:
      return compare(
          "pread " + std::to_string(length) + " at " + std::to_string(offset),
          [&](const std::string&, int fd, int) {
            std::string got(length, '\0');
            const ssize_t size = ::pread(fd, got.data(), got.size(), offset);
            if (size < 0) return result(-1);
            got.resize(static_cast<std::size_t>(size));
            return hash_of(got);
          },
          &slot);
    case 7:
      return compare(
          "ftruncate to " + std::to_string(offset),
          [&](const std::string&, int fd, int) { return result(::ftruncate(fd, offset)); }, &slot);
    case 8:
      return compare(
          "fstat",
          [&](const std::string&, int fd, int) {
            struct stat status {};
            return ::fstat(fd, &status) != 0 ? result(-1) : describe(status);
          },
          &slot);
    case 9: {
      static constexpr int kModes[] = {
          0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE};
      const int mode = kModes[below(4)];
      return compare(
          "fallocate mode " + std::to_string(mode) + " at " + std::to_string(offset) + " length " +
              std::to_string(length),
          [&](const std::string&, int fd, int) {
            return result(::fallocate(fd, mode, offset, static_cast<off_t>(length)));
          },
          &slot);
    }
    case 10: {
      if (other.fd < 0 || other.root != slot.root || &other == &slot) {
        const bool data_only = offset % 2 == 0;
        return compare(
            data_only ? "fdatasync" : "fsync",
            [&](const std::string&, int fd, int) {
              return result(data_only ? ::fdatasync(fd) : ::fsync(fd));
            },
            &slot);
      }
      const auto to_offset = static_cast<off_t>(below(kFileBytes));
      return compare(
          "copy_file_range " + std::to_string(length) + " from " + std::to_string(offset) + " to " +
              std::to_string(to_offset),
          [&](const std::string&, int fd, int to_fd) {
            off_t in = offset;
            off_t out = to_offset;
            // The kernel compares the offset with the size it last heard of, and does not ask.
            struct stat looked {};
            if (::fstat(fd, &looked) != 0) return result(-1);
            return result(::copy_file_range(fd, &in, to_fd, &out, length, 0));
          },
          &slot, &other);
    }
    case 11:
      return compare(
          "shared mapping",
          [&](const std::string&, int fd, int) {
            // By a descriptor that only reads: on a mount the others have none.
            const int reads =
                ::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDONLY | O_CLOEXEC);
            struct stat status {};
            if (reads < 0 || ::fstat(reads, &status) != 0) return result(-1);
            const auto size = static_cast<std::size_t>(status.st_size);
            void* const at =
                size == 0 ? nullptr : ::mmap(nullptr, size, PROT_READ, MAP_SHARED, reads, 0);
            ::close(reads);
            if (at == MAP_FAILED) return result(-1);
            const std::string seen(static_cast<const char*>(at), size);
            if (at != nullptr) ::munmap(at, size);
            return hash_of(seen);
          },
          &slot);
    default:
      return compare(
          "lseek to the end",
          [&](const std::string&, int fd, int) { return result(::lseek(fd, 0, SEEK_END)); }, &slot);
  }
}

std::string FileModel::on_names() {
  const std::string from = name();
  const std::string to = name();
  const auto mode = static_cast<mode_t>(0700 + below(64));
  switch (below(9)) {
    case 0:
    case 1:
      return compare("mkdir " + from, [&](const std::string& root, int, int) {
        return result(::mkdir((root + from).c_str(), mode));
      });
    case 2:
      return compare("rmdir " + from, [&](const std::string& root, int, int) {
        return result(::rmdir((root + from).c_str()));
      });
    case 3:
      return compare("unlink " + from, [&](const std::string& root, int, int) {
        return result(::unlink((root + from).c_str()));
      });
    case 4: {
      static constexpr unsigned kFlags[] = {0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
      const unsigned flags = kFlags[below(4)];
      return compare("rename " + from + " to " + to + " flags " + std::to_string(flags),
                     [&](const std::string& root, int, int) {
                       return result(::renameat2(AT_FDCWD, (root + from).c_str(), AT_FDCWD,
                                                 (root + to).c_str(), flags));
                     });
    }
    case 5:
      return compare("link " + from + " to " + to, [&](const std::string& root, int, int) {
        return result(::link((root + from).c_str(), (root + to).c_str()));
      });
    case 6:
      return compare("symlink to " + to + " at " + from, [&](const std::string& root, int, int) {
        return result(::symlink(to.c_str(), (root + from).c_str()));
      });
    case 7:
      return compare("readlink " + from, [&](const std::string& root, int, int) {
        char target[256];
        const ssize_t size = ::readlink((root + from).c_str(), target, sizeof target);
        return size < 0 ? result(-1) : std::string(target, static_cast<std::size_t>(size));
      });
    default: {
      const std::string folder = below(2) == 0 ? "" : from;
      return compare("entries of '" + folder + "'",
                     [&](const std::string& root, int, int) { return entries_of(root + folder); });
    }
  }
}

std::string FileModel::on_attributes() {
  const std::string file = name();
  const auto number = static_cast<long>(below(1'000'000'000));
  const std::string value = std::to_string(number);
  const std::string attribute = std::string("user.") + (below(2) == 0 ? "one" : "two");
  switch (below(9)) {
    case 0:
    case 1:
      return compare("stat " + file,
                     [&](const std::string& root, int, int) { return stat_of(root + file); });
    case 2:
      return compare("chmod " + file, [&](const std::string& root, int, int) {
        const int done = ::chmod((root + file).c_str(), static_cast<mode_t>(0600 + number % 512));
        return result(done) + stat_of(root + file);
      });
    case 3:
      return compare("truncate " + file, [&](const std::string& root, int, int) {
        return result(::truncate((root + file).c_str(), number % static_cast<long>(kFileBytes)));
      });
    case 4:
      return compare("utimens " + file, [&](const std::string& root, int, int) {
        const timespec times[2] = {{number, number}, {number / 2, number / 3}};
        struct stat status {};
        if (::utimensat(AT_FDCWD, (root + file).c_str(), times, AT_SYMLINK_NOFOLLOW) != 0 ||
            ::lstat((root + file).c_str(), &status) != 0)
          return result(-1);
        return std::to_string(status.st_mtim.tv_sec) + "." +
               std::to_string(status.st_mtim.tv_nsec) + " accessed " +
               std::to_string(status.st_atim.tv_sec) + "." + std::to_string(status.st_atim.tv_nsec);
      });
    case 7: {
      // Whoever the test runs as: to another user, to another group, to both.
      const auto user = static_cast<uid_t>(number % 3 == 0 ? -1 : 1000 + number % 7);
      const auto group = static_cast<gid_t>(number % 5 == 0 ? -1 : 2000 + number % 11);
      return compare("chown " + file + " to " + std::to_string(user) + ":" + std::to_string(group),
                     [&](const std::string& root, int, int) {
                       const int done = ::lchown((root + file).c_str(), user, group);
                       return result(done) + stat_of(root + file);
                     });
    }
    case 5:
      return compare("setxattr " + file, [&](const std::string& root, int, int) {
        const int done =
            ::setxattr((root + file).c_str(), attribute.c_str(), value.data(), value.size(), 0);
        return result(done) + attributes_of(root + file);
      });
    case 6:
      return compare("removexattr " + file, [&](const std::string& root, int, int) {
        return result(::removexattr((root + file).c_str(), attribute.c_str()));
      });
    default:
      return compare("read and map " + file, [&](const std::string& root, int, int) {
        return content_of(root + file) + " mapped " + mapped_content_of(root + file);
      });
  }
}

std::string FileModel::compare_all() {
  namespace fs = std::filesystem;
  for (const std::string& root : roots_)
    for (const auto& [from, to] : {std::pair{reference_, root}, std::pair{root, reference_}})
      for (const auto& entry : fs::recursive_directory_iterator(from)) {
        const fs::path inside = entry.path().lexically_relative(from);
        const std::string here = entry.path().string();
        const std::string there = (fs::path(to) / inside).string();
        const std::string mine = stat_of(here) + " " + content_of(here) + attributes_of(here);
        const std::string other = stat_of(there) + " " + content_of(there) + attributes_of(there);
        if (mine != other)
          return inside.string() + " is " + mine + " at " + from + " and " + other + " at " + to;
      }
  return "";
}

}  // namespace gob
