#include "libgob/migration/common_mapper.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "libgob/base/file_limit.h"
#include "libgob/base/ids.h"
#include "libgob/linker/uffd_calls.h"
#include "libgob/linker/uffd_client.h"
#include "libgob/migration/common_loss.h"
#include "libgob/migration/common_mapper_help.h"
#include "libgob/migration/hear_word.h"
#include "libgob/migration/proc.h"

namespace gob::migration {
namespace {

constexpr std::chrono::seconds kGobd{10};
constexpr int kNewsBuffer = 4 << 20;  // bytes; some thousand children at once
// A child is there a moment after the news of it; no event says when.
constexpr std::chrono::milliseconds kLook{40};
// News may be on its way from a process that has ended.
constexpr std::chrono::seconds kMemory{30};

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
    if (is_among_last(plan.uffd.get(), kReserve))
      return make_error(ErrorCode::kNoSpace,
                        "the keeper of shared memory has no file descriptor left", EMFILE);
    return {};
  }();
  if (made) return plan;
  forget(plan.mapping);
  return made.error();
}

Status CommonMapper::map(Visit& visit, Plan plan) {
  const pid_t pid = visit.pid();
  const auto mapped = [&]() -> Status {
    // Before it is there: nobody would ever protect it if this keeper died between the two.
    if (Status guarded = guard_.hold(pid, plan.uffd.get(), plan.area.inode); !guarded)
      return guarded;
    if (Status there = visit.map(plan.area, plan.memory); !there) return there;
    if (Status linked = register_mapping(
            plan.uffd.get(), reinterpret_cast<void*>(plan.area.address), plan.area.bytes);
        !linked)
      return linked;
    return ready(plan.mapping, plan.area.address, plan.uffd.get());
  }();
  if (!mapped) {
    forget(plan.mapping);
    if (!held_.contains(pid)) static_cast<void>(guard_.release(pid).ok());
    return mapped;
  }
  Held& held = held_[pid];
  if (!held.process) held.process = open_process(pid);
  held.areas.emplace_back(std::move(plan.container), plan.area);
  areas_[plan.mapping] = held.areas.back();
  held.mappings.push_back(plan.mapping);
  held.uffds.push_back(std::move(plan.uffd));
  return {};
}

void CommonMapper::forget(std::uint64_t mapping) {
  control::Request request;
  request.mutable_unmap_container()->set_mapping_id(mapping);
  // If gobd is gone, so is the mapping.
  const auto answer = gobd_->call(request, {}, kGobd);
  // What is in the socket by now is read in time; else it is remembered for good.
  if (!answer || !answer->reply.unmap().news_follow())
    forgotten_.emplace_back(Clock::now(), mapping);
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
  const Heard heard = hear_word(news_.heard.get(), news, uffd, MSG_DONTWAIT | MSG_PEEK);
  no_room_ = heard == Heard::kNoRoom || (uffd && is_among_last(uffd.get(), kReserve));
  if (heard == Heard::kNothing) return false;
  if (no_room_) {
    // It is heard again when others have ended. If it has itself, nobody needs it.
    if (!uffd || has_memory(uffd.get(), kSomewhere)) return false;
    drop_word(news_.heard.get());
    return true;
  }
  const bool is_fork = news.kind == MappingNews::kForked && uffd;
  const int number = is_fork ? ++last_child_ : 0;
  if (is_fork) {
    if (Status held = guard_.hold(-number, uffd.get()); !held)
      tell("the guard of shared memory does not know of a child: " + held.error().message());
  }
  drop_word(news_.heard.get());
  news.mapping = latest(news.mapping);
  const auto found = areas_.find(news.mapping);
  if (found == areas_.end()) {
    if (!is_fork) return true;
    tell("a child of an unknown process has shared memory: it will wait for that");
    strays_[number] = std::move(uffd);
  } else if (is_fork) {
    forked(number, NamedArea(found->second), std::move(uffd));
  } else if (news.kind == MappingNews::kMoved) {
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

// One that moves is like a child's from then on: whose it is does not matter for serving it, which
// may have to wait until gobd has room.
void CommonMapper::adopt(Held& held, std::uint64_t mapping) {
  const auto found = std::ranges::find(held.mappings, mapping);
  if (found == held.mappings.end()) return;
  const auto uffd = held.uffds.begin() + (found - held.mappings.begin());
  static_cast<void>(guard_.hold(-++last_child_, uffd->get()).ok());
  Child& child = children_[last_child_];
  child.mapping = mapping;
  child.area = areas_[mapping];
  child.uffd = std::move(*uffd);
  child.tried = true;
  held.mappings.erase(found);
  held.uffds.erase(uffd);
}

void CommonMapper::moved(const MappingNews& news) {
  bool served = false;
  int last = 0;  // number of the child it is, or 0
  std::uint64_t from = news.from;
  for (auto& [pid, held] : held_) adopt(held, news.mapping);
  for (auto& [number, child] : children_)
    if (child.mapping == news.mapping || (child.mapping == 0 && child.former == news.mapping)) {
      last = number;
      from = child.area.second.address;
      served = move_child(news, child);
    }
  if (last == 0) return;
  if (!served) {
    looks_ = 1;
    find_children();
  }
  std::vector<pid_t> losers;
  for (auto& [pid, held] : held_) {
    const auto now = container_areas(pid);
    const bool there = std::ranges::any_of(
        now, [&](const NamedArea& each) { return each.second.address == news.to; });
    if (!there) continue;
    if (served)
      held.areas = now;
    else
      losers.push_back(pid);
  }
  // What faulted meanwhile was nobody's, and will be so again until it is lost.
  const auto wake = [this, last, to = news.to, from, bytes = news.bytes] {
    wake_child(last, to, bytes);
    wake_child(last, from, bytes);
  };
  // Else who waits for it in the kernel would not stop.
  if (!losers.empty()) refuse_missing(children_.at(last).uffd.get(), news.to, news.bytes);
  wake();
  for (const pid_t pid : losers) lose({pid}, wake);
}

void CommonMapper::wake_child(int number, std::uint64_t address, std::uint64_t bytes) {
  const auto child = children_.find(number);
  if (child != children_.end())
    uffd_wake(child->second.uffd.get(), address, static_cast<unsigned>(bytes / kPageSize));
}

void CommonMapper::look() {
  losses_.reap();
  reap_processes();
  hear();  // of children of those that have ended: gobd has told all by now
  if (Clock::now() < next_look_) return;
  next_look_ = Clock::now() + kLook;
  while (!no_room_ && !forgotten_.empty() && forgotten_.front().first + kMemory < Clock::now()) {
    areas_.erase(forgotten_.front().second);
    followed_by_.erase(forgotten_.front().second);
    forgotten_.pop_front();
  }
  reap_children();
  hear();
  if (looks_ > 0) find_children();
  serve_children();
  relieve();
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

}  // namespace gob::migration
