#include "libgob/runtime/segments.h"

#include <spdlog/spdlog.h>
#include <sys/prctl.h>

#include <cerrno>
#include <system_error>
#include <thread>

#include "libgob/container/container_record.h"
#include "libgob/linker/link_guardian.h"
#include "libgob/linker/take_in.h"

namespace gob {

void Segments::Post::operator()(std::function<void()> work) {
  const std::lock_guard lock(mutex);
  if (mailbox != nullptr) mailbox->post_reply(std::move(work));
}

Segments::Segments(std::shared_ptr<GobDevice> device, std::vector<Shard*> shards, Mailbox& mailbox)
    : device_(std::move(device)), shards_(std::move(shards)) {
  post_->mailbox = &mailbox;
}

Segments::~Segments() {
  const std::lock_guard lock(post_->mutex);
  post_->mailbox = nullptr;
}

Result<std::unique_ptr<Segments>> Segments::create(std::shared_ptr<GobDevice> device,
                                                   std::vector<Shard*> shards, Mailbox& mailbox) {
  std::unique_ptr<Segments> segments(new Segments(std::move(device), std::move(shards), mailbox));
  for (const GobDevice::Found& found : segments->device_->links()) {
    // What is in them belongs to a life of this node that the cluster has given up.
    const Status dropped = drop_link(*segments->device_, found);
    if (!dropped && dropped.error().errno_value == EIDRM) {
      // The segment was removed when that gobd was gone, and no program has it any more.
      if (Status ended = segments->device_->unlink(found.link); !ended)
        spdlog::debug("{}", ended.error().message());
      continue;
    }
    if (!dropped) return dropped.error();
    segments->ended_[found.cookie] = {found.link, {}};
    segments->links_->close(found.link);
    spdlog::warn("link {} of an earlier gobd: programs get SIGBUS until its segment or file is attached anew",
                 found.link);
  }
  if (Status status =
          segments->shards_[0]->serve_links(segments->device_, segments->links_);
      !status)
    return status.error();
  return segments;
}

// Threads may wait for programs as long as those like. None is waited for: all they have is theirs.
void Segments::on_thread(std::function<void()> work) {
  try {
    std::thread([work = std::move(work)] {
      ::prctl(PR_SET_NAME, "gob-segment");
      work();
    }).detach();
  } catch (const std::system_error& error) {
    spdlog::error("cannot start a thread for a linked segment or file: {}", error.what());
  }
}

// On every shard; then `done`, here, with the first error.
void Segments::on_shards(const ShardWork& work, const Done& done) {
  struct Round {
    std::size_t missing;
    Status status;
  };
  const auto round = std::make_shared<Round>(Round{shards_.size(), {}});
  const Told told = [round, done](const Status& status) {
    if (!status && round->status) round->status = status;
    if (--round->missing == 0) done(round->status);
  };
  for (Shard* shard : shards_) on_shard(*shard, work, told, post_);
}

void Segments::on_shard(Shard& shard, const ShardWork& work, const Told& told,
                        const std::shared_ptr<Post>& post) {
  const bool posted = shard.post_reply([work, told, post](Shard& on) {
    const std::optional<Status> status = work(on);
    if (!status) return on_shard(on, work, told, post);  // behind what else waits there
    (*post)([told, status] { told(*status); });
  });
  if (!posted)
    (*post)([told] {
      told(make_error(ErrorCode::kUnavailable, "this node is ending", ESHUTDOWN));
    });
}

void Segments::open_file(const std::string& path, const std::optional<NewFile>& make,
                         Opened done) {
  on_thread([path, make, done, post = post_] {
    const auto opened = std::make_shared<Result<Linkable>>(open_plain_file(path, make));
    (*post)([done, opened] { done(std::move(*opened)); });
  });
}

void Segments::link(const std::string& name, Linkable object, bool keep, Taken done) {
  Linked& linked = linked_[name];
  linked.object = std::make_shared<const Linkable>(std::move(object));
  linked.pages = pages_of(linked.object->size_bytes);
  linked.cookie = link_cookie(linked.object->identity, linked.pages);
  std::uint32_t old = 0;
  if (const auto ended = ended_.extract(linked.cookie)) {
    old = ended.mapped().link;
    links_->hold(old);
    on_shards([id = ended.mapped().mapping](Shard& shard) {
      shard.remove_mapping(id);
      return Status{};
    }, [](const Status&) {});
  }
  on_thread([this, name, keep, done, old, device = device_, links = links_, post = post_,
             object = linked.object, pages = linked.pages, cookie = linked.cookie,
             first = shards_[0]] {
    std::uint32_t link = old;
    Result<UniqueFd> image = UniqueFd();
    if (old == 0) {
      links->begin_linking();
      const auto made = device->link(object->file.get(), cookie, !object->is_segment());
      if (made)
        links->hold(link = *made);
      else
        image = made.error();
      links->end_linking();
    }
    const auto retry = [post, first] {
      (*post)([first] { first->post_reply([](Shard& shard) { shard.retry_requests(); }); });
    };
    if (link != 0 && keep) {
      image = object->is_segment() ? take_in_segment(*device, link, pages)
                                   : take_in_file(*device, *links, link, *object, retry);
    } else if (link != 0) {
      if (Status dropped = drop_link(*device, {link, cookie}); !dropped) image = dropped.error();
    }
    const auto shared = std::make_shared<Result<UniqueFd>>(std::move(image));
    (*post)([this, name, done, link, shared] {
      linked_[name].link = link;
      if (*shared) return done(std::move(*shared));
      if (link != 0) {
        ended_[linked_[name].cookie] = {link, {}};
        close(link);
      }
      linked_.erase(name);
      done(std::move(*shared));
    });
  });
}

void Segments::close(std::uint32_t link) {
  links_->close(link);
  retry_requests();
}

void Segments::retry_requests() {
  shards_[0]->post_reply([](Shard& shard) { shard.retry_requests(); });
}

void Segments::serve(const std::string& name, const Mapping::Config& config, Done done) {
  Linked& linked = linked_[name];
  linked.mapping = config.id;
  linked.container = config.container;
  const auto mapping = Mapping::of_link({device_, linked.link, linked.lost, linked.taken}, config);
  on_shards(
      [mapping, first = shards_[0]](Shard& shard) {
        return shard.add_mapping(mapping, &shard == first);
      },
      [this, name, done](const Status& added) {
        const auto found = linked_.find(name);
        if (found == linked_.end())
          return done(make_error(ErrorCode::kNotFound, "its container was removed meanwhile", EIDRM));
        if (added) {
          found->second.busy = false;
          links_->serve(found->second.link, {found->second.mapping, found->second.container});
          retry_requests();
        } else {
          ended_[found->second.cookie] = {found->second.link, found->second.mapping};
          close(found->second.link);
          linked_.erase(found);
        }
        done(added);
      });
}

void Segments::give_up(const std::string& name) {
  const auto linked = linked_.extract(name);
  if (!linked) return;
  ended_[linked.mapped().cookie] = {linked.mapped().link, {}};
  close(linked.mapped().link);
}

void Segments::removed(ContainerId id) {
  std::erase_if(linked_, [&](const auto& entry) {
    const Linked& segment = entry.second;
    if (segment.container != id) return false;
    ended_[segment.cookie] = {segment.link, segment.mapping};
    close(segment.link);
    spdlog::warn("container {} is gone: programs that use {} get SIGBUS or EIO", entry.first,
                 segment.object->name());
    return true;
  });
}

const Linkable* Segments::of(ContainerId id) const {
  for (const auto& [name, segment] : linked_)
    if (segment.container == id) return segment.object.get();
  return nullptr;
}

std::vector<std::string> Segments::names() const {
  std::vector<std::string> names;
  for (const auto& [name, segment] : linked_) names.push_back(name);
  return names;
}

}  // namespace gob
