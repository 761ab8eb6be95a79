// Linked segments: pages go from the container to the segment as answers to the kernel's requests,
// and come back by being taken. A frame is either in the pool or in the segment.
#include <algorithm>
#include <cstring>
#include <string>

#include "libgob/linker/map_linker.h"

namespace gob {

// Those of `pages` whose frames are the container's and lie in the segment.
std::uint64_t MapLinker::in_segment(PageSet pages, bool writable_only) const {
  std::uint64_t mask = 0;
  for_each_page(pages, [&](PageId page) {
    const Place* place = places_.find(key_of(page));
    if (place == nullptr || *place == Place::kPool || *place == Place::kOwn) return;
    if (!writable_only || *place == Place::kToWrite) mask |= PageSet::of(page).mask;
  });
  return mask;
}

bool MapLinker::note_request(Container& container, const Fault& fault, std::uint64_t now_ns) {
  Segment& segment = *container.segment;
  const Place* place = places_.find(key_of(fault.page));
  if (place != nullptr && *place == Place::kOwn && !fault.request.fill) {
    abi::Reply own{fault.request.slot, 0, abi::kReplyWrite, 0, fault.request.serial};
    if (segment.mapping->link()->device->reply({&own, 1})) return false;
  }
  segment.requests[fault.page.page.value()].push_back(fault.request);
  return waiting_.add(fault, *segment.mapping, now_ns);
}

// Answers what the kernel waits for among `pages`, which this node has with the right to `access`:
// in `source`, or if that is null in the pool or the segment. Tells which went to the segment.
Result<std::uint64_t> MapLinker::answer(Container& container, PageSet pages, Access access,
                                        const Source* source) {
  Segment& segment = *container.segment;
  const GobDevice& device = *segment.mapping->link()->device;
  const bool write = access == Access::kWrite;
  std::vector<abi::Reply> replies;
  std::vector<std::pair<PageId, bool>> asked;  // page, whether it is a fill
  Status status;
  for_each_page(pages, [&](PageId page) {
    const auto found = segment.requests.find(page.page.value());
    if (found == segment.requests.end()) return;
    const bool here = in_segment(PageSet::of(page)) != 0;
    for (const KernelRequest& request : found->second) {
      abi::Reply& reply = replies.emplace_back(
          abi::Reply{request.slot, 0, write ? abi::kReplyWrite : 0, 0, request.serial});
      asked.emplace_back(page, request.fill);
      if (!request.fill) {
        // A page that was taken meanwhile, or a right that is not ours: the access begins again.
        if (!write || !here) reply = {request.slot, -EAGAIN, 0, 0, request.serial};
      } else if (here) {
        // The kernel lost it. Old bytes there are none, so none can be given.
        ++counters_.vanished_frames;
        reply = {request.slot, -EIO, 0, 0, request.serial};
      } else if (source != nullptr && source->bytes == nullptr) {
        reply.flags |= abi::kReplyZero;
      } else if (source != nullptr) {
        std::memcpy(device.data(request.slot), source->at(page.page), kPageSize);
      } else if (Status loaded = container.pool->load(page.page, 1, device.data(request.slot));
                 !loaded) {
        status = loaded;
        reply = {request.slot, -EIO, 0, 0, request.serial};
      }
    }
    segment.requests.erase(found);
  });
  std::uint64_t given = 0;
  for (std::size_t first = 0; first < replies.size(); first += abi::kSlots) {
    const std::size_t count = std::min<std::size_t>(abi::kSlots, replies.size() - first);
    if (Status told = device.reply({replies.data() + first, count}); !told) return told.error();
  }
  for (std::size_t i = 0; i < replies.size(); ++i) {
    if (replies[i].error != 0) continue;  // refused, or nobody waited any more
    const auto [page, fill] = asked[i];
    places_[key_of(page)] = write ? Place::kToWrite : Place::kToRead;
    if (fill) given |= PageSet::of(page).mask;
    ++(fill ? counters_.segment_pages : counters_.segment_rights);
  }
  if (!status) return status.error();
  return given;
}

Status MapLinker::answer_from_pool(Container& container, PageSet pages, Access access) {
  const Result<std::uint64_t> given = answer(container, pages, access, nullptr);
  waiting_.remove(pages);
  if (!given) return given.error();
  Status status;
  for_each_run(pages.with(*given), [&](PageIndex first, unsigned count) {
    if (Status punched = container.pool->punch(first, count); !punched) status = punched;
  });
  return status;
}

Status MapLinker::refuse_requests(Container& container, PageSet pages, bool for_good) {
  Segment& segment = *container.segment;
  const KernelLink& link = *segment.mapping->link();
  const bool zeros = for_good && segment.cut && link.lost->zeros_accepted();
  std::vector<abi::Reply> replies;
  std::vector<PageId> asked;
  for_each_page(pages, [&](PageId page) {
    const auto found = segment.requests.find(page.page.value());
    if (found == segment.requests.end()) return;
    if (for_good) link.lost->note(page.page);
    if (!zeros) ++counters_.refused_pages;
    for (const KernelRequest& request : found->second) {
      abi::Reply& reply = replies.emplace_back(abi::Reply{request.slot, -EIO, 0, 0, request.serial});
      if (zeros && request.fill) {
        reply.error = 0;
        reply.flags = abi::kReplyZero | abi::kReplyWrite;
      }
      asked.push_back(page);
    }
    segment.requests.erase(found);
  });
  waiting_.remove(pages);
  Status told = link.device->reply(replies);
  for (std::size_t i = 0; i < replies.size() && told; ++i) {
    if (replies[i].error != 0) continue;
    places_[key_of(asked[i])] = Place::kOwn;
    link.lost->note_zeros(asked[i].page);
  }
  return told;
}

// Takes pages that are in the segment. `save`: their bytes, each at its place in `layout`.
Status MapLinker::take_from_segment(const Container& container, PageSet pages, bool drop,
                                    PageSet layout, std::byte* save) {
  const KernelLink& link = *container.segment->mapping->link();
  Status status;
  for_each_run(pages, [&](PageIndex first, unsigned count) {
    std::byte* const to = save == nullptr ? nullptr : save + layout.rank(first) * kPageSize;
    if (drop) link.taken->note(first, count);
    const auto taken = link.device->take(link.id, first, count, drop, to);
    if (!taken) {
      status = taken.error();
    } else if (save != nullptr && taken->present != (~std::uint64_t{0} >> (64 - count))) {
      status = make_error(ErrorCode::kLost,
                          "pages " + std::to_string(first.value()) + " to " +
                              std::to_string(first.value() + count - 1) + " of container " +
                              std::to_string(pages.container.value()) +
                              " are not all in the linked segment where they were put");
    }
  });
  return status;
}

// The container's pages are there no more; where the segment is being cut off, it keeps them.
void MapLinker::leave_segment(Container& container, PageSet pages) {
  Segment& segment = *container.segment;
  std::vector<abi::Reply> replies;
  for_each_page(pages, [&](PageId page) {
    if (!segment.cut) {
      places_.erase(key_of(page));
      return;
    }
    places_[key_of(page)] = Place::kOwn;
    const auto found = segment.requests.find(page.page.value());
    if (found == segment.requests.end()) return;
    for (const KernelRequest& request : found->second)
      replies.push_back({request.slot, 0, abi::kReplyWrite, 0, request.serial});
    segment.requests.erase(found);
  });
  waiting_.unmapped(pages);
  if (segment.cut) waiting_.remove(pages);
  static_cast<void>(segment.mapping->link()->device->reply(replies));
}

Status MapLinker::drop_segment(ContainerId id, Container& container) {
  std::vector<PageKey> keys;
  places_.for_each([&](PageKey key, Place place) {
    if (page_of(key).container == id && place != Place::kOwn) keys.push_back(key);
  });
  Status status;
  for (const PageKey key : keys) {
    const PageSet page = PageSet::of(page_of(key));
    if (Status taken = take_from_segment(container, page, true, page, nullptr); !taken)
      status = taken;
    places_.erase(key);
  }
  return status;
}

void MapLinker::begin_cut(ContainerId id) {
  Container* container = find_container(id);
  if (container != nullptr && container->segment) container->segment->cut = true;
}

Result<bool> MapLinker::cut_some(ContainerId id, std::size_t pages) {
  Container* container = find_container(id);
  if (container == nullptr || !container->segment) return true;
  std::vector<PageKey> keys;
  places_.for_each([&](PageKey key, Place place) {
    if (keys.size() < pages && page_of(key).container == id && place != Place::kOwn)
      keys.push_back(key);
  });
  std::vector<std::byte> bytes(kPageSize);
  for (const PageKey key : keys) {
    const PageSet page = PageSet::of(page_of(key));
    if (Status taken = take_from_segment(*container, page, false, page, bytes.data()); !taken)
      return taken.error();
    if (Status stored = container->pool->store(page_of(key).page, 1, bytes.data()); !stored)
      return stored.error();
    leave_segment(*container, page);
  }
  return keys.size() < pages;
}

}  // namespace gob
