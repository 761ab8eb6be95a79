// Containers, mappings, faults, and frames that leave. Frames that come: map_linker_grant.cc.
#include "libgob/linker/map_linker.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <string>

namespace gob {
namespace {

// Zeros to copy from, as long as a run can be. Reading them costs no memory: they are the kernel's
// zero page, mapped again and again.
Result<const std::byte*> zero_stripe() {
  static const auto* const zeros = static_cast<const std::byte*>(
      ::mmap(nullptr, kStripePages * kPageSize, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (zeros == MAP_FAILED)
    return make_error(ErrorCode::kNoSpace, "cannot map a stripe of zero pages", ENOMEM);
  return zeros;
}

Error no_container(ContainerId id, const char* what) {
  return make_error(ErrorCode::kNotFound, std::string("cannot ") + what + " pages of container " +
                                              std::to_string(id.value()) +
                                              ": it has no frame pool on this shard");
}

}  // namespace

Result<MapLinker> MapLinker::create() {
  auto pipe = PagePipe::create();
  if (!pipe) return pipe.error();
  const auto zeros = zero_stripe();
  if (!zeros) return zeros.error();
  return MapLinker(std::move(pipe).value(), *zeros);
}

void MapLinker::add_container(ContainerId id, std::shared_ptr<const FramePool> pool) {
  containers_[id].pool = std::move(pool);
}

Status MapLinker::drop_container(ContainerId id) {
  const auto found = containers_.find(id);
  if (found == containers_.end()) return {};
  Container& container = found->second;
  container.dropped = true;
  for (const PageKey key : writable_.keys_of(id)) writable_.erase(key);
  Status freed = container.pool->clear();
  if (container.segment)
    if (Status dropped = drop_segment(id, container); !dropped) freed = dropped;
  if (container.mappings.empty()) containers_.erase(found);
  return freed;
}

Status MapLinker::add_mapping(std::shared_ptr<Mapping> mapping) {
  const Mapping::Config& config = mapping->config();
  Container* container = find_container(config.container);
  if (container == nullptr || container->dropped) return no_container(config.container, "map");
  if (!container->pool->contains(config.first, config.pages))
    return make_error(ErrorCode::kInvalidArgument,
                      "cannot map " + std::to_string(config.pages) + " pages from page " +
                          std::to_string(config.first.value()) + " of container " +
                          std::to_string(config.container.value()) + ": it has " +
                          std::to_string(container->pool->pages()),
                      EINVAL);
  if (container->segment || (mapping->link() && !container->mappings.empty()))
    return make_error(ErrorCode::kUnavailable,
                      "container " + std::to_string(config.container.value()) +
                          " cannot be both linked to a segment and mapped on this node",
                      EBUSY);
  // The slot of the mapping that left longest ago, if one of the exact ones is free.
  std::uint8_t slot = kExactSlots;
  for (std::uint8_t tried = 0; tried < kExactSlots; ++tried) {
    const auto candidate = static_cast<std::uint8_t>((container->next_slot + tried) % kExactSlots);
    const bool used =
        std::any_of(container->mappings.begin(), container->mappings.end(),
                    [&](const auto& entry) { return entry.second.slot == candidate; });
    if (used) continue;
    slot = candidate;
    container->next_slot = static_cast<std::uint8_t>((candidate + 1) % kExactSlots);
    break;
  }
  const MappingId id = mapping->id();
  container->news = container->news || mapping->has_news();
  if (mapping->link()) container->segment.emplace(Segment{mapping.get(), {}, false});
  if (!container->mappings.try_emplace(id, Linked{std::move(mapping), slot}).second)
    return make_error(ErrorCode::kAlreadyExists,
                      "mapping " + std::to_string(id.value()) + " is linked already", EEXIST);
  return {};
}

void MapLinker::remove_mapping(MappingId id) {
  for (auto entry = containers_.begin(); entry != containers_.end(); ++entry) {
    Container& container = entry->second;
    const auto found = container.mappings.find(id);
    if (found == container.mappings.end()) continue;
    if (container.segment) {
      // The link has ended: nobody is asked for anything any more.
      for (const PageKey key : places_.keys_of(entry->first)) places_.erase(key);
      container.segment.reset();
    }
    waiting_.remove(*found->second.mapping);
    ahead_.remove(*found->second.mapping);
    container.mappings.erase(found);
    if (container.dropped && container.mappings.empty()) containers_.erase(entry);
    return;
  }
}

MapLinker::Container* MapLinker::find_container(ContainerId id) {
  const auto found = containers_.find(id);
  return found == containers_.end() ? nullptr : &found->second;
}

bool MapLinker::has_mappings(ContainerId id) const {
  const auto found = containers_.find(id);
  return found != containers_.end() && !found->second.mappings.empty();
}

bool MapLinker::is_linked(ContainerId id) const {
  const auto found = containers_.find(id);
  return found != containers_.end() && found->second.segment.has_value();
}

bool MapLinker::waits_for(PageSet pages) const {
  std::vector<Demand> demands;
  waiting_.collect(pages, demands);
  return !demands.empty();
}

bool MapLinker::note(const Fault& fault, std::uint64_t now_ns) {
  Container* container = find_container(fault.page.container);
  if (container == nullptr) return false;
  const auto linked = container->mappings.find(fault.mapping);
  if (linked == container->mappings.end()) return false;
  Mapping& mapping = *linked->second.mapping;
  switch (fault.kind) {
    case FaultKind::kMissing:
      ++counters_.missing_faults;
      break;
    case FaultKind::kMinor:
      ++counters_.minor_faults;
      break;
    case FaultKind::kWriteProtect:
      ++counters_.write_protect_faults;
      break;
  }
  if (mapping.link()) return note_request(*container, fault, now_ns);
  if (fault.access == Access::kWrite && !mapping.config().writable) {
    ++counters_.denied_writes;
    // If that fails too, the waiting list has it, and the core's refusal is the second attempt.
    if (refuse_page(*container, mapping, fault.page.page)) return false;
  }
  return waiting_.add(fault, mapping, now_ns);
}

void MapLinker::expect(MappingId mapping, PageSet pages, std::uint64_t unmapped) {
  Container* container = find_container(pages.container);
  if (container == nullptr) return;
  const auto linked = container->mappings.find(mapping);
  if (linked == container->mappings.end()) return;
  Mapping& target = *linked->second.mapping;
  if (target.link()) return;  // the kernel takes no page that it has not asked for
  ahead_.add(target, pages.with(pages.mask & target.mask_of_stripe(pages.stripe)), unmapped);
}

Status MapLinker::downgrade(PageSet pages) {
  Container* container = find_container(pages.container);
  if (container == nullptr) return no_container(pages.container, "write-protect");
  if (container->segment) {
    const PageSet set = pages.with(in_segment(pages, /*writable_only=*/true));
    if (Status taken = take_from_segment(*container, set, false, set, nullptr); !taken)
      return taken;
    for_each_page(set, [&](PageId page) { places_[key_of(page)] = Place::kToRead; });
    return {};
  }
  std::array<std::uint64_t, kExactSlots + 1> writable_through{};
  std::uint64_t writable = 0;
  for_each_page(pages, [&](PageId page) {
    const std::uint8_t* slots = writable_.find(key_of(page));
    if (slots == nullptr) return;
    const std::uint64_t bit = PageSet::of(page).mask;
    writable |= bit;
    for (unsigned slot = 0; slot <= kExactSlots; ++slot)
      if (((*slots >> slot) & 1) != 0) writable_through[slot] |= bit;
  });
  if (writable == 0) return {};
  // A child that has just been forked writes where its parent could.
  std::uint64_t failed = container->news ? writable : 0;
  for (auto& [id, linked] : container->mappings) {
    if (failed == writable) break;
    const std::uint64_t mask =
        writable_through[linked.slot] & linked.mapping->mask_of_stripe(pages.stripe);
    if (mask != 0) failed |= protect(*linked.mapping, pages.with(mask));
  }
  Status status;
  for_each_run(pages.with(failed), [&](PageIndex first, unsigned count) {
    ++counters_.forced_unmaps;
    if (Status cut = container->pool->unmap(first, count, pipe_); !cut) status = cut;
  });
  if (failed != 0) waiting_.unmapped(pages.with(failed));
  for_each_page(pages.with(writable), [&](PageId page) { writable_.erase(key_of(page)); });
  return status;
}

std::uint64_t MapLinker::protect(Mapping& mapping, PageSet pages) {
  std::uint64_t failed = 0;
  // Pages that are not mapped, or of a program that is gone, nobody writes.
  const auto harmless = [&](UffdOutcome outcome) {
    if (outcome == UffdOutcome::kDead) mapping.mark_dead();
    return outcome == UffdOutcome::kDone || outcome == UffdOutcome::kDead;
  };
  for_each_run(pages, [&](PageIndex first, unsigned count) {
    const UffdResult whole = uffd_protect(mapping.uffd(), mapping.address_of(first), count);
    if (harmless(whole.outcome)) return;
    for (unsigned i = 0; i < count; ++i) {
      const PageIndex page{first.value() + i};
      const UffdResult single = uffd_protect(mapping.uffd(), mapping.address_of(page), 1);
      if (!harmless(single.outcome) && single.outcome != UffdOutcome::kNotMapped)
        failed |= PageSet::of({pages.container, page}).mask;
    }
  });
  return failed;
}

Status MapLinker::cut(PageSet pages) {
  Container* container = find_container(pages.container);
  if (container == nullptr || container->dropped || container->segment) return {};
  Status status;
  for_each_page(pages, [&](PageId page) {
    if (!container->pool->resident(page.page)) return;
    ++counters_.forced_unmaps;
    if (Status cut = container->pool->unmap(page.page, 1, pipe_); !cut) status = cut;
  });
  left_mappings(pages);
  return status;
}

Status MapLinker::invalidate(PageSet pages) {
  Container* container = find_container(pages.container);
  if (container == nullptr) return no_container(pages.container, "invalidate");
  Status status;
  if (container->segment) {
    const PageSet set = pages.with(in_segment(pages));
    if (!container->segment->cut) status = take_from_segment(*container, set, true, set, nullptr);
    leave_segment(*container, set);
    pages.mask &= ~set.mask;
  }
  for_each_run(pages, [&](PageIndex first, unsigned count) {
    if (Status punched = container->pool->punch(first, count); !punched) status = punched;
  });
  left_mappings(pages);
  return status;
}

Status MapLinker::load(PageSet pages, std::byte* out) const {
  const auto container = containers_.find(pages.container);
  if (container == containers_.end()) return no_container(pages.container, "read");
  Status status;
  const PageSet set = pages.with(container->second.segment ? in_segment(pages) : 0);
  if (!set.empty()) status = take_from_segment(container->second, set, false, pages, out);
  for_each_run(pages.with(pages.mask & ~set.mask), [&](PageIndex first, unsigned count) {
    std::byte* const to = out + pages.rank(first) * kPageSize;
    if (Status loaded = container->second.pool->load(first, count, to); !loaded) status = loaded;
  });
  return status;
}

Status MapLinker::take(PageSet pages, std::byte* out) {
  Container* container = find_container(pages.container);
  if (container == nullptr) return no_container(pages.container, "take");
  Status status;
  const PageSet set = pages.with(container->segment ? in_segment(pages) : 0);
  if (!set.empty()) {
    status = take_from_segment(*container, set, !container->segment->cut, pages, out);
    leave_segment(*container, set);
  }
  for_each_run(pages.with(pages.mask & ~set.mask), [&](PageIndex first, unsigned count) {
    std::byte* const to = out + pages.rank(first) * kPageSize;
    if (Status taken = container->pool->take(first, count, to, pipe_); !taken) status = taken;
  });
  left_mappings(pages);
  return status;
}

// No mapping has these pages any more.
void MapLinker::left_mappings(PageSet pages) {
  for_each_page(pages, [&](PageId page) { writable_.erase(key_of(page)); });
  waiting_.unmapped(pages);
}

Status MapLinker::refuse(PageSet pages, bool for_good) {
  Container* container = find_container(pages.container);
  if (container == nullptr) return {};  // it was removed, and its waiting accesses with it
  if (container->segment) return refuse_requests(*container, pages, for_good);
  demands_.clear();
  waiting_.collect(pages, demands_);
  Status status;
  for (const Demand& demand : demands_) {
    for_each_page(pages.with(demand.waiting), [&](PageId page) {
      if (Status refused = refuse_page(*container, *demand.mapping, page.page); !refused)
        status = refused;
    });
  }
  if (status) waiting_.remove(pages);
  return status;
}

Status MapLinker::refuse_page(Container& container, Mapping& mapping, PageIndex page) {
  const std::uint64_t address = mapping.address_of(page);
  UffdResult result = uffd_poison(mapping.uffd(), address, 1);
  if (result.outcome == UffdOutcome::kExists) {
    // The page is mapped for reading (an upgrade is refused), or was: the kernel remembers the
    // protection. It must leave the mapping before the protection may be lifted.
    const PageSet set = PageSet::of({mapping.config().container, page});
    if (container.pool->resident(page)) {
      ++counters_.forced_unmaps;
      if (Status cut = container.pool->unmap(page, 1, pipe_); !cut) return cut;
      left_mappings(set);
    }
    static_cast<void>(uffd_unprotect(mapping.uffd(), address, 1, /*wake=*/false));
    result = uffd_poison(mapping.uffd(), address, 1);
  }
  switch (result.outcome) {
    case UffdOutcome::kDone:
      ++counters_.refused_pages;
      return {};
    case UffdOutcome::kExists:  // refused before
      uffd_wake(mapping.uffd(), address, 1);
      return {};
    case UffdOutcome::kDead:
      mapping.mark_dead();
      return {};
    case UffdOutcome::kNotMapped:
      return {};
    case UffdOutcome::kChanging:
      uffd_wake(mapping.uffd(), address, 1);  // it is asked for again, and refused
      return {};
    case UffdOutcome::kNoFrame:
    case UffdOutcome::kNoMemory:
    case UffdOutcome::kFailed:
      break;
  }
  return make_error(ErrorCode::kSystem,
                    "cannot tell the program of mapping " + std::to_string(mapping.id().value()) +
                        " that page " + std::to_string(page.value()) + " is not to be had",
                    result.errno_value);
}

}  // namespace gob
