// What `gobctl stat` shows of a shard; scans its tables, so it is asked for, never kept.
#include "libgob/runtime/shard.h"

namespace gob {

ShardSnapshot Shard::snapshot() const {
  ShardSnapshot all;
  all.index = config_.index;
  for (const auto& [id, counters] : counters_) all.containers[id].counters = counters;
  core_.locals().for_each([&](PageKey key, const LocalPage& local) {
    const auto found = all.containers.find(page_of(key).container);
    if (found == all.containers.end()) return;
    switch (local.state) {
      case PageState::kRead:
      case PageState::kInjecting:
        ++found->second.readable;
        return;
      case PageState::kWrite:
        ++found->second.writable;
        return;
      case PageState::kSwapped:
      case PageState::kSwappingOut:
      case PageState::kSwappingIn:
        ++found->second.swapped;
        return;
      case PageState::kStored:
      case PageState::kInvalid:
        return;
    }
  });
  for (const auto& [key, pending] : core_.all_pending()) {
    const auto found = all.containers.find(page_of(key).container);
    if (found != all.containers.end() && pending.wanted != Access::kNone) ++found->second.waiting;
  }
  core_.directory().for_each([&](PageKey key, const DirectoryEntry& entry) {
    const auto found = all.containers.find(page_of(key).container);
    if (found == all.containers.end()) return;
    if (entry.lost != 0)
      ++found->second.lost;
    else
      ++found->second.owned[entry.owner()];
  });
  all.resident_frames = core_.resident_frames();
  all.budget_frames = core_.config().budget_frames;
  if (io_linker_ != nullptr) all.swap_used_pages = io_linker_->held_pages();
  all.directory_entries = core_.directory().size();
  all.directory_bytes = core_.directory().memory_bytes();
  all.frame_table_bytes = core_.locals().memory_bytes() + linker_.memory_bytes();
  for (std::uint16_t node = 0; node < config_.core.cluster_size; ++node) {
    all.peers.push_back(channel_->counters(NodeId{node}));
    all.paths.push_back(channel_->path(NodeId{node}));
    const auto said = free_frames_.find(NodeId{node});
    const bool known = said != free_frames_.end();
    all.free_frames.push_back(known ? std::optional(said->second) : std::nullopt);
  }
  return all;
}

std::uint64_t Shard::flush_container(ContainerId id) {
  std::map<std::uint64_t, std::uint64_t> stripes;
  core_.locals().for_each([&](PageKey key, const LocalPage& local) {
    const PageSet page = PageSet::of(page_of(key));
    if (page.container == id && is_readable(local.state)) stripes[page.stripe] |= page.mask;
  });
  std::uint64_t pages = 0;
  for (const auto& [stripe, mask] : stripes) {
    const PageSet set{id, stripe, mask};
    pages += set.size();
    step(event::Flush{set});
  }
  return pages;
}

}  // namespace gob
