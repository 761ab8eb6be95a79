// Frames that come, and rights that rise: what wakes programs.
#include <bit>
#include <string>

#include "libgob/linker/map_linker.h"

namespace gob {
namespace {

// The run's bits in its stripe.
std::uint64_t mask_of_run(PageIndex first, unsigned count) {
  if (count == 0) return 0;
  return (~std::uint64_t{0} >> (kStripePages - count)) << (first.value() % kStripePages);
}

}  // namespace

Status MapLinker::install(PageSet pages, const PageBytes& bytes, Access access) {
  return install_from(pages, Source{&bytes, zeros_}, access);
}

Status MapLinker::install_zero(PageSet pages, Access access) {
  return install_from(pages, Source{nullptr, zeros_}, access);
}

void MapLinker::collect(PageSet pages) {
  demands_.clear();
  waiting_.collect(pages, demands_);
  ahead_.collect(pages, demands_);
}

Status MapLinker::install_from(PageSet pages, const Source& source, Access access) {
  Container* container = find_container(pages.container);
  if (container == nullptr)
    return make_error(ErrorCode::kNotFound, "cannot store pages of container " +
                                                std::to_string(pages.container.value()) +
                                                ": it has no frame pool on this shard");
  std::uint64_t stored = 0;
  demands_.clear();
  if (container->segment && access != Access::kNone) {
    const Result<std::uint64_t> answered = answer(*container, pages, access, &source);
    if (!answered) return answered.error();
    stored = *answered;
  } else if (access != Access::kNone) {
    collect(pages);
    // The first mapping that wants a page gets it with its bytes, in one call.
    for (Demand& demand : demands_) {
      const std::uint64_t wanted = (demand.waiting | demand.ahead) & ~stored;
      const std::uint64_t copied =
          copy_to(*container, *demand.mapping, pages.with(wanted), source, access);
      stored |= copied;
      counters_.ahead_pages +=
          static_cast<unsigned>(std::popcount(copied & demand.ahead & ~demand.waiting));
      demand.waiting &= ~copied;
      demand.ahead &= ~copied;
    }
  }
  Status status;
  for_each_run(pages.with(pages.mask & ~stored), [&](PageIndex first, unsigned count) {
    counters_.stored_pages += count;
    if (Status written = container->pool->store(first, count, source.at(first)); !written)
      status = written;
  });
  if (!status || access == Access::kNone) return status;
  for (const Demand& demand : demands_) grant(*container, demand, pages, access);
  waiting_.remove(pages);
  return {};
}

std::uint64_t MapLinker::copy_to(Container& container, Mapping& mapping, PageSet wanted,
                                 const Source& source, Access access) {
  const bool write = access == Access::kWrite && mapping.config().writable;
  std::uint64_t copied = 0;
  for_each_run(wanted, [&](PageIndex first, unsigned count) {
    bool one_by_one = false;  // a part of the run is not mapped
    for (unsigned done = 0; done < count && !mapping.dead();) {
      const PageIndex page{first.value() + done};
      const UffdResult result = uffd_copy(mapping.uffd(), mapping.address_of(page),
                                          one_by_one ? 1 : count - done, source.at(page), !write);
      if (result.done > 0) {
        if (write) note_writable(container, mapping, page, result.done);
        copied |= mask_of_run(page, result.done);
        counters_.copied_pages += result.done;
        done += result.done;
      }
      switch (result.outcome) {
        case UffdOutcome::kDone:
          break;
        case UffdOutcome::kDead:
          mapping.mark_dead();
          break;
        case UffdOutcome::kNotMapped:
          if (one_by_one) ++done;
          one_by_one = true;
          break;
        case UffdOutcome::kExists:
        case UffdOutcome::kNoFrame:
        case UffdOutcome::kNoMemory:
        case UffdOutcome::kFailed:
        case UffdOutcome::kChanging:
          ++done;  // left to store and continue, whose failures count
          break;
      }
    }
  });
  return copied;
}

Status MapLinker::map(PageSet pages, Access access) {
  Container* container = find_container(pages.container);
  if (container == nullptr)
    return make_error(ErrorCode::kNotFound, "cannot map pages of container " +
                                                std::to_string(pages.container.value()) +
                                                ": it has no frame pool on this shard");
  if (container->segment) return answer_from_pool(*container, pages, access);
  collect(pages);
  for (const Demand& demand : demands_) grant(*container, demand, pages, access);
  waiting_.remove(pages);
  return {};
}

// The frames are in place: gives one mapping what it wants of them.
void MapLinker::grant(Container& container, const Demand& demand, PageSet pages, Access access) {
  Mapping& mapping = *demand.mapping;
  const bool write = access == Access::kWrite && mapping.config().writable;
  for_each_run(pages.with(demand.write_protected & demand.waiting),
               [&](PageIndex first, unsigned count) {
                 if (write)
                   allow_write(container, mapping, first, count);
                 else
                   uffd_wake(mapping.uffd(), mapping.address_of(first), count);
               });
  const std::uint64_t unmapped = demand.waiting & ~demand.write_protected;
  for_each_run(pages.with(unmapped | demand.ahead), [&](PageIndex first, unsigned count) {
    grant_run(container, mapping, first, count, access, unmapped);
  });
}

// Maps frames. `waiting`: the mask, in the stripe, of pages that threads stand still for; for the
// others a failure does not matter.
void MapLinker::grant_run(Container& container, Mapping& mapping, PageIndex first, unsigned count,
                          Access access, std::uint64_t waiting) {
  const bool write = access == Access::kWrite && mapping.config().writable;
  const UffdResult result = uffd_continue(mapping.uffd(), mapping.address_of(first), count, !write);
  if (write && result.done > 0) note_writable(container, mapping, first, result.done);
  counters_.ahead_pages +=
      static_cast<unsigned>(std::popcount(mask_of_run(first, result.done) & ~waiting));
  if (result.outcome == UffdOutcome::kDone) return;
  if (result.outcome == UffdOutcome::kDead) return mapping.mark_dead();
  const PageIndex rest{first.value() + result.done};
  // A neighbour that is mapped already is mostly one of many: an upgrade of a whole run.
  if (result.outcome == UffdOutcome::kExists && write)
    allow_write(container, mapping, rest, count - result.done);
  for (unsigned i = 0; i < count - result.done; ++i) {
    const PageIndex page{rest.value() + i};
    if (((waiting >> (page.value() % kStripePages)) & 1) != 0)
      grant_page(container, mapping, page, access);
  }
}

// The same for one page that is waited for: whatever comes, the thread does not stand still.
void MapLinker::grant_page(Container& container, Mapping& mapping, PageIndex page, Access access) {
  const bool write = access == Access::kWrite && mapping.config().writable;
  const std::uint64_t address = mapping.address_of(page);
  const UffdResult result = uffd_continue(mapping.uffd(), address, 1, !write);
  switch (result.outcome) {
    case UffdOutcome::kDone:
      if (write) note_writable(container, mapping, page, 1);
      return;
    case UffdOutcome::kExists:
      if (write) allow_write(container, mapping, page, 1);
      uffd_wake(mapping.uffd(), address, 1);
      return;
    case UffdOutcome::kNoFrame:
      // A program removed the frame through its mapping or descriptor: its bytes are gone.
      ++counters_.vanished_frames;
      if (!refuse_page(container, mapping, page)) uffd_wake(mapping.uffd(), address, 1);
      return;
    case UffdOutcome::kDead:
      return mapping.mark_dead();
    case UffdOutcome::kNotMapped:
    case UffdOutcome::kNoMemory:
    case UffdOutcome::kFailed:
    case UffdOutcome::kChanging:
      // The thread faults again if it still wants the page.
      uffd_wake(mapping.uffd(), address, 1);
      return;
  }
}

void MapLinker::allow_write(Container& container, Mapping& mapping, PageIndex first,
                            unsigned count) {
  // Noted first: a page noted in vain costs a call later, the reverse would cost coherence.
  note_writable(container, mapping, first, count);
  const UffdResult whole =
      uffd_unprotect(mapping.uffd(), mapping.address_of(first), count, /*wake=*/true);
  if (whole.outcome == UffdOutcome::kDone) return;
  if (whole.outcome == UffdOutcome::kDead) return mapping.mark_dead();
  for (unsigned i = 0; i < count; ++i) {
    const std::uint64_t address = mapping.address_of(PageIndex{first.value() + i});
    const UffdResult single = uffd_unprotect(mapping.uffd(), address, 1, /*wake=*/true);
    if (single.outcome != UffdOutcome::kDone) uffd_wake(mapping.uffd(), address, 1);
  }
}

void MapLinker::note_writable(Container& container, Mapping& mapping, PageIndex first,
                              unsigned count) {
  const auto linked = container.mappings.find(mapping.id());
  const auto bit = static_cast<std::uint8_t>(1u << linked->second.slot);
  for (unsigned i = 0; i < count; ++i)
    writable_[key_of({mapping.config().container, PageIndex{first.value() + i}})] |= bit;
}

}  // namespace gob
