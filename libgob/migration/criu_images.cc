#include "libgob/migration/criu_images.h"

#include <sys/mman.h>
#include <sys/time.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>
#include <utility>

#include "libgob/base/ids.h"
#include "libgob/migration/criu_images.pb.h"

namespace gob::migration {
namespace {

constexpr std::uint32_t kImageMagic = 0x54564319;
constexpr std::uint32_t kPagemapMagic = 0x56084025;
constexpr std::uint32_t kMmMagic = 0x57492820;
constexpr std::uint32_t kPstreeMagic = 0x50273030;
constexpr std::uint32_t kCoreMagic = 0x55053847;
constexpr std::uint32_t kTtyInfoMagic = 0x59453036;
constexpr std::uint32_t kLazy = 2;  // flag of a pagemap entry
// CRIU's bits of an area's status.
constexpr std::uint32_t kRegular = 1 << 0;
constexpr std::uint32_t kOfTheKernel = 1 << 2 | 1 << 3 | 1 << 12;  // vsyscall, vdso, vvar
constexpr std::uint32_t kPrivate = 1 << 6 | 1 << 9;                // of a file, or anonymous

Result<std::string> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return system_error("reading CRIU's image " + path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

Error bad(const char* what) {
  return make_error(ErrorCode::kProtocol,
                    std::string("CRIU's images are not what this release knows: ") + what);
}

// The records of an image: magic numbers, then {u32 size, bytes} again and again.
Result<std::vector<std::string_view>> records(std::string_view image, std::uint32_t magic) {
  const auto word = [&](std::size_t at) {
    std::uint32_t value = 0;
    std::memcpy(&value, image.data() + at, sizeof value);
    return value;
  };
  if (image.size() < 8 || word(0) != kImageMagic || word(4) != magic) return bad("a magic number");
  std::vector<std::string_view> found;
  std::size_t at = 8;
  while (at < image.size()) {
    if (image.size() - at < 4 || image.size() - at - 4 < word(at)) return bad("a record is cut");
    found.push_back(image.substr(at + 4, word(at)));
    at += 4 + found.back().size();
  }
  return found;
}

template <class Message>
bool parse(std::string_view bytes, Message& message) {
  return message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

Result<criu::Mm> mm_of(const std::string& image) {
  const auto mms = records(image, kMmMagic);
  if (!mms) return mms.error();
  criu::Mm mm;
  if (mms->size() != 1 || !parse(mms->front(), mm)) return bad("memory areas");
  return mm;
}

void put_word(std::string& to, std::uint32_t word) {
  to.append(reinterpret_cast<const char*>(&word), sizeof word);
}

// With the fields that are not named here.
template <class Message>
void put_record(std::string& to, const Message& message) {
  const std::string body = message.SerializeAsString();
  put_word(to, static_cast<std::uint32_t>(body.size()));
  to += body;
}

Status write_file(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << bytes;
  file.close();
  if (!file) return system_error("writing CRIU's image " + path);
  return {};
}

}  // namespace

Status lengthen_areas(const std::string& path, const std::map<std::uint64_t, std::uint64_t>& ends,
                      std::set<std::uint64_t>& changed) {
  const auto image = read_file(path);
  if (!image) return image.error();
  auto mm = mm_of(*image);
  if (!mm) return mm.error();
  std::size_t found = 0;
  for (criu::Vma& vma : *mm->mutable_vmas()) {
    const auto end = ends.find(vma.start());
    if (end == ends.end()) continue;
    ++found;
    if (vma.end() == end->second) continue;
    if (vma.end() != vma.start() + kPageSize) return bad("the end of a memory area");
    vma.set_end(end->second);
    changed.insert(vma.start());
  }
  if (found != ends.size()) return bad("a memory area is missing");
  if (changed.empty()) return {};
  std::string bytes;
  put_word(bytes, kImageMagic);
  put_word(bytes, kMmMagic);
  put_record(bytes, *mm);
  return write_file(path, bytes);
}

Status forget_session(const std::string& folder) {
  const std::string path = folder + "/tty-info.img";
  if (!std::filesystem::exists(path)) return {};
  const auto image = read_file(path);
  if (!image) return image.error();
  const auto terminals = records(*image, kTtyInfoMagic);
  if (!terminals) return terminals.error();
  std::string bytes = image->substr(0, 8);
  for (const std::string_view each : *terminals) {
    criu::TtyInfo info;
    if (!parse(each, info)) return bad("a terminal");
    info.set_sid(0);
    info.set_pgrp(0);
    put_record(bytes, info);
  }
  return write_file(path, bytes);
}

Result<std::vector<Area>> private_areas(const std::string& mm_image) {
  const auto mm = mm_of(mm_image);
  if (!mm) return mm.error();
  std::vector<Area> areas;
  for (const criu::Vma& vma : mm->vmas()) {
    if ((vma.status() & kRegular) == 0 || (vma.status() & kPrivate) == 0 ||
        (vma.status() & kOfTheKernel) != 0)
      continue;
    const bool lazy =
        (vma.flags() & MAP_ANONYMOUS) != 0 && (vma.flags() & (MAP_LOCKED | MAP_HUGETLB)) == 0;
    areas.push_back({vma.start(), vma.end(), lazy});
  }
  return areas;
}

Result<std::vector<LazyRun>> lazy_runs(const std::string& pagemap, const std::string& mm_image) {
  const auto maps = records(pagemap, kPagemapMagic);
  if (!maps) return maps.error();
  const auto mm = mm_of(mm_image);
  if (!mm) return mm.error();
  if (maps->empty()) return bad("a page map");
  std::vector<LazyRun> runs;
  for (std::size_t i = 1; i < maps->size(); ++i) {
    criu::PagemapEntry entry;
    if (!parse((*maps)[i], entry)) return bad("a page map entry");
    if ((entry.flags() & kLazy) == 0) continue;
    const std::uint64_t pages =
        entry.has_nr_pages_wide() ? entry.nr_pages_wide() : entry.nr_pages();
    std::uint64_t at = entry.vaddr();
    const std::uint64_t end = at + pages * kPageSize;
    // One copy never crosses a border of areas: the kernel refuses that.
    auto vma = std::ranges::partition_point(
        mm->vmas(), [&](const criu::Vma& each) { return each.end() <= at; });
    for (; vma != mm->vmas().end() && at < end && at >= vma->start(); ++vma) {
      const std::uint64_t stop = std::min<std::uint64_t>(end, vma->end());
      runs.push_back({at, (stop - at) / kPageSize});
      at = stop;
    }
    if (at != end) return bad("lazy pages outside of every memory area");
  }
  if (!std::ranges::is_sorted(runs, {}, &LazyRun::start)) return bad("pages out of order");
  return runs;
}

Result<std::vector<LazyRun>> saved_runs(const std::string& pagemap) {
  const auto maps = records(pagemap, kPagemapMagic);
  if (!maps) return maps.error();
  std::vector<LazyRun> runs;
  for (std::size_t i = 1; i < maps->size(); ++i) {
    criu::PagemapEntry entry;
    if (!parse((*maps)[i], entry)) return bad("a page map entry");
    runs.push_back({entry.vaddr(),
                    entry.has_nr_pages_wide() ? entry.nr_pages_wide() : entry.nr_pages()});
  }
  return runs;
}

Result<std::vector<pid_t>> read_processes(const std::string& folder) {
  const auto image = read_file(folder + "/pstree.img");
  if (!image) return image.error();
  const auto entries = records(*image, kPstreeMagic);
  if (!entries) return entries.error();
  std::vector<pid_t> pids;
  for (const std::string_view bytes : *entries) {
    criu::PstreeEntry entry;
    if (!parse(bytes, entry)) return bad("a process");
    pids.push_back(static_cast<pid_t>(entry.pid()));
  }
  if (pids.empty()) return bad("no process");
  return pids;
}

Result<std::vector<Alarm>> read_alarms(const std::string& folder) {
  const auto pids = read_processes(folder);
  if (!pids) return pids.error();
  std::vector<Alarm> alarms;
  for (const pid_t pid : *pids) {
    const auto image = read_file(folder + "/core-" + std::to_string(pid) + ".img");
    if (!image) return image.error();
    const auto cores = records(*image, kCoreMagic);
    if (!cores) return cores.error();
    criu::Core core;
    if (cores->empty() || !parse(cores->front(), core)) return bad("what a process is");
    if (!core.tc().has_timers()) continue;  // a zombie
    const criu::TaskTimers& timers = core.tc().timers();
    for (const auto& [which, timer] :
         {std::pair(ITIMER_REAL, &timers.real()), std::pair(ITIMER_VIRTUAL, &timers.virt()),
          std::pair(ITIMER_PROF, &timers.prof())})
      if (timer->isec() == 0 && timer->iusec() == 0 && (timer->vsec() != 0 || timer->vusec() != 0))
        alarms.push_back(
            {pid,
             which,
             {static_cast<time_t>(timer->vsec()), static_cast<suseconds_t>(timer->vusec())}});
  }
  return alarms;
}

Result<std::vector<LazyTask>> read_lazy_tasks(const std::string& folder) {
  const auto pids = read_processes(folder);
  if (!pids) return pids.error();
  std::vector<LazyTask> tasks;
  for (const pid_t pid : *pids) {
    const std::string number = std::to_string(pid);
    if (!std::filesystem::exists(folder + "/mm-" + number + ".img")) continue;  // a zombie
    const auto pagemap = read_file(folder + "/pagemap-" + number + ".img");
    if (!pagemap) return pagemap.error();
    const auto mm = read_file(folder + "/mm-" + number + ".img");
    if (!mm) return mm.error();
    auto runs = lazy_runs(*pagemap, *mm);
    if (!runs) return runs.error();
    auto saved = saved_runs(*pagemap);
    if (!saved) return saved.error();
    auto areas = private_areas(*mm);
    if (!areas) return areas.error();
    tasks.push_back({pid, std::move(*areas), std::move(*runs), std::move(*saved)});
  }
  return tasks;
}

}  // namespace gob::migration
