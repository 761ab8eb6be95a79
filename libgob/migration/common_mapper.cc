#include "libgob/migration/common_mapper.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "libgob/base/ids.h"
#include "libgob/linker/uffd_client.h"

namespace gob::migration {
namespace {

constexpr std::chrono::seconds kGobd{10};

}  // namespace

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

Result<CommonMapper::Plan> CommonMapper::plan(Visit& visit, const std::string& container,
                                              const SharedArea& area) {
  const auto id = open(container);
  if (!id) return id.error();
  control::Request request;
  control::MapContainer& wanted = *request.mutable_map_container();
  wanted.set_container_id(*id);
  wanted.set_first_page(area.offset / kPageSize);
  wanted.set_pages(area.bytes / kPageSize);
  wanted.set_writable(area.may_write);
  auto answer = gobd_->call(request, {}, kGobd);
  if (!answer) return answer.error();
  const auto& reply = answer->reply.map_container();
  Plan plan{container, area, reply.mapping_id(), -1, UniqueFd()};
  const auto made = [&]() -> Status {
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
    if (Status kept = visit.keep_from_children(plan.area); !kept) return kept;
    if (Status linked = register_mapping(
            plan.uffd.get(), reinterpret_cast<void*>(plan.area.address), plan.area.bytes);
        !linked)
      return linked;
    if (Status guarded = guard_.hold(pid, plan.uffd.get()); !guarded) return guarded;
    control::Request ready;
    ready.mutable_mapping_ready()->set_mapping_id(plan.mapping);
    ready.mutable_mapping_ready()->set_address(plan.area.address);
    const int fds[] = {plan.uffd.get()};
    const auto accepted = gobd_->call(ready, fds, kGobd);
    return accepted ? Status() : Status(accepted.error());
  }();
  if (!mapped) {
    forget(plan.mapping);
    return mapped;
  }
  Held& held = held_[pid];
  if (!held.process) held.process.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  held.areas.emplace_back(std::move(plan.container), plan.area);
  held.mappings.push_back(plan.mapping);
  held.uffds.push_back(std::move(plan.uffd));
  return {};
}

void CommonMapper::forget(std::uint64_t mapping) {
  control::Request request;
  request.mutable_unmap_container()->set_mapping_id(mapping);
  // If gobd is gone, so is the mapping.
  static_cast<void>(gobd_->call(request, {}, kGobd).ok());
}

std::vector<int> CommonMapper::ends() const {
  std::vector<int> all;
  for (const auto& [pid, held] : held_) all.push_back(held.process.get());
  return all;
}

void CommonMapper::reap() {
  for (auto it = held_.begin(); it != held_.end();) {
    pollfd ended{it->second.process.get(), POLLIN, 0};
    if (::poll(&ended, 1, 0) != 1) {
      ++it;
      continue;
    }
    static_cast<void>(guard_.release(it->first).ok());
    for (const std::uint64_t mapping : it->second.mappings) forget(mapping);
    it = held_.erase(it);
  }
}

}  // namespace gob::migration
