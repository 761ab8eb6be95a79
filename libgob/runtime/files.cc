#include "libgob/runtime/files.h"

#include <algorithm>
#include <string>

#include "libgob/runtime/file_access.h"
#include "libgob/runtime/shard.h"

namespace gob {

namespace {

constexpr std::uint64_t kFirstWindow = 16;       // pages, at least
constexpr std::uint64_t kWindowOfReadAhead = 4;   // times the configured read-ahead: what comes
                                                  // faster than the network waits in memory there
constexpr std::uint64_t kMostTakenAhead = 256;   // pages

std::uint64_t page_after(std::uint64_t byte) {
  return byte / kPageSize + (byte % kPageSize != 0 ? 1 : 0);
}

// The pages [first, end), one set for each stripe.
template <class F>
void for_each_stripe(ContainerId id, std::uint64_t first, std::uint64_t end, F&& f) {
  while (first < end) {
    const std::uint64_t stripe = first / kStripePages;
    const std::uint64_t stop = std::min(end, (stripe + 1) * kStripePages);
    const auto count = static_cast<unsigned>(stop - first);
    f(PageSet{id, stripe, (~std::uint64_t{0} >> (kStripePages - count)) << (first % kStripePages)});
    first = stop;
  }
}

Error no_access(ContainerId id, const char* why) {
  return make_error(ErrorCode::kInvalidArgument,
                    "container " + std::to_string(id.value()) + " " + why, EIO);
}

}  // namespace

Shard& Files::shard_of(std::uint64_t stripe) const {
  return *shards_[Shard::index_of(stripe, static_cast<unsigned>(shards_.size()))];
}

void Files::add_container(const ContainerInfo& info) {
  const std::lock_guard lock(mutex_);
  entries_[info.id].info = info;
}

void Files::remove_container(ContainerId id) {
  const std::lock_guard lock(mutex_);
  entries_.erase(id);
}

Result<ContainerInfo> Files::find(ContainerId id) const {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(id);
  if (found == entries_.end()) return no_access(id, "is not in this cluster");
  return found->second.info;
}

void Files::read(ContainerId container, std::uint64_t offset, std::span<std::byte> out,
                 Caching caching, ReadAhead read_ahead, Done done) {
  const Result<ContainerInfo> info = find(container);
  if (!info) return done(info.error());
  if (out.empty()) return done({});
  auto access = std::make_shared<FileAccess>(container, offset, caching, std::move(done));
  access->out = out.data();
  access->length = out.size();
  const Pages pages{offset / kPageSize, page_after(offset + out.size())};
  Pages ahead;
  if (read_ahead_pages_ != 0 && read_ahead == ReadAhead::kByOrder)
    ahead = look_ahead(container, pages);
  start(access, ahead);
}

void Files::take(ContainerId container, std::uint64_t offset, std::span<std::byte> out,
                 std::uint64_t ahead, Done done) {
  auto access = std::make_shared<FileAccess>(container, offset, Caching::kNone, std::move(done));
  access->out = out.data();
  access->length = out.size();
  access->takes = access->counted = true;
  const std::uint64_t end = (offset + out.size()) / kPageSize;
  start(access, {end, end + std::min(ahead, kMostTakenAhead)});
}

void Files::copy(ContainerId container, std::uint64_t offset, std::span<std::byte> out, Done done) {
  auto access = std::make_shared<FileAccess>(container, offset, Caching::kNone, std::move(done));
  access->out = out.data();
  access->length = out.size();
  access->counted = true;
  start(access, {});
}

void Files::put(ContainerId container, std::uint64_t offset, std::span<const std::byte> bytes,
                Done done) {
  auto access = std::make_shared<FileAccess>(container, offset, Caching::kNone, std::move(done));
  access->in = bytes.data();
  access->length = bytes.size();
  access->counted = true;
  start(access, {});
}

// Behind the on_answered() of the read that it takes back. Never refused: another node may wait.
void Files::not_given(ContainerId container, std::uint64_t offset, std::uint64_t length) {
  for_each_stripe(container, offset / kPageSize, page_after(offset + length), [&](PageSet pages) {
    shard_of(pages.stripe).post_reply([pages](Shard& shard) {
      shard.kernel_has_none(pages);
      shard.settle_files();
    });
  });
}

void Files::write(ContainerId container, std::uint64_t offset, std::span<const std::byte> bytes,
                  Caching caching, Done done) {
  const Result<ContainerInfo> info = find(container);
  if (!info) return done(info.error());
  if (bytes.empty()) return done({});
  auto access = std::make_shared<FileAccess>(container, offset, caching, std::move(done));
  access->in = bytes.data();
  access->length = bytes.size();
  start(access, {});
}

// One piece of work for each shard that is concerned.
void Files::start(const std::shared_ptr<FileAccess>& access, Pages ahead) {
  const ContainerId id = access->container;
  std::uint64_t limit = 0;
  {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(id);
    if (found != entries_.end()) limit = found->second.info.pages;
  }
  const std::uint64_t end = page_after(access->end());
  if (access->end() < access->offset || end > limit) {
    FileData::Done done = std::exchange(access->done, nullptr);
    return done(make_error(ErrorCode::kInvalidArgument,
                           "bytes beyond the largest size of container " +
                               std::to_string(id.value()) + " were asked for",
                           EFBIG));
  }
  for_each_stripe(id, access->offset / kPageSize, end,
                  [&](PageSet pages) { access->parts.push_back(pages); });
  access->parts_left = access->parts.size();
  PageSet with_last = access->parts.back().with(0);
  std::vector<PageSet> later;
  for_each_stripe(id, ahead.first, std::min(ahead.end, limit), [&](PageSet pages) {
    if (pages.stripe == with_last.stripe)
      with_last = pages;
    else
      later.push_back(pages);
  });
  const auto count = static_cast<unsigned>(shards_.size());
  for (unsigned index = 0; index < count; ++index) {
    const auto share = static_cast<std::size_t>(
        std::ranges::count_if(access->parts, [&](const PageSet& pages) {
          return Shard::index_of(pages.stripe, count) == index;
        }));
    if (share == 0) continue;
    const auto begin = [access, with_last, index, count](Shard& shard) {
      for (const PageSet& pages : access->parts)
        if (Shard::index_of(pages.stripe, count) == index)
          shard.start_access(access, pages, pages.stripe == with_last.stripe ? with_last.mask : 0);
    };
    if (access->counted ? shards_[index]->post_reply(begin) : shards_[index]->post(begin)) continue;
    refuse_share(access, share);
  }
  for (const PageSet& pages : later)  // a hint: an overloaded shard may ignore it
    static_cast<void>(
        shard_of(pages.stripe).post([pages, wanted = access->wanted()](Shard& shard) {
          shard.ask_file_ahead(pages, wanted);
        }));
}

// A shard is overloaded: its share fails, and with it the access once the others have ended.
void Files::refuse_share(const std::shared_ptr<FileAccess>& access, std::size_t parts) {
  FileAccess::Answer answer;
  {
    const std::lock_guard lock(access->mutex);
    answer = access->end_parts(
        parts, make_error(ErrorCode::kUnavailable, "this node is overloaded: try again later", EIO));
  }
  if (!answer.done) return;
  for (const PageSet& pages : access->parts)
    shard_of(pages.stripe).post_reply([pages, access](Shard& shard) {
      shard.on_answered(pages, access);
      shard.settle_files();
    });
  answer.done(*answer.error);
}

Files::Pages Files::look_ahead(ContainerId id, Pages read) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(id);
  if (found == entries_.end()) return {};
  Entry& entry = found->second;
  const std::uint64_t now = ++entry.reads;
  Stream* stream = nullptr;
  for (Stream& each : entry.streams) {
    // The kernel's own read-ahead may come a little out of order.
    if (each.used != 0 && read.first + kStripePages >= each.next &&
        read.first <= each.next + kStripePages)
      stream = &each;
  }
  if (stream == nullptr) {
    stream = &*std::ranges::min_element(entry.streams, {}, &Stream::used);
    *stream = {read.end, read.end, 0, now};
    return {};
  }
  stream->used = now;
  if (read.first > stream->next || read.end <= stream->next) return {};
  stream->next = read.end;
  stream->asked = std::max(stream->asked, read.end);
  const std::uint64_t most = read_ahead_pages_ * kWindowOfReadAhead;
  const std::uint64_t least = std::min(std::max(kFirstWindow, read.end - read.first), most);
  const std::uint64_t window = std::clamp(stream->window * 2, least, most);
  // The next run is asked for while half of the last is still before the reader.
  if (stream->window != 0 && stream->asked - read.end > stream->window / 2) return {};
  const Pages ahead{stream->asked, std::min(read.end + window, page_after(entry.size_bytes))};
  if (ahead.first >= ahead.end) return {};
  stream->window = window;
  stream->asked = ahead.end;
  return ahead;
}

void Files::write_back(ContainerId container, FileRange range, Done done) {
  const std::uint64_t end = range.length > FileRange::kToEnd - range.offset
                                ? kMaxPages
                                : page_after(range.offset + range.length);
  start_jobs(container, false, {range.offset / kPageSize, end}, std::move(done));
}

void Files::discard(ContainerId container, FileRange range, Done done) {
  const std::uint64_t end = range.length > FileRange::kToEnd - range.offset
                                ? kMaxPages
                                : (range.offset + range.length) / kPageSize;
  start_jobs(container, true, {page_after(range.offset), end}, std::move(done));
}

void Files::start_jobs(ContainerId id, bool discard, Pages pages, Done done) {
  const Result<ContainerInfo> info = find(id);
  if (!info) return done(info.error());
  if (info->home != self_) return done(no_access(id, "has its file on another node"));
  const auto join = std::make_shared<FileJoin>(shards_.size(), std::move(done));
  for (Shard* shard : shards_) {
    auto job = std::make_shared<FileJob>();
    job->container = id;
    job->discard = discard;
    job->first = pages.first;
    job->end = std::min(pages.end, info->pages);
    job->join = join;
    if (!shard->post([job](Shard& owner) { owner.start_job(job); }))
      join->fail(make_error(ErrorCode::kUnavailable, "this node is overloaded", EIO));
  }
}

void Files::bind(ContainerId container, UniqueFd file, std::uint64_t size_bytes, Done done) {
  const Result<ContainerInfo> info = find(container);
  if (!info) return done(info.error());
  if (info->home != self_) return done(no_access(container, "has its file on another node"));
  std::shared_ptr<BackingFile> backing;
  {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(container);
    const bool again = found != entries_.end() && found->second.backing != nullptr;
    backing = std::make_shared<BackingFile>(std::move(file), size_bytes,
                                            again ? found->second.backing.get() : nullptr);
    if (found != entries_.end()) {
      found->second.backing = backing;
      found->second.size_bytes = size_bytes;
    }
  }
  bind_backing(container, backing, std::move(done));
}

void Files::bind_processes(ContainerId container, ProcessMemory processes, Done done) {
  bind_backing(container, std::make_shared<const ProcessMemory>(std::move(processes)),
               std::move(done));
}

void Files::bind_backing(ContainerId container, const std::shared_ptr<const Backing>& backing,
                         Done done) {
  const auto join = std::make_shared<FileJoin>(shards_.size(), std::move(done));
  for (Shard* shard : shards_) {
    const bool posted = shard->post([container, backing, join](Shard& owner) {
      if (const Status bound = owner.bind_file(container, backing); !bound)
        join->fail(bound.error());
      join->finish();
    });
    if (!posted) join->fail(make_error(ErrorCode::kUnavailable, "this node is overloaded", EIO));
  }
}

void Files::resize(ContainerId container, const std::function<std::uint64_t()>& change) {
  std::shared_ptr<BackingFile> backing;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = entries_.find(container); found != entries_.end())
      backing = found->second.backing;
  }
  const std::uint64_t size_bytes = backing != nullptr ? backing->resize(change) : change();
  const std::lock_guard lock(mutex_);
  if (const auto found = entries_.find(container); found != entries_.end())
    found->second.size_bytes = size_bytes;
}

void Files::set_size(ContainerId container, std::uint64_t size_bytes) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(container);
  if (found == entries_.end()) return;
  found->second.size_bytes = size_bytes;
  if (found->second.backing != nullptr) found->second.backing->set_size(size_bytes);
}

void Files::on_written(std::function<void(ContainerId)> written) {
  for (Shard* shard : shards_)
    static_cast<void>(shard->post([written](Shard& owner) { owner.on_written(written); }));
}

void Files::set_kernel_cache(KernelCache* cache) {
  for (Shard* shard : shards_)
    static_cast<void>(shard->post([cache](Shard& owner) { owner.set_kernel_cache(cache); }));
}

}  // namespace gob
