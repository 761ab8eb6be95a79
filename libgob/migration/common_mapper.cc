#include "libgob/migration/common_mapper.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "libgob/base/ids.h"
#include "libgob/linker/uffd_abi.h"
#include "libgob/linker/uffd_client.h"
#include "libgob/migration/hear_word.h"
#include "libgob/migration/inspect.h"

namespace gob::migration {
namespace {

constexpr std::chrono::seconds kGobd{10};
constexpr int kNewsBuffer = 4 << 20;  // bytes; some thousand children at once
// A child is there a moment after the news of it; no event says when.
constexpr std::chrono::milliseconds kLook{40};
constexpr int kLooks = 4;
// News may be on its way from a process that has ended.
constexpr std::chrono::seconds kMemory{30};

// The process of a userfaultfd still has the memory that it was made for. The kernel says so of a
// call that fails in any case, since its bytes cannot be read.
bool has_memory(int uffd, std::uint64_t address) {
  static void* const nothing =
      ::mmap(nullptr, kPageSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uffdio_copy call{};
  call.dst = address;
  call.src = reinterpret_cast<std::uintptr_t>(nothing);
  call.len = kPageSize;
  return ::ioctl(uffd, UFFDIO_COPY, &call) == 0 || errno != ESRCH;
}

// Who waits there tries again.
void wake(int uffd, std::uint64_t address, std::uint64_t bytes) {
  uffdio_range range{address, bytes};
  ::ioctl(uffd, UFFDIO_WAKE, &range);
}

}  // namespace

Result<NewsSocket> NewsSocket::create() {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
    return system_error("making a socket pair");
  NewsSocket made{UniqueFd(pair[0]), UniqueFd(pair[1])};
  if (::setsockopt(pair[0], SOL_SOCKET, SO_SNDBUFFORCE, &kNewsBuffer, sizeof kNewsBuffer) != 0)
    ::setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &kNewsBuffer, sizeof kNewsBuffer);
  return made;
}

Result<std::uint32_t> CommonMapper::open(const std::string& container) {
  if (const auto known = opened_.find(container); known != opened_.end()) return known->second;
  control::Request request;
  request.mutable_open_container()->set_name(container);
  request.mutable_open_container()->set_read(true);
  request.mutable_open_container()->set_write(true);
  const auto answer = gobd_->call(request, {}, kGobd);
  if (!answer) return answer.error();
  return opened_[container] = answer->reply.container().container().id();
}

Result<ControlClient::Answer> CommonMapper::ask(const std::string& container,
                                                const SharedArea& area) {
  const auto id = open(container);
  if (!id) return id.error();
  control::Request request;
  control::MapContainer& wanted = *request.mutable_map_container();
  wanted.set_container_id(*id);
  wanted.set_first_page(area.offset / kPageSize);
  wanted.set_pages(area.bytes / kPageSize);
  wanted.set_writable(area.may_write);
  return gobd_->call(request, {}, kGobd);
}

Status CommonMapper::ready(std::uint64_t mapping, std::uint64_t address, int uffd) {
  control::Request request;
  request.mutable_mapping_ready()->set_mapping_id(mapping);
  request.mutable_mapping_ready()->set_address(address);
  const int fds[] = {uffd, news_.told.get()};
  const auto accepted = gobd_->call(request, fds, kGobd);
  return accepted ? Status() : Status(accepted.error());
}

Result<CommonMapper::Plan> CommonMapper::plan(Visit& visit, const std::string& container,
                                              const SharedArea& area) {
  auto answer = ask(container, area);
  if (!answer) return answer.error();
  const auto& reply = answer->reply.map_container();
  Plan plan{container, area, reply.mapping_id(), -1, UniqueFd()};
  const auto made = [&]() -> Status {
    struct stat memory {};
    if (!answer->fds.empty() && ::fstat(answer->fds[0].get(), &memory) == 0)
      plan.area.inode = memory.st_ino;
    const bool device = reply.has_uffd_device();
    if (answer->fds.size() != (device ? 2U : 1U))
      return make_error(ErrorCode::kProtocol, "gobd sent a mapping without its memory", EPROTO);
    const auto there = device ? visit.give({answer->fds[0].get(), answer->fds[1].get()})
                              : visit.give({answer->fds[0].get()});
    if (!there) return there.error();
    plan.memory = there->front();
    auto uffd = visit.make_uffd(device ? there->back() : -1);
    if (!uffd) return uffd.error();
    plan.uffd = std::move(*uffd);
    return {};
  }();
  if (made) return plan;
  forget(plan.mapping);
  return made.error();
}

Status CommonMapper::map(Visit& visit, Plan plan) {
  const pid_t pid = visit.pid();
  const auto mapped = [&]() -> Status {
    if (Status there = visit.map(plan.area, plan.memory); !there) return there;
    if (Status linked = register_mapping(
            plan.uffd.get(), reinterpret_cast<void*>(plan.area.address), plan.area.bytes);
        !linked)
      return linked;
    if (Status guarded = guard_.hold(pid, plan.uffd.get()); !guarded) return guarded;
    return ready(plan.mapping, plan.area.address, plan.uffd.get());
  }();
  if (!mapped) {
    forget(plan.mapping);
    return mapped;
  }
  Held& held = held_[pid];
  if (!held.process) held.process.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  held.areas.emplace_back(std::move(plan.container), plan.area);
  areas_[plan.mapping] = held.areas.back();
  held.mappings.push_back(plan.mapping);
  held.uffds.push_back(std::move(plan.uffd));
  return {};
}

void CommonMapper::forget(std::uint64_t mapping) {
  control::Request request;
  request.mutable_unmap_container()->set_mapping_id(mapping);
  forgotten_.emplace_back(Clock::now(), mapping);
  // If gobd is gone, so is the mapping.
  static_cast<void>(gobd_->call(request, {}, kGobd).ok());
}

std::vector<int> CommonMapper::ends() const {
  std::vector<int> all;
  for (const auto& [pid, held] : held_) all.push_back(held.process.get());
  return all;
}

void CommonMapper::hear() {
  while (hear_one()) continue;
}

// The guard has a child before the socket has not: whenever this process dies, one of them does.
bool CommonMapper::hear_one() {
  MappingNews news;
  UniqueFd uffd;
  if (!hear_word(news_.heard.get(), news, uffd, MSG_DONTWAIT | MSG_PEEK)) return false;
  const bool is_fork = news.kind == MappingNews::kForked && uffd;
  const int number = is_fork ? ++last_child_ : 0;
  if (is_fork) static_cast<void>(guard_.hold(-number, uffd.get()).ok());
  MappingNews again;
  UniqueFd same;
  if (!hear_word(news_.heard.get(), again, same, MSG_DONTWAIT)) return false;
  news.mapping = latest(news.mapping);
  if (is_fork) {
    // One that nobody knows stays with the guard, and waits for ever rather than go on with zeros.
    const auto found = areas_.find(news.mapping);
    if (found != areas_.end()) forked(number, NamedArea(found->second), std::move(uffd));
  } else if (news.kind == MappingNews::kMoved && areas_.contains(news.mapping)) {
    moved(news);
  }
  return true;
}

// News of a mapping that moved may be on their way when another one is in its place.
std::uint64_t CommonMapper::latest(std::uint64_t mapping) const {
  for (auto next = followed_by_.find(mapping); next != followed_by_.end();
       next = followed_by_.find(mapping))
    mapping = next->second;
  return mapping;
}

void CommonMapper::forked(int number, const NamedArea& area, UniqueFd uffd) {
  Child& child = children_[number];
  child.uffd = std::move(uffd);
  child.area = area;
  looks_ = kLooks;
  serve(child);
}

void CommonMapper::serve(Child& child) {
  const auto answer = ask(child.area.first, child.area.second);
  if (!answer) return;
  const std::uint64_t mapping = answer->reply.map_container().mapping_id();
  areas_[mapping] = child.area;
  const bool again = std::exchange(child.tried, true);
  if (!ready(mapping, child.area.second.address, child.uffd.get())) return forget(mapping);
  child.mapping = mapping;
  // Faults of then were heard by a mapping that is no more.
  if (again) wake(child.uffd.get(), child.area.second.address, child.area.second.bytes);
}

void CommonMapper::moved(const MappingNews& news) {
  const NamedArea before = areas_[news.mapping];
  int uffd = -1;
  std::uint64_t* mapping = nullptr;
  for (auto& [pid, held] : held_)
    for (std::size_t i = 0; i < held.mappings.size(); ++i)
      if (held.mappings[i] == news.mapping) {
        mapping = &held.mappings[i];
        uffd = held.uffds[i].get();
      }
  for (auto& [number, child] : children_)
    if (child.mapping == news.mapping) {
      child.area.second.address = news.to;
      mapping = &child.mapping;
      uffd = child.uffd.get();
    }
  if (mapping == nullptr) return;
  NamedArea after = before;
  after.second.address = news.to;
  // A part of it would need a userfaultfd of its own.
  bool served = false;
  if (news.from == before.second.address && news.bytes >= before.second.bytes) {
    forget(news.mapping);
    if (const auto answer = ask(after.first, after.second)) {
      *mapping = answer->reply.map_container().mapping_id();
      areas_[*mapping] = after;
      followed_by_[news.mapping] = *mapping;
      served = ready(*mapping, news.to, uffd).ok();
    }
  }
  for (auto& [pid, held] : held_) {
    const auto now = container_areas(pid);
    const bool there = std::ranges::any_of(
        now, [&](const NamedArea& each) { return each.second.address == news.to; });
    if (!there) continue;
    if (served)
      held.areas = now;
    else
      lose_common(pid);
  }
  // What faulted meanwhile was nobody's.
  wake(uffd, news.to, news.bytes);
  wake(uffd, before.second.address, before.second.bytes);
}

void CommonMapper::look() {
  reap_processes();
  hear();  // of children of those that have ended: gobd has told all by now
  if (Clock::now() < next_look_) return;
  next_look_ = Clock::now() + kLook;
  while (!forgotten_.empty() && forgotten_.front().first + kMemory < Clock::now()) {
    areas_.erase(forgotten_.front().second);
    followed_by_.erase(forgotten_.front().second);
    forgotten_.pop_front();
  }
  reap_children();
  hear();
  if (looks_ > 0) find_children();
  // gobd had too much to do.
  for (auto& [number, child] : children_)
    if (child.mapping == 0) serve(child);
}

void CommonMapper::reap_processes() {
  for (auto it = held_.begin(); it != held_.end();) {
    pollfd ended{it->second.process.get(), POLLIN, 0};
    if (::poll(&ended, 1, 0) != 1) {
      ++it;
      continue;
    }
    static_cast<void>(guard_.release(it->first).ok());
    next_look_ = {};
    for (const std::uint64_t mapping : it->second.mappings) forget(mapping);
    it = held_.erase(it);
  }
}

void CommonMapper::reap_children() {
  bool some = false;
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
  std::set<std::uint64_t> inodes;
  std::set<pid_t> family;
  std::size_t found = 0;
  for (const auto& [pid, held] : held_) {
    for (const auto& [name, area] : held.areas) inodes.insert(area.inode);
    for (const pid_t each : tree_of(pid))
      if (!held_.contains(each)) family.insert(each);
    if (held.child) found += held.areas.size();
  }
  for (const auto& [number, child] : children_) inodes.insert(child.area.second.inode);
  for (const pid_t pid : family) found += take_in(pid, inodes);
  // Their parents may have ended before they were looked for.
  if (looks_ == 0 && found < children_.size())
    for (const pid_t pid : users_of(inodes))
      if (!held_.contains(pid)) take_in(pid, inodes);
}

std::size_t CommonMapper::take_in(pid_t pid, const std::set<std::uint64_t>& inodes) {
  auto areas = container_areas(pid);
  std::erase_if(areas, [&](const NamedArea& each) { return !inodes.contains(each.second.inode); });
  UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (areas.empty() || !process) return 0;
  static_cast<void>(guard_.hold(pid, -1).ok());
  Held& held = held_[pid];
  held.process = std::move(process);
  held.areas = std::move(areas);
  held.child = true;
  return held.areas.size();
}

}  // namespace gob::migration
