#include "libgob/migration/file_facts.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string_view>

#include "libgob/base/unique_fd.h"

namespace gob::migration {
namespace {

// Where the same inode number of the same source is the same file, whoever looks.
constexpr std::array<std::string_view, 13> kNetworkTypes = {
    "nfs",      "nfs4",   "cifs", "smb3",     "ceph", "lustre",        "gpfs",
    "fuse.gob", "beegfs", "afs",  "orangefs", "gfs2", "fuse.glusterfs"};

constexpr std::uint64_t kMaxNotes = 4096;

bool read_at(const UniqueFd& file, std::uint64_t offset, void* to, std::size_t bytes) {
  return ::pread(file.get(), to, bytes, static_cast<off_t>(offset)) == static_cast<ssize_t>(bytes);
}

// elf(5): a header, the owner's name, the description, both padded to four bytes.
std::string build_id_in(std::string_view notes) {
  const auto padded = [](std::uint64_t bytes) { return (bytes + 3) & ~std::uint64_t{3}; };
  Elf64_Nhdr note{};
  while (notes.size() >= sizeof note) {
    std::memcpy(&note, notes.data(), sizeof note);
    const std::uint64_t text = sizeof note + padded(note.n_namesz);
    const std::uint64_t end = text + padded(note.n_descsz);
    if (end > notes.size()) return {};
    if (note.n_type == NT_GNU_BUILD_ID &&
        notes.substr(sizeof note, note.n_namesz) == std::string_view(ELF_NOTE_GNU "\0", 4))
      return std::string(notes.substr(text, note.n_descsz));
    notes.remove_prefix(end);
  }
  return {};
}

}  // namespace

NetworkMounts::NetworkMounts(const std::string& mountinfo) {
  std::ifstream table(mountinfo);
  for (std::string line; std::getline(table, line);) {
    std::istringstream words(line);
    std::uint64_t id = 0;
    std::string word, type, source;
    words >> id;
    while (words >> word && word != "-") continue;
    words >> type >> source;
    for (const std::string_view known : kNetworkTypes)
      if (type == known) servers_[id] = type + " " + source;
  }
}

std::string NetworkMounts::server(std::uint64_t mount) const {
  const auto found = servers_.find(mount);
  return found == servers_.end() ? std::string() : found->second;
}

std::string boot_id() {
  std::string id;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), id);
  return id;
}

Result<File> facts_of(const std::string& at, const NetworkMounts& mounts) {
  struct statx info {};
  if (::statx(AT_FDCWD, at.c_str(), 0, STATX_BASIC_STATS | STATX_MNT_ID, &info) != 0)
    return system_error("looking at " + at);
  File file;
  file.set_path(at);
  file.set_size_bytes(info.stx_size);
  file.set_device(makedev(info.stx_dev_major, info.stx_dev_minor));
  file.set_inode(info.stx_ino);
  file.set_folder(S_ISDIR(info.stx_mode));
  if ((info.stx_mask & STATX_MNT_ID) != 0) file.set_server(mounts.server(info.stx_mnt_id));
  return file;
}

std::string build_id_of(const std::string& at) {
  const UniqueFd file(::open(at.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  Elf64_Ehdr header{};
  if (!file || !read_at(file, 0, &header, sizeof header) ||
      std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
      header.e_phentsize != sizeof(Elf64_Phdr))
    return {};
  for (std::uint64_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr part{};
    if (!read_at(file, header.e_phoff + i * sizeof part, &part, sizeof part)) return {};
    if (part.p_type != PT_NOTE) continue;
    std::string notes(std::min<std::uint64_t>(part.p_filesz, kMaxNotes), '\0');
    if (!read_at(file, part.p_offset, notes.data(), notes.size())) return {};
    if (std::string id = build_id_in(notes); !id.empty()) return id;
  }
  return {};
}

bool is_same_file(const File& theirs, const File& ours, bool one_machine) {
  if (theirs.inode() != ours.inode() || theirs.folder() != ours.folder()) return false;
  if (one_machine && theirs.device() == ours.device()) return true;
  return !theirs.server().empty() && theirs.server() == ours.server();
}

bool is_below(const std::string& path, const std::string& folder) {
  return !folder.empty() && path.starts_with(folder) &&
         (path.size() == folder.size() || folder == "/" || path[folder.size()] == '/');
}

}  // namespace gob::migration
