#include "libgob/migration/view.h"

#include <algorithm>
#include <filesystem>

#include "libgob/migration/file_facts.h"

namespace gob::migration {
namespace {

namespace fs = std::filesystem;

// Each node has its own, whatever a process came from.
constexpr const char* kOwnFolders[] = {"/dev", "/proc", "/sys"};

// The nearest folder to `file` that this node has, too; the file's own if it is one.
std::string nearest_folder(const File& file) {
  fs::path folder = file.path();
  if (!file.folder()) folder = folder.parent_path();
  std::error_code error;
  while (folder != "/" && !fs::is_directory(folder, error)) folder = folder.parent_path();
  return folder;
}

bool is_below_any(const std::string& path, const std::vector<std::string>& folders) {
  return std::ranges::any_of(folders, [&](const auto& each) { return is_below(path, each); });
}

// What programs do by themselves, their users hardly know.
std::string hint_for(const std::string& path) {
  return path.find("/hsperfdata_") == std::string::npos
             ? ""
             : "; that is Java's: start it with -XX:-UsePerfData";
}

class Planner {
 public:
  Planner(const Begin& begin, const Place& here)
      : begin_(begin),
        here_(here),
        mounts_("/proc/self/mountinfo"),
        one_machine_(!begin.boot().empty() && begin.boot() == boot_id()) {
    for (const Cover& cover : begin.covers())
      (cover.home() == here.node ? returned_ : kept_).push_back(cover.path());
  }

  Result<Ready> plan() {
    for (const File& file : begin_.files()) {
      const auto way = way_of(file);
      if (!way) return way.error();
      ready_.add_ways(*way);
      if (*way == FROM_SOURCE)
        if (Status covered = cover(file); !covered) return covered.error();
    }
    std::ranges::sort(folders_);
    for (const std::string& folder : folders_)
      if (ready_.folders().empty() || !is_below(folder, *ready_.folders().rbegin()))
        ready_.add_folders(folder);
    // What lies in such a folder comes from the source with it.
    for (int i = 0; i < begin_.files_size(); ++i)
      if ((ready_.ways(i) == SAME_FILE || ready_.ways(i) == EQUAL_FILE) &&
          !is_below_any(begin_.files(i).path(), returned_) &&
          !is_below(begin_.files(i).path(), begin_.mount()) &&
          is_below_any(begin_.files(i).path(), folders_))
        ready_.set_ways(i, FROM_SOURCE);
    if (here_.mount.empty() && (!ready_.folders().empty() || !kept_.empty()))
      return make_error(ErrorCode::kUnsupported,
                        "files of other nodes are needed, as " +
                            (folders_.empty() ? kept_ : folders_).front() +
                            ", and the gobd here does not show any: start it with --mount");
    for (int i = 0; i < begin_.files_size(); ++i)
      if (begin_.files(i).stored_into() && ready_.ways(i) != SAME_FILE)
        return make_error(ErrorCode::kUnsupported,
                          begin_.files(i).path() +
                              " is mapped shared, for writing, and only a file that both nodes "
                              "have by a shared file system can stay so" +
                              hint_for(begin_.files(i).path()));
    return std::move(ready_);
  }

 private:
  [[nodiscard]] Result<Way> way_of(const File& file) const {
    if (is_below_any(file.path(), kept_)) return FROM_HOME;
    if (is_below(file.path(), begin_.mount())) {
      if (here_.mount.empty())
        return make_error(ErrorCode::kUnsupported, file.path() +
                                                       " is in gob's mount, and the gobd here has "
                                                       "none: start it with --mount");
      if (here_.mount == begin_.mount()) return SAME_FILE;
      std::error_code error;
      if (!fs::is_directory(begin_.mount(), error))
        return make_error(ErrorCode::kNotFound,
                          "make a folder " + begin_.mount() + " here, where " + file.path() +
                              " can appear; best mount attached files at one path on all nodes");
      return OWN_MOUNT;
    }
    if (file.copied()) {
      std::error_code error;
      const bool has_folder = fs::is_directory(fs::path(file.path()).parent_path(), error);
      return has_folder ? COPIED : FROM_SOURCE;
    }
    // Whether it is there this very moment or not: programs make and remove files all the time.
    if (is_below_any(file.path(), returned_)) return SAME_FILE;
    const auto ours = facts_of(file.path(), mounts_);
    if (ours && is_same_file(file, *ours, one_machine_)) return SAME_FILE;
    if (ours && file.installed() && ours->size_bytes() == file.size_bytes() &&
        !file.build_id().empty() && file.build_id() == build_id_of(file.path()))
      return EQUAL_FILE;
    return FROM_SOURCE;
  }

  Status cover(const File& file) {
    const std::string folder = nearest_folder(file);
    if (folder == "/") {
      const auto top = *std::next(fs::path(file.path()).begin());
      return make_error(ErrorCode::kNotFound, "make an empty folder /" + top.string() +
                                                  " here, where " + file.path() + " can appear");
    }
    for (const char* own : kOwnFolders)
      if (is_below(file.path(), own))
        return make_error(ErrorCode::kUnsupported,
                          file.path() + " cannot go along: each node has its own " + own);
    folders_.push_back(folder);
    return {};
  }

  const Begin& begin_;
  const Place& here_;
  const NetworkMounts mounts_;
  const bool one_machine_;
  std::vector<std::string> kept_, returned_;  // covers of other nodes, and of this one
  std::vector<std::string> folders_;
  Ready ready_;
};

}  // namespace

Result<Ready> plan_view(const Begin& begin, const Place& here) {
  return Planner(begin, here).plan();
}

std::vector<Bind> binds_of(const View& view, const Place& here) {
  std::vector<Bind> binds;
  for (const Cover& cover : view.covers()) {
    const bool own = cover.home() == here.node;
    std::string from = cover.path();
    if (!own) from = cover.name().empty() ? here.mount : here.mount + "/" + cover.name();
    // What is at its own place is there without a mount, unless another cover hides it.
    const bool hidden = std::ranges::any_of(view.covers(), [&](const Cover& other) {
      return !other.name().empty() && other.home() != here.node &&
             is_below(cover.path(), other.path());
    });
    if (hidden || from != cover.path()) binds.push_back({from, cover.path()});
  }
  std::ranges::sort(binds, {}, &Bind::to);  // what holds others comes first
  return binds;
}

std::string describe(Way way) {
  if (way == SAME_FILE) return "is there";
  if (way == EQUAL_FILE) return "the same build is there";
  if (way == FROM_SOURCE) return "from this node";
  if (way == COPIED) return "goes along, as a copy";
  if (way == FROM_HOME) return "from where it has been so far";
  return "by gob's mount there";
}

}  // namespace gob::migration
