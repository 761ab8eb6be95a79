// The mounts by which a migrant sees folders of other nodes.
#include <fcntl.h>
#include <sys/mount.h>

#include <filesystem>

#include "libgob/migration/criu.h"
#include "libgob/migration/warden_process.h"

namespace gob::migration {
namespace {

std::string path_of(const UniqueFd& fd) { return "/proc/self/fd/" + std::to_string(fd.get()); }

}  // namespace

// `words`: CRIU, then pairs of folders.
Status WardenProcess::view(const std::vector<std::string>& words) {
  const std::filesystem::path socket = gobd_;
  gobd_folder_.reset(::open(socket.parent_path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!gobd_folder_) return system_error("opening the folder of " + gobd_);
  gobd_ = path_of(gobd_folder_) + "/" + socket.filename().string();
  if (Status mounted = mount_folders(words); !mounted) return mounted;
  // It may be, or need, files that are covered now.
  if (const auto version = probe_criu(words[0]); !version)
    return make_error(version.error().code,
                      "with the source's folders over this node's, CRIU does not start: " +
                          version.error().message());
  return {};
}

Status WardenProcess::mount_folders(const std::vector<std::string>& words) {
  // All are opened before any is hidden.
  std::vector<UniqueFd> folders;
  for (std::size_t i = 1; i + 1 < words.size(); i += 2) {
    folders.emplace_back(::open(words[i].c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!folders.back()) return system_error("opening " + words[i]);
  }
  for (std::size_t i = 0; i < folders.size(); ++i) {
    const std::string& place = words[2 * i + 2];
    if (::mount(path_of(folders[i]).c_str(), place.c_str(), nullptr, MS_BIND | MS_REC, nullptr) !=
        0)
      return system_error("showing " + words[2 * i + 1] + " at " + place);
  }
  return {};
}

}  // namespace gob::migration
