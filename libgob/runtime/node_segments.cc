// The linker of the patched kernel, and the System V segments and files that are attached through it.
#include <spdlog/spdlog.h>

#include <ctime>
#include <functional>

#include "libgob/base/size.h"
#include "libgob/linker/link_guardian.h"
#include "libgob/runtime/describe.h"
#include "libgob/runtime/node.h"

namespace gob {

namespace {

// What this gobd is called at /dev/gob, in all its lives: its cluster and node, as a number since the
// kernel takes 15 bytes.
std::string service_name(const DaemonConfig& config) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : config.cluster + '\n' + config.node)
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  char name[16];
  std::snprintf(name, sizeof name, "gob%012llx",
                static_cast<unsigned long long>(hash & 0xffffffffffffu));
  return name;
}

bool may_link(const ContainerRecord& record) {
  return record.kind == ContainerKind::kSegment || record.kind == ContainerKind::kMemory;
}

}  // namespace

Status Node::open_linker() {
  if (config_.linker == "userfaultfd") {
    linker_reason_ = "this node is configured so";
    return {};
  }
  const std::string service = service_name(config_);
  Result<std::shared_ptr<GobDevice>> device = GobDevice::open(service, config_.page_timeout_ms);
  Result<UniqueFd> guardian = UniqueFd();
  if (device) guardian = start_link_guardian(service, config_.page_timeout_ms);
  if (device && guardian) {
    device_ = std::move(*device);
    guardian_ = std::move(*guardian);
    spdlog::info("linker: the kernel's, through /dev/gob");
    return {};
  }
  const Error why = device ? guardian.error() : device.error();
  if (config_.linker == "kernel")
    return make_error(why.code,
                      "no kernel linker, which linker = kernel demands: " + why.context +
                          "; use linker = auto to go without",
                      why.errno_value);
  linker_reason_ = why.message();
  spdlog::info("linker: userfaultfd; {}", linker_reason_);
  return {};
}

void Node::attach_segment(const control::Attach& request, Responder responder) {
  const std::string& name = request.name();
  if (segments_ == nullptr)
    return responder.fail(make_error(
        ErrorCode::kUnsupported,
        std::string(request.link() ? "cannot link a file" : "cannot attach a segment") +
            " without the kernel's linker: " + linker_reason_,
        EOPNOTSUPP));
  if (segments_->contains(name))
    return responder.fail(make_error(ErrorCode::kAlreadyExists,
                                     "a segment or file of this node is attached as " +
                                         quoted(name) + " already",
                                     EEXIST));
  const auto waiting = std::make_shared<Responder>(std::move(responder));
  const auto link = [this, name, waiting](Result<Linkable> opened) {
    if (!opened) return waiting->fail(opened.error());
    link_segment(name, std::make_shared<Linkable>(std::move(*opened)), waiting);
  };
  if (!request.link()) return link(open_segment(request.segment_key()));
  std::optional<NewFile> make;
  if (const ContainerRecord* record = table_->find(name);
      record != nullptr && may_link(*record))
    make = NewFile{record->size_bytes, record->mode, record->uid, record->gid};
  segments_->open_file(request.path(), make, link);
}

void Node::link_segment(const std::string& name, std::shared_ptr<Linkable> segment,
                        const std::shared_ptr<Responder>& responder) {
  if (segments_->contains(name))
    return responder->fail(make_error(ErrorCode::kUnavailable, "it was attached twice", EBUSY));
  if (const ContainerRecord* record = table_->find(name))
    return join_segment(*record, segment, responder);
  make_segment_container(name, segment, responder);
}

// The first node: the container gets what is in its segment.
void Node::make_segment_container(const std::string& name, std::shared_ptr<Linkable> segment,
                                  std::shared_ptr<Responder> responder) {
  ContainerTable::NewContainer wanted;
  wanted.name = name;
  wanted.size_bytes = segment->size_bytes;
  wanted.mode = segment->mode;
  wanted.created_unix_ms = static_cast<std::uint64_t>(::time(nullptr)) * 1000;
  wanted.home = self_;
  wanted.kind = ContainerKind::kSegment;
  wanted.source = segment->name();
  container::Actions actions;
  const std::uint64_t id = table_->create(wanted, {segment->uid, segment->gid, {}}, actions);
  own_containers_[id] = [this, name, segment, responder](const Result<ContainerRecord>& made) {
    // Another node may have been first.
    if (!made && made.error().code == ErrorCode::kAlreadyExists && table_->find(name) != nullptr)
      return link_segment(name, segment, responder);
    if (!made) return responder->fail(made.error());
    if (segments_->contains(name))
      return responder->fail(make_error(ErrorCode::kUnavailable, "it was attached twice", EBUSY));
    segments_->link(name, std::move(*segment), /*keep=*/true,
                    [this, record = *made, responder](Result<UniqueFd> image) {
                      segment_taken(record, std::move(image), responder);
                    });
  };
  perform(actions);
}

void Node::segment_taken(const ContainerRecord& record, Result<UniqueFd> image,
                         const std::shared_ptr<Responder>& responder) {
  if (!image) {
    drop_file_container(record.name);
    return responder->fail(image.error());
  }
  files_->bind(record.info.id, std::move(*image), record.info.pages * kPageSize,
               [this, record, responder](const Status& bound) {
                 static_cast<void>(mailbox_.post_reply([this, record, responder, bound] {
                   if (bound) return serve_segment(record, false, responder);
                   segments_->give_up(record.name);
                   drop_file_container(record.name);
                   responder->fail(bound.error());
                 }));
               });
}

// The container is there: the segment gets its pages, and forgets what it had.
void Node::join_segment(const ContainerRecord& record, std::shared_ptr<Linkable> segment,
                        const std::shared_ptr<Responder>& responder) {
  const auto refuse = [&](ErrorCode code, const std::string& why, int error) {
    responder->fail(make_error(code, "cannot attach " + segment->name() + " as " +
                                         quoted(record.name) + ": " + why,
                               error));
  };
  if (!may_link(record))
    return refuse(ErrorCode::kAlreadyExists, "files are attached under this name", EEXIST);
  // The pages that no node has would be those of its file, which has been on its own meanwhile.
  if (!segment->is_segment() && record.info.home == self_ &&
      record.creator.incarnation != transport_->incarnation())
    return refuse(ErrorCode::kUnavailable,
                  "the container is of an earlier life of this node; detach it first, then the file "
                  "is attached with what it has on the disk",
                  EBUSY);
  if (record.size_bytes != segment->size_bytes)
    return refuse(ErrorCode::kInvalidArgument,
                  "it has " + std::to_string(segment->size_bytes) + " bytes, the container " +
                      std::to_string(record.size_bytes),
                  EINVAL);
  for (const auto& [id, mapping] : mappings_)
    if (mapping.config.container == record.info.id)
      return refuse(ErrorCode::kUnavailable,
                    "a program of this node has the container mapped through libgob", EBUSY);
  if (segments_->contains(record.name))
    return refuse(ErrorCode::kAlreadyExists, "a segment or file of this node is attached so already",
                  EEXIST);
  segments_->link(record.name, std::move(*segment), /*keep=*/false,
                  [this, record, responder](const Result<UniqueFd>& taken) {
                    if (!taken) return responder->fail(taken.error());
                    serve_segment(record, true, responder);
                  });
}

void Node::serve_segment(const ContainerRecord& record, bool joined,
                         const std::shared_ptr<Responder>& responder) {
  Mapping::Config config;
  config.id = MappingId{next_mapping_++};
  config.container = record.info.id;
  config.pages = record.info.pages;
  config.writable = true;
  segments_->serve(record.name, config, [this, record, joined, responder](const Status& serves) {
    if (!serves) {
      if (!joined) drop_file_container(record.name);
      return responder->fail(serves.error());
    }
    const Linkable* segment = segments_->of(record.info.id);
    spdlog::info("{} is container {}{}", segment == nullptr ? "what is gone" : segment->name(),
                 quoted(record.name), joined ? "" : ", with what was in it");
    control::Reply reply;
    describe(record, *reply.mutable_container()->mutable_container());
    reply.mutable_container()->set_joined(joined);
    responder->reply(std::move(reply));
  });
}

// This node's segment keeps the bytes. The container goes with its home's.
void Node::detach_segment(const std::string& name, bool lossy, Responder responder) {
  const ContainerRecord* record = table_->find(name);
  const bool own = record != nullptr && record->kind == ContainerKind::kSegment &&
                   record->info.home == self_;
  const auto waiting = std::make_shared<Responder>(std::move(responder));
  const auto remove = [this, name, own, waiting](const Segments::Pages& zeros) {
    control::Reply reply;
    for (const PageRun& run : runs_of(zeros)) {
      control::PageRun& lost = *reply.mutable_detach()->add_lost();
      lost.set_first(run.first);
      lost.set_count(run.count);
    }
    if (!own) return waiting->reply(std::move(reply));
    container::Actions actions;
    const std::uint64_t id = table_->remove(name, {}, actions);
    own_containers_[id] = [waiting, reply](const Result<ContainerRecord>& removed) {
      if (!removed) return waiting->fail(removed.error());
      waiting->reply(control::Reply(reply));
    };
    perform(actions);
  };
  if (segments_ != nullptr && segments_->contains(name))
    return segments_->cut(name, lossy, [name, remove, waiting](const Result<Segments::Pages>& cut) {
      if (!cut) return waiting->fail(cut.error());
      spdlog::info("what was linked to {} is detached", quoted(name));
      if (!cut->empty())
        spdlog::warn("{} pages of {} were lost, and are zeros in what was linked to it: {}",
                     cut->size(), quoted(name), to_words(runs_of(*cut), runs_of(*cut).size()));
      remove(*cut);
    });
  // Its home is one that has started anew, or is away for good: nobody else can end it.
  const ViewRecord* view = membership_->record();
  if (own || (record != nullptr && view != nullptr && !view->view.contains(record->info.home))) {
    container::Actions actions;
    const std::uint64_t id = table_->remove(name, {}, actions);
    return await_table(id, {}, {}, std::move(*waiting), actions);
  }
  waiting->fail(make_error(ErrorCode::kNotFound,
                           "no segment or file of this node is attached as " + quoted(name), ENOENT));
}

void Node::sync(const PeerCredentials& peer, const control::Sync& request, Responder responder) {
  const std::string& name = request.name();
  if (peer.uid != 0 && peer.uid != ::geteuid())
    return responder.fail(make_error(ErrorCode::kPermissionDenied,
                                     "only root and the user that runs gobd may sync linked files",
                                     EPERM));
  if (segments_ == nullptr || !segments_->contains(name))
    return responder.fail(make_error(
        ErrorCode::kNotFound, "no file of this node is linked to " + quoted(name), ENOENT));
  const auto waiting = std::make_shared<Responder>(std::move(responder));
  segments_->sync(name, [name, waiting](const Status& synced) {
    if (!synced)
      return waiting->fail(make_error(synced.error().code,
                                      "cannot sync " + quoted(name) + ": " + synced.error().context,
                                      synced.error().errno_value));
    waiting->done();
  });
}

// One after the other; then `then`, whether that has worked or not: the log says.
void Node::cut_segments(std::function<void()> then) {
  const std::vector<std::string> names = segments_->names();
  if (names.empty()) return then();
  const auto left = std::make_shared<std::size_t>(names.size());
  for (const std::string& name : names)
    segments_->cut(name, /*lossy=*/false, [name, left, then](const Result<Segments::Pages>& cut) {
      if (!cut)
        spdlog::error("what is linked to {} does not keep its bytes: {}", quoted(name),
                      cut.error().message());
      if (--*left == 0) then();
    });
}

}  // namespace gob
