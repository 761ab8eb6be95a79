// CommonMapper: the children that programs with memory in common fork.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <utility>

#include "libgob/base/file_limit.h"
#include "libgob/base/ids.h"
#include "libgob/linker/uffd_calls.h"
#include "libgob/migration/common_mapper.h"
#include "libgob/migration/common_mapper_help.h"
#include "libgob/migration/inspect.h"
#include "libgob/migration/proc.h"

namespace gob::migration {
namespace {

constexpr int kLooks = 4;
// How long a child may wait for a descriptor.
constexpr std::chrono::seconds kPatience{10};

// When a process began, in the kernel's ticks; 0: it has ended.
std::uint64_t start_of(pid_t pid) {
  constexpr int kState = 3, kStart = 22;  // fields of proc(5)
  std::ifstream file(proc(pid, "stat"));
  std::string line;
  std::getline(file, line);
  // The name may hold anything.
  std::istringstream fields(line.substr(std::min(line.rfind(')'), line.size() - 1) + 1));
  std::string field;
  for (int number = kState; number <= kStart; ++number) fields >> field;
  return std::strtoull(field.c_str(), nullptr, 10);
}

}  // namespace

void CommonMapper::forked(int number, const NamedArea& area, UniqueFd uffd) {
  Child& child = children_[number];
  child.uffd = std::move(uffd);
  child.area = area;
  looks_ = kLooks;
  static_cast<void>(serve(child).ok());  // if not now, then at the next look
}

Status CommonMapper::serve(Child& child) {
  const bool again = std::exchange(child.tried, true);
  const auto answer = ask(child.area.first, child.area.second);
  if (!answer) return answer.error();
  const std::uint64_t mapping = answer->reply.map_container().mapping_id();
  areas_[mapping] = child.area;
  if (Status served = ready(mapping, child.area.second.address, child.uffd.get()); !served) {
    forget(mapping);
    return served;
  }
  child.mapping = mapping;
  if (child.former != 0) followed_by_[child.former] = mapping;
  // Faults of then were heard by a mapping that is no more.
  if (again)
    uffd_wake(child.uffd.get(), child.area.second.address,
              static_cast<unsigned>(child.area.second.bytes / kPageSize));
  return {};
}

// True: it is served there, or will be at a later look.
bool CommonMapper::move_child(const MappingNews& news, Child& child) {
  const std::uint64_t before = std::exchange(child.area.second.address, news.to);
  if (news.from != before || news.bytes < child.area.second.bytes) return false;
  if (child.mapping != 0) forget(std::exchange(child.mapping, 0));
  child.former = news.mapping;
  areas_[news.mapping] = child.area;  // until it is served it has no other number
  static_cast<void>(serve(child).ok());
  return true;
}

// gobd had too much to do, or no room.
void CommonMapper::serve_children() {
  refused_.clear();
  for (auto& [number, child] : children_) {
    if (child.mapping != 0) continue;
    const Status served = serve(child);
    if (served || (served.error().errno_value != EMFILE && served.error().errno_value != ENFILE))
      continue;
    refused_ = served.error().message();
    return;
  }
}

// A child waits for a descriptor until other processes end; if none does, the youngest is ended.
void CommonMapper::relieve() {
  if (!no_room_ && refused_.empty()) return starving_since_.reset();
  if (!starving_since_) {
    starving_since_ = Clock::now();
    if (Clock::now() < next_complaint_) return;
    next_complaint_ = Clock::now() + kPatience;
    tell("a child of a process with shared memory waits for a file descriptor" +
         (no_room_ ? " of its keeper" : ": " + refused_) +
         "; raise the limit of open files, or start fewer processes");
  } else if (Clock::now() - *starving_since_ > kPatience) {
    end_newest();
  }
}

// Which process waits nobody says. The one that began last is most likely the one, and if not, what
// is free without it is the other's. None is ended of which it is not known that it is a child of
// ours: who else has the memory may be another keeper's, or just arriving.
void CommonMapper::end_newest() {
  const auto ours = inodes();
  std::set<pid_t> candidates;
  for (const auto& [pid, held] : held_) {
    if (held.child) candidates.insert(pid);
    for (const pid_t each : tree_of(pid))
      if (!held_.contains(each)) candidates.insert(each);
  }
  std::pair<std::uint64_t, pid_t> newest{0, 0};
  for (const pid_t pid : candidates) {
    const auto areas = container_areas(pid);
    if (std::ranges::any_of(
            areas, [&](const NamedArea& each) { return ours.contains(each.second.inode); }))
      newest = std::max(newest, {start_of(pid), pid});
  }
  if (newest.second == 0 || ::kill(newest.second, SIGKILL) != 0) return;
  tell("process " + std::to_string(newest.second) +
       " is ended: there are too many with this memory for the limit of open files" +
       (no_room_ ? " of its keeper" : ": " + refused_));
}

std::set<std::uint64_t> CommonMapper::inodes() const {
  std::set<std::uint64_t> all;
  for (const auto& [pid, held] : held_)
    for (const auto& [name, area] : held.areas) all.insert(area.inode);
  for (const auto& [number, child] : children_) all.insert(child.area.second.inode);
  return all;
}

void CommonMapper::reap_children() {
  bool some = false;
  std::erase_if(strays_, [this](const auto& stray) {
    if (has_memory(stray.second.get(), kSomewhere)) return false;
    static_cast<void>(guard_.release(-stray.first).ok());
    return true;
  });
  for (auto it = children_.begin(); it != children_.end();) {
    if (has_memory(it->second.uffd.get(), it->second.area.second.address)) {
      ++it;
      continue;
    }
    some = true;
    static_cast<void>(guard_.release(-it->first).ok());
    if (it->second.mapping != 0) forget(it->second.mapping);
    it = children_.erase(it);
  }
  // Some run another program now.
  if (some)
    std::erase_if(held_, [this](const auto& entry) {
      if (!entry.second.child || !container_areas(entry.first).empty()) return false;
      static_cast<void>(guard_.release(entry.first).ok());
      return true;
    });
}

void CommonMapper::find_children() {
  --looks_;
  const std::set<std::uint64_t> ours = inodes();
  std::set<pid_t> family;
  std::size_t found = 0;
  for (const auto& [pid, held] : held_) {
    for (const pid_t each : tree_of(pid))
      if (!held_.contains(each)) family.insert(each);
    found += held.areas.size() - std::min(held.areas.size(), held.mappings.size());
  }
  for (const pid_t pid : family) found += take_in(pid, ours);
  // Their parents may have ended before they were looked for.
  if (looks_ == 0 && found < children_.size())
    for (const pid_t pid : users_of(ours))
      if (!held_.contains(pid)) take_in(pid, ours);
}

std::size_t CommonMapper::take_in(pid_t pid, const std::set<std::uint64_t>& ours) {
  auto areas = container_areas(pid);
  std::erase_if(areas, [&](const NamedArea& each) { return !ours.contains(each.second.inode); });
  UniqueFd process = open_process(pid);
  if (!areas.empty() && is_among_last(process.get(), kReserve)) process.reset();
  if (!areas.empty() && !process)
    looks_ = std::max(looks_, 1);  // it has ended, or there is no room
  if (areas.empty() || !process) return 0;
  static_cast<void>(guard_.hold(pid, -1).ok());
  Held& held = held_[pid];
  held.process = std::move(process);
  held.areas = std::move(areas);
  held.child = true;
  return held.areas.size();
}

}  // namespace gob::migration
