// How a link of a segment or file ends, with all bytes in it; and how a file gets them on its disk before.
#include <unistd.h>

#include <cerrno>
#include <string>

#include "libgob/linker/file_sync.h"
#include "libgob/runtime/segments.h"

namespace gob {

namespace {

constexpr std::size_t kCutAtOnce = 4096;  // pages, between two looks at what else a shard has to do
constexpr std::size_t kRunsInError = 16;

off_t offset_of(std::uint64_t page) { return static_cast<off_t>(page * kPageSize); }

Error busy_error() {
  return make_error(ErrorCode::kUnavailable,
                    "it is being attached, detached or synced at this moment", EBUSY);
}

Error lost_pages_error(const std::vector<std::uint64_t>& missing, std::uint64_t pages) {
  return make_error(ErrorCode::kLost,
                    std::to_string(missing.size()) + " of its " + std::to_string(pages) +
                        " pages of 4096 bytes are lost for good, with a node that died: " +
                        to_words(runs_of(missing), kRunsInError) +
                        "; so it stays attached. \"gobctl detach --lossy\" detaches it with zeros in "
                        "their place",
                    EIO);
}

}  // namespace

// Touches every page, as a program would. A page that is lost ends this, but for `lossy`.
void Segments::fetch_all(const Linked& segment, bool lossy, const Done& done) {
  on_thread([object = segment.object, pages = segment.pages, lost = segment.lost, lossy,
             post = post_, done] {
    Status status;
    Pages missing;
    std::byte byte{};
    for (std::uint64_t page = 0; page < pages && status; ++page) {
      if (::pread(object->file.get(), &byte, 1, offset_of(page)) >= 0) continue;
      if (errno == EIO && lost->contains(page))
        missing.push_back(page);
      else
        status = system_error("page " + std::to_string(page) +
                              " cannot be had (the log says why), so it stays attached");
    }
    if (status && !missing.empty() && !lossy) status = lost_pages_error(missing, pages);
    (*post)([done, status] { done(status); });
  });
}

void Segments::cut(const std::string& name, bool lossy, CutDone done) {
  const auto found = linked_.find(name);
  if (found == linked_.end() || found->second.busy) return done(busy_error());
  found->second.busy = true;
  const ContainerId id = found->second.container;
  const std::shared_ptr<LostPages> lost = found->second.lost;
  // A step that the next must not follow after an error, or if the container has gone meanwhile.
  const auto step = [this, name, done](std::function<void(Linked&)> then) {
    return [this, name, done, then](const Status& status) {
      const auto segment = linked_.find(name);
      if (segment == linked_.end())
        return done(make_error(ErrorCode::kNotFound, "its container was removed meanwhile", EIDRM));
      if (status) return then(segment->second);
      segment->second.busy = false;
      done(status.error());
    };
  };
  // Once while other nodes may still take them, to see whether all can be had; then for good. What is
  // lost becomes zeros only then: nothing has changed if the first time fails.
  const auto ended = [done, lost](const Status& status) {
    if (!status) return done(status.error());
    done(lost->zeros());
  };
  const auto end = step([this, name, ended](Linked&) { end_link(name, ended); });
  const auto settle = step([this, end](Linked& segment) {
    if (segment.object->is_segment()) return end({});
    on_thread([object = segment.object, pages = segment.pages, post = post_, end] {
      const Status settled = settle_file(object->file.get(), pages);
      (*post)([end, settled] { end(settled); });
    });
  });
  const auto copy = step([this, id, settle](Linked&) {
    on_shards(
        [id](Shard& shard) -> std::optional<Status> {
          const Result<bool> all = shard.cut_some(id, kCutAtOnce);
          if (!all) return Status(all.error());
          return *all ? std::optional(Status()) : std::nullopt;
        },
        settle);
  });
  const auto fetch =
      step([this, copy](Linked& segment) { fetch_all(segment, /*lossy=*/false, copy); });
  const auto keep = step([this, id, lossy, fetch](Linked& segment) {
    segment.lost->accept_zeros(lossy);
    on_shards(
        [id](Shard& shard) {
          shard.begin_cut(id);
          return Status{};
        },
        fetch);
  });
  fetch_all(found->second, lossy, keep);
}

void Segments::sync(const std::string& name, const Done& done) {
  const auto found = linked_.find(name);
  if (found == linked_.end() || found->second.busy) return done(busy_error());
  Linked& segment = found->second;
  if (segment.object->is_segment())
    return done(make_error(ErrorCode::kInvalidArgument,
                           "it is a segment, which has no disk", EINVAL));
  segment.busy = true;
  on_thread([this, name, done, object = segment.object, pages = segment.pages,
             taken = segment.taken, post = post_] {
    const Status synced = sync_linked_file(object->file.get(), pages, *taken);
    (*post)([this, name, done, synced] {
      if (const auto file = linked_.find(name); file != linked_.end()) file->second.busy = false;
      done(synced);
    });
  });
}

void Segments::end_link(const std::string& name, const Done& done) {
  const Linked& segment = linked_[name];
  on_thread([this, name, done, device = device_, link = segment.link, cookie = segment.cookie,
             mapping = segment.mapping, post = post_] {
    const Status ended = device->unlink(link);
    (*post)([this, name, done, ended, link, cookie, mapping] {
      if (!ended) return done(ended);
      links_->remove(link);
      linked_.erase(name);
      ended_.erase(cookie);  // its container may have gone meanwhile
      on_shards(
          [mapping](Shard& shard) {
            shard.remove_mapping(mapping);
            return Status{};
          },
          done);
    });
  });
}

}  // namespace gob
