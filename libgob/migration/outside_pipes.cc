#include "libgob/migration/outside_pipes.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "libgob/migration/proc.h"

namespace gob::migration {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostStreams = 8;

// Flags of open(2); -1: it is closed.
int flags_of(const std::string& pid, const std::string& fd) {
  std::ifstream info("/proc/" + pid + "/fdinfo/" + fd);
  for (std::string word; info >> word;)
    if (word == "flags:" && info >> word) return static_cast<int>(std::strtol(word.c_str(), nullptr, 8));
  return -1;
}

}  // namespace

void OutsidePipes::add(pid_t pid, const std::string& fd, const std::string& link) {
  const int flags = flags_of(std::to_string(pid), fd);
  if (flags < 0) return;
  End& end = ends_[link];
  end.pid = pid;
  end.fd = static_cast<int>(std::strtol(fd.c_str(), nullptr, 10));
  end.flags = flags;
  end.packets = end.packets || (flags & O_DIRECT) != 0;
  end.read = end.read || (flags & O_ACCMODE) != O_WRONLY;
  end.written = end.written || (flags & O_ACCMODE) != O_RDONLY;
}

std::vector<Stream> OutsidePipes::streams(const std::function<bool(pid_t)>& stays,
                                          const std::vector<Stream>* known,
                                          std::vector<std::string>& obstacles) const {
  std::map<std::string, std::string> outside;  // link, and who has it
  std::map<std::string, std::string> readers;
  std::error_code error;
  for (fs::directory_iterator it("/proc", error), end;
       !ends_.empty() && !error && it != end; it.increment(error)) {
    const std::string pid = it->path().filename();
    const auto number = static_cast<pid_t>(std::strtol(pid.c_str(), nullptr, 10));
    if (number <= 0) continue;
    std::error_code closed;
    for (fs::directory_iterator fd(it->path() / "fd", closed), last; !closed && fd != last;
         fd.increment(closed)) {
      std::error_code ignored;
      const std::string link = fs::read_symlink(fd->path(), ignored).string();
      if (!ends_.contains(link) || !stays(number)) continue;
      outside.emplace(link, pid);
      if ((flags_of(pid, fd->path().filename()) & O_ACCMODE) == O_RDONLY) readers.emplace(link, pid);
    }
  }
  for (const auto& [link, end] : ends_)
    if (end.packets && !outside.contains(link))
      obstacles.push_back("descriptor " + std::to_string(end.fd) + " of process " +
                          std::to_string(end.pid) + " is " + link +
                          ", in packets (O_DIRECT), which CRIU cannot move");
  std::vector<Stream> streams;
  for (const auto& [link, pid] : outside) {
    const End& end = ends_.at(link);
    const std::string who = "descriptor " + std::to_string(end.fd) + " of process " +
                            std::to_string(end.pid) + " is " + link + ", ";
    Stream stream;
    stream.set_pipe(std::strtoull(link.c_str() + link.find('[') + 1, nullptr, 10));
    stream.set_input(end.read);
    stream.set_flags(static_cast<std::uint32_t>(end.flags));
    stream.set_pid(end.pid);
    stream.set_fd(end.fd);
    stream.set_index(static_cast<std::uint32_t>(streams.size()));
    struct stat info {};
    if (::stat(proc(end.pid, "fd/" + std::to_string(end.fd)).c_str(), &info) != 0)
      continue;  // closed meanwhile
    stream.set_uid(info.st_uid);
    stream.set_gid(info.st_gid);
    bool relayed = false;
    for (int i = 0; known != nullptr && i < static_cast<int>(known->size()); ++i)
      if (const Stream& before = (*known)[static_cast<std::size_t>(i)]; before.pipe() == stream.pipe()) {
        relayed = true;
        stream.set_index(before.index());
      }
    if (known != nullptr && !relayed)
      obstacles.push_back(who + "which process " + pid + " of this node has, too, and that stays");
    else if (end.read && end.written)
      obstacles.push_back(who + "of which the processes that move have both ends, and process " +
                          pid + ", which stays, has one, too");
    else if (end.read && readers.contains(link) && known == nullptr)
      obstacles.push_back(who + "from which process " + readers.at(link) +
                          " reads, too, and that stays: end it, or start the program without");
    else if (end.packets)
      obstacles.push_back(who + "in packets, which cannot be relayed");
    else if (streams.size() == kMostStreams)
      obstacles.push_back(who + "and more than " + std::to_string(kMostStreams) +
                          " pipes to processes that stay are not relayed");
    else
      streams.push_back(stream);
  }
  return streams;
}

Result<UniqueFd> take_stream(const Stream& stream) {
  UniqueFd fd = copy_descriptor(stream.pid(), stream.fd());
  struct stat info {};
  if (!fd || ::fstat(fd.get(), &info) != 0)
    return system_error("taking descriptor " + std::to_string(stream.fd()) + " of process " +
                        std::to_string(stream.pid()));
  if (info.st_ino != stream.pipe())
    return make_error(ErrorCode::kUnavailable,
                      "the process has changed its standard streams just now; try again");
  return fd;
}

}  // namespace gob::migration
