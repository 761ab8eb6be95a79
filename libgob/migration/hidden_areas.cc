#include "libgob/migration/hidden_areas.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <sstream>

#include "libgob/base/ids.h"
#include "libgob/migration/page_map.h"
#include "libgob/migration/proc.h"
#include "libgob/migration/smaps.h"

namespace gob::migration {
namespace {

namespace fs = std::filesystem;

// Smaller ones are looked at by CRIU faster than it is told of them.
constexpr std::uint64_t kSmallest = std::uint64_t{1} << 20;

std::string library_in(const std::string& folder) { return folder + "/blinkers.so"; }

// Where the threads' stacks are in use: CRIU wants those pages in its images. Nothing: it cannot be
// told.
std::optional<std::vector<std::uint64_t>> stack_pointers(pid_t pid) {
  std::vector<std::uint64_t> pointers;
  std::error_code error;
  for (fs::directory_iterator it(proc(pid, "task"), error), end; !error && it != end;
       it.increment(error)) {
    std::ifstream file(it->path() / "syscall");
    std::vector<std::string> words;
    for (std::string word; file >> word;) words.push_back(word);
    // "NUMBER [ARGUMENTS] STACK PROGRAM"; "running", if it does not stand still.
    if (words.size() < 3) return std::nullopt;
    pointers.push_back(std::strtoull(words[words.size() - 2].c_str(), nullptr, 16));
  }
  if (error || pointers.empty()) return std::nullopt;
  return pointers;
}

// Private and anonymous, by its line in maps(5).
std::optional<Area> area_of(const std::string& line) {
  std::istringstream words(line);
  std::string range, rights, offset, device, name;
  std::uint64_t inode = 0;
  words >> range >> rights >> offset >> device >> inode;
  std::getline(words >> std::ws, name);
  const std::size_t dash = range.find('-');
  if (!words.eof() || dash == std::string::npos || rights.size() != 4 || rights[3] != 'p' ||
      inode != 0 || !(name.empty() || name == "[heap]" || name.starts_with("[anon:")))
    return std::nullopt;
  return Area{std::strtoull(range.c_str(), nullptr, 16),
              std::strtoull(range.c_str() + dash + 1, nullptr, 16), true};
}

std::vector<Area> large_areas(pid_t pid) {
  std::vector<Area> areas;
  std::ifstream maps(proc(pid, "maps"));
  for (std::string line; std::getline(maps, line);)
    if (const auto area = area_of(line); area && area->end - area->start >= kSmallest)
      areas.push_back(*area);
  return areas;
}

// Without those that hold a stack in use; of a process that stands still.
std::vector<Area> areas_of(pid_t pid) {
  const auto pointers = stack_pointers(pid);
  if (!pointers) return {};
  std::vector<Area> areas = large_areas(pid);
  std::erase_if(areas, [&](const Area& area) {
    return std::ranges::any_of(*pointers,
                               [&](std::uint64_t at) { return at >= area.start && at < area.end; });
  });
  return areas;
}

// The last line of an area in smaps(5) says what the kernel knows of it: is it locked, of huge
// pages, a stack that grows, or of a device? CRIU would not leave its pages out.
bool may_be_left_out(std::string_view flags) {
  if (flags.empty()) return false;
  std::istringstream words{std::string(flags)};
  for (std::string word; words >> word;)
    for (const char* const no : {"lo", "ht", "gd", "io", "pf", "sh"})
      if (word == no) return false;
  return true;
}

}  // namespace

Result<std::vector<std::string>> prepare_blinkers(const std::string& folder) {
  const std::string path = library_in(folder);
  std::ofstream file(path, std::ios::binary);
  file << blinkers_library();
  file.close();
  if (!file) return system_error("writing " + path);
  // What is preloaded into gobmigrate itself is preloaded into its children, too.
  const char* others = std::getenv("LD_PRELOAD");
  return std::vector<std::string>{
      "LD_PRELOAD=" + path +
          (others != nullptr && *others != '\0' ? ":" + std::string(others) : ""),
      "GOB_CRIU_BLINKERS=" + folder};
}

void HiddenAreas::foresee(const Processes& processes) {
  for (const ResidentRequest::Process& process : processes.processes())
    if (!large_areas(process.pid()).empty())
      foreseen_[process.pid()] = read_process_file(process.pid(), "smaps");
}

void HiddenAreas::find(const Processes& processes) {
  for (const ResidentRequest::Process& process : processes.processes()) {
    const std::vector<Area> areas = areas_of(process.pid());
    if (!areas.empty()) views_.push_back({process.pid(), process.inside(), {}, {}, false});
    for (const Area& area : areas) areas_.push_back({process.pid(), process.inside(), area, {}});
  }
}

Status HiddenAreas::hide(const std::string& folder) {
  for (View& view : views_) {
    const std::string place = folder + "/" + std::to_string(view.inside);
    const std::string path = place + "/smaps";
    if (::mkdir(place.c_str(), 0700) == 0)
      view.file.reset(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0200));
    if (!view.file || ::flock(view.file.get(), LOCK_EX) != 0)
      return system_error("writing " + path);
  }
  return {};
}

void HiddenAreas::look() {
  for (View& view : views_) {
    view.shown = foreseen_[view.pid];
    view.sure = view.shown.empty() ||
                !is_of_maps(areas_of_smaps(view.shown), read_process_file(view.pid, "maps"));
    if (view.sure) view.shown = read_process_file(view.pid, "smaps");
    const std::string seen = cut(view.shown, view.pid);
    if (!seen.empty() &&
        ::write(view.file.get(), seen.data(), seen.size()) == static_cast<ssize_t>(seen.size()))
      ::fchmod(view.file.get(), 0600);
    view.file.reset();
  }
  for (Hidden& each : areas_) {
    const std::uint64_t second = each.area.start + kPageSize;
    add_written(each.runs, each.pid, second, (each.area.end - second) / kPageSize);
  }
}

// smaps(5) with one page of each area that can be hidden.
std::string HiddenAreas::cut(const std::string& smaps, pid_t pid) const {
  std::string seen;
  seen.reserve(smaps.size());
  for (const SmapsArea& area : areas_of_smaps(smaps)) {
    const bool hidden =
        may_be_left_out(area.flags) && std::ranges::any_of(areas_, [&](const Hidden& each) {
          return each.pid == pid && each.area.start == area.start && each.area.end == area.end;
        });
    if (!hidden) {
      seen += area.text;
      continue;
    }
    std::ostringstream page;
    page << std::hex << area.start << '-' << area.start + kPageSize;
    (seen += page.str()) += area.text.substr(area.text.find(' '));
  }
  return seen;
}

Status HiddenAreas::make_sure() const {
  for (const View& view : views_) {
    if (view.sure) continue;
    const std::string smaps = read_process_file(view.pid, "smaps");
    if (!has_same_flags(areas_of_smaps(smaps), areas_of_smaps(view.shown)))
      return make_error(
          ErrorCode::kUnavailable,
          "process " + std::to_string(view.pid) +
              " changed how its memory may be used (madvise, mlock) in the moment before "
              "it was stopped, which was seen too late; move it once more");
  }
  return {};
}

Status HiddenAreas::show(const std::string& folder) {
  std::map<pid_t, std::map<std::uint64_t, std::uint64_t>> ends;  // by process, by start
  for (const Hidden& each : areas_) ends[each.inside][each.area.start] = each.area.end;
  for (const auto& [inside, of_process] : ends) {
    const std::string path = folder + "/mm-" + std::to_string(inside) + ".img";
    std::set<std::uint64_t> cut;
    if (Status lengthened = lengthen_areas(path, of_process, cut); !lengthened) return lengthened;
    std::erase_if(areas_, [&, pid = inside](const Hidden& each) {
      return each.inside == pid && !cut.contains(each.area.start);
    });
  }
  return {};
}

void HiddenAreas::add_to(std::vector<LazyTask>& tasks) const {
  for (const Hidden& each : areas_) {
    const auto task = std::ranges::find(tasks, each.inside, &LazyTask::pid);
    if (task == tasks.end()) continue;  // show() would have failed
    task->runs.insert(task->runs.end(), each.runs.begin(), each.runs.end());
    task->saved.insert(task->saved.end(), each.runs.begin(), each.runs.end());
    for (Area& area : task->areas) area.looked_at = area.looked_at || area.start == each.area.start;
  }
}

std::uint64_t HiddenAreas::pages() const {
  std::uint64_t sum = 0;
  for (const Hidden& each : areas_)
    for (const LazyRun& run : each.runs) sum += run.pages;
  return sum;
}

}  // namespace gob::migration
