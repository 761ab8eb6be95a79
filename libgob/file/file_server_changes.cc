// Changes of bytes and sizes. A change is made in the file; then every node forgets the pages of
// the range, and only then the program that asked hears of it. Before a change of the size the
// leases on it are taken back; no thread waits for that.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>

#include "libgob/base/ids.h"
#include "libgob/file/file_server.h"

namespace gob::file {

namespace {

// Whole pages, so that none is left that was cut. An end of kToEnd stands for the end of the file:
// pages behind it are zeros wherever they are, and what is written there forgets them.
FileRange from_byte(std::uint64_t offset) {
  return {offset / kPageSize * kPageSize, FileRange::kToEnd};
}
FileRange of_bytes(std::uint64_t offset, std::uint64_t length) {
  const std::uint64_t first = offset / kPageSize * kPageSize;
  const std::uint64_t end = (offset + length + kPageSize - 1) / kPageSize * kPageSize;
  return {first, end - first};
}

// Who changes a file whose attributes are kept waits for those who keep them: of a file that is
// written all the time nobody does.
bool rests(const peer::FileAttributes& attributes) {
  using std::chrono::nanoseconds;
  using std::chrono::seconds;
  constexpr std::chrono::milliseconds kRest{50};
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const peer::FileTime& changed = attributes.changed();
  return seconds(changed.seconds()) + nanoseconds(changed.nanoseconds()) + kRest < now;
}

}  // namespace

std::uint64_t size_of(const File& file) {
  struct stat status {};
  return ::fstat(file.path.get(), &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
}

void FileServer::dispatch(const std::shared_ptr<Asked>& asked) {
  if (locks(*asked->from, asked->request, asked->answer) || waits_for_last_write(asked)) return;
  if (!is_answered(op_of(asked->request))) {
    Reply unsaid;
    return work(*asked->from, asked->request, unsaid);
  }
  if (op_of(asked->request) == FileOp::kMap) return map(asked);
  if (op_of(asked->request) == FileOp::kWriteBack) return write_back(asked);
  if (const Effect effect = effect_of(*asked); effect.file != nullptr)
    return make_change(asked, effect);
  const bool leases = op_of(asked->request) == FileOp::kGetAttributes &&
                      asked->request.flags() == kWithLease &&
                      asked->request.incarnation() == incarnation_;
  const auto file = leases ? table_.find(asked->request.file()) : nullptr;
  if (file != nullptr) return lease(asked, file);
  if (needs_file_current(*asked)) return make_file_current(asked);
  change_names(asked, renamed_in(*asked), [] {});
}

void FileServer::answer_now(const std::shared_ptr<Asked>& asked) {
  std::vector<std::shared_ptr<File>> touched = touched_by(*asked);
  const std::uint64_t removed = removed_by(*asked);
  Reply reply;
  work(*asked->from, asked->request, reply);
  if (removed != 0 && reply.error() == 0) look_for_names(removed);
  const FileOp op = op_of(asked->request);
  const bool removes = op == FileOp::kUnlink || op == FileOp::kRename;
  std::erase_if(touched, [&](const std::shared_ptr<File>& file) {
    struct stat status {};
    const bool gone = removes && ::fstat(file->path.get(), &status) == 0 && status.st_nlink == 0;
    const std::lock_guard guard(file->changes_mutex);
    // That it is gone the kernel of who asked knows by itself, or will hear (look_for_names).
    return !file->kept || (gone && !file->changes.others_hold(asked->from->node));
  });
  if (touched.empty()) return answer_done(asked, std::move(reply));
  // Also if it failed: a part may have been done.
  const auto kept = std::make_shared<Reply>(std::move(reply));
  const auto left = std::make_shared<std::atomic<std::size_t>>(touched.size());
  for (const std::shared_ptr<File>& file : touched)
    take_attributes_back(file, [this, asked, kept, left] {
      if (--*left == 0) answer_done(asked, std::move(*kept));
    });
}

void FileServer::answer_done(const std::shared_ptr<Asked>& asked, Reply reply) {
  std::shared_ptr<File> file;
  if (reply.error() == 0 && reply.has_attributes())
    file = table_.find(reply.file() != 0 ? reply.file() : asked->request.file());
  if (file == nullptr) return asked->answer(std::move(reply));
  answer_settled(asked, file, std::move(reply));
}

// A kernel reads up to the size that it has heard of, by attributes or by a write of its own, out
// of pages that it has from before, and what was behind the end of the file are zeros there. So
// nobody hears of a size before all nodes have forgotten such pages: his own change may have ended
// before another that is in front of it in the file.
// Attributes for a kernel come with a lease if nodes may have pages: it cuts what it has to the
// size that it is told, so it must not be told an older one than that of its pages. It may keep
// them under that lease, where it looks whether it heard of a change since it asked: so not with
// the answers to what changes something.
void FileServer::answer_settled(const std::shared_ptr<Asked>& asked,
                                const std::shared_ptr<File>& file, Reply reply) {
  bool leases = reply.has_attributes() && op_of(asked->request) != FileOp::kWrite;
  if (leases) {
    const std::lock_guard guard(file->data_mutex);
    leases = file->data == File::Data::kReady;
  }
  const FileOp op = op_of(asked->request);
  const bool keeps = leases && (op == FileOp::kLookup || op == FileOp::kGetAttributes) &&
                     rests(reply.attributes());
  const auto kept = std::make_shared<Reply>(std::move(reply));
  const auto answer_anew = [this, asked, file, kept, keeps](std::uint64_t lease) {
    kept->set_lease(lease);
    if (keeps && lease != 0) {
      // Said before they are looked at: who changes them later sees it (take_attributes_back).
      const std::lock_guard guard(file->changes_mutex);
      kept->set_keep(!file->varies);
      file->kept |= kept->keep();
    }
    // If that fails the file is gone, and this is what it was last.
    if (kept->has_attributes()) static_cast<void>(fill(*file, *kept));
    asked->answer(std::move(*kept));
  };
  std::uint64_t lease = 0;
  {
    const std::lock_guard guard(file->changes_mutex);
    if (asked->from->over) return;
    if (leases)
      lease = file->changes.lease(asked->from->node, answer_anew);
    else if (file->changes.settled(asked->from->node, answer_anew))
      return asked->answer(std::move(*kept));
  }
  if (lease != 0) answer_anew(lease);
}

// What the request does to the bytes of which file.
FileServer::Effect FileServer::effect_of(const Asked& asked) const {
  const Request& request = asked.request;
  Effect effect;
  if (request.incarnation() != incarnation_) return effect;
  const auto grows = [&](std::uint64_t end) { return end > size_of(*effect.file); };
  switch (op_of(request)) {
    case FileOp::kOpen:
      if ((request.flags() & O_TRUNC) == 0) return effect;
      effect = {table_.find(request.file()), true, from_byte(0)};
      break;
    case FileOp::kSetAttributes:
      if ((request.set() & kSetSize) == 0) return effect;
      effect = {table_.find(request.file()), true, from_byte(request.attributes().size())};
      break;
    case FileOp::kWrite:
      effect.file = table_.find(request.file());
      if (effect.file == nullptr) return effect;
      effect.resizes =
          (request.flags() & O_APPEND) != 0 || grows(request.offset() + request.data().size());
      effect.range = of_bytes(request.offset(), request.data().size());
      break;
    case FileOp::kAllocate:
      effect = {table_.find(request.file()), true, from_byte(request.offset())};
      break;
    case FileOp::kCopyRange: {
      const auto target = table_.find_open(asked.from->node, request.to_handle());
      if (target == nullptr) return effect;
      effect = {target->file, true, of_bytes(request.to_offset(), request.size())};
      break;
    }
    default:
      break;
  }
  return effect;
}

void FileServer::make_change(const std::shared_ptr<Asked>& asked, const Effect& effect) {
  if (effect.resizes)
    return resize(effect.file, [this, asked, effect](const std::function<void()>& made) {
      apply(asked, effect, [this, asked, effect, made](Reply reply) {
        made();
        if (op_of(asked->request) == FileOp::kWrite)
          return answer_settled(asked, effect.file, std::move(reply));
        // Attributes are looked at, and not on a shard's thread: the disk may be slow.
        const auto kept = std::make_shared<Reply>(std::move(reply));
        pool_.resume(
            [this, asked, effect, kept] { answer_settled(asked, effect.file, std::move(*kept)); });
      });
    });
  const std::uint64_t before = size_of(*effect.file);
  apply(asked, effect, [this, asked, effect, before](Reply reply) {
    const auto kept = std::make_shared<Reply>(std::move(reply));
    // Not on the shard's thread that says that the pages are forgotten: the disk may be slow.
    pool_.resume([this, asked, effect, before, kept] {
      if (size_of(*effect.file) <= before && !is_kept(*effect.file))
        return answer_settled(asked, effect.file, std::move(*kept));
      // It was cut while the write was on its way, which then made it longer; or nodes keep the
      // times that it had before.
      resize(effect.file, [this, asked, effect, kept](const std::function<void()>& made) {
        made();
        answer_settled(asked, effect.file, std::move(*kept));
      });
    });
  });
}

// Has `change` done once no node has a lease on the size; it calls its argument when it is made.
void FileServer::resize(const std::shared_ptr<File>& file,
                        const std::function<void(const std::function<void()>&)>& change) {
  const auto begin = [this, file, change](std::uint64_t number) {
    {
      // All leases are back, and none is given before the change has ended.
      const std::lock_guard guard(file->changes_mutex);
      file->kept = false;
    }
    change([this, file, number] { end_change(file, number); });
  };
  ChangeGate::Begun begun;
  {
    const std::lock_guard guard(file->changes_mutex);
    begun = file->changes.begin(begin);
  }
  take_back(*file, begun);
  for (const auto& make : begun.ready) make();
}

bool FileServer::is_kept(File& file) {
  const std::lock_guard guard(file.changes_mutex);
  return file.kept;
}

// After a change of attributes: `then` is called once no node keeps those of before.
void FileServer::take_attributes_back(const std::shared_ptr<File>& file,
                                      const std::function<void()>& then) {
  if (!is_kept(*file)) return then();
  resize(file, [then](const std::function<void()>& made) {
    made();
    then();
  });
}

// The files whose attributes the request changes, but not their bytes. Nodes keep none of folders.
std::vector<std::shared_ptr<File>> FileServer::touched_by(const Asked& asked) const {
  const Request& request = asked.request;
  std::vector<std::shared_ptr<File>> files;
  if (request.incarnation() != incarnation_) return files;
  const auto add = [&](std::shared_ptr<File> file) {
    if (file != nullptr) files.push_back(std::move(file));
  };
  const auto add_named = [&](std::uint64_t number, const std::string& name) {
    const auto folder = table_.find(number);
    if (folder != nullptr) add(table_.find(table_.number_in(*folder, name)));
  };
  switch (op_of(request)) {
    case FileOp::kSetAttributes:
    case FileOp::kSetXattr:
    case FileOp::kRemoveXattr:
    case FileOp::kLink:
      add(table_.find(request.file()));
      break;
    case FileOp::kUnlink:
      add_named(request.file(), request.name());
      break;
    case FileOp::kRename:
      add_named(request.file(), request.name());
      add_named(request.to_file(), request.to_name());
      break;
    default:
      break;
  }
  return files;
}

// What may lose its name by the request, and that its watch does not tell of; but for what only the
// node knows that asks, whose kernel forgets it by itself.
std::uint64_t FileServer::removed_by(const Asked& asked) const {
  const Request& request = asked.request;
  const bool renames = op_of(request) == FileOp::kRename;
  if (op_of(request) != FileOp::kUnlink && op_of(request) != FileOp::kRemoveFolder && !renames)
    return 0;
  const auto folder = request.incarnation() == incarnation_
                          ? table_.find(renames ? request.to_file() : request.file())
                          : nullptr;
  if (folder == nullptr) return 0;
  const std::uint64_t number =
      table_.number_in(*folder, renames ? request.to_name() : request.name());
  const auto file = table_.find(number);
  if (file == nullptr || table_.holders(number) == std::vector{asked.from->node}) return 0;
  const std::lock_guard guard(file->data_mutex);
  return file->data == File::Data::kReady ? 0 : number;
}

void FileServer::take_back(const File& file, const ChangeGate::Begun& begun) {
  peer::FileBody body;
  peer::FileRevoke& revoke = *body.mutable_revoke();
  revoke.set_incarnation(incarnation_);
  revoke.set_file(file.number);
  revoke.set_number(begun.number);
  for (const NodeId node : begun.ask) store_.send(node, body);
}

// Makes the change in the file, and has every node forget the old pages.
void FileServer::apply(const std::shared_ptr<Asked>& asked, const Effect& effect,
                       const std::function<void(Reply)>& applied_now) {
  const auto by_pages = [this, asked, effect, applied_now] {
    begin_mapped(asked, effect, op_of(asked->request) != FileOp::kWrite, applied_now);
  };
  if (!begin_plain(*effect.file, by_pages)) return;
  const auto applied = [file = effect.file, applied_now](Reply reply) {
    end_plain(*file);
    applied_now(std::move(reply));
  };
  if (op_of(asked->request) == FileOp::kWrite) {
    const auto opened = table_.find_open(asked->from->node, asked->request.handle());
    if (opened != nullptr && is_synchronous(opened->fd.get()))
      return sync_pool_.resume(
          [this, asked, effect, applied] { apply_plain(asked, effect, applied); });
  }
  apply_plain(asked, effect, applied);
}

void FileServer::apply_plain(const std::shared_ptr<Asked>& asked, const Effect& effect,
                             const std::function<void(Reply)>& applied) {
  const auto reply = std::make_shared<Reply>();
  const std::uint64_t before = size_of(*effect.file);
  work(*asked->from, asked->request, *reply);
  FileRange range = effect.range;
  if (range.length == FileRange::kToEnd) {
    const std::uint64_t end = std::max(before, size_of(*effect.file));
    range = of_bytes(range.offset, end - std::min(end, range.offset));
  }
  if (op_of(asked->request) == FileOp::kWrite && (asked->request.flags() & O_APPEND) != 0) {
    // Others may have appended before and after it: it is somewhere in what came since.
    const std::uint64_t end = size_of(*effect.file);
    const std::uint64_t first = std::min(before, end - std::min(end, reply->value()));
    range = of_bytes(first, reply->value() == 0 ? 0 : end - first);
  }
  ContainerId container;
  {
    const std::lock_guard guard(effect.file->data_mutex);
    if (effect.file->data == File::Data::kReady) container = effect.file->container;
  }
  if (container == ContainerId{}) return applied(std::move(*reply));
  tell_size(*effect.file, container);
  if (range.length == 0) return applied(std::move(*reply));
  store_.data().discard(
      container, range, [this, reply, applied, asked, file = effect.file](const Status& forgot) {
        // Bytes that may be old somewhere are no success.
        if (!forgot && reply->error() == 0) {
          reply->set_error(EIO);
          log_failure("discard", *file, *asked,
                      "the file has the change, but not every node has forgotten what was there "
                      "before: " +
                          forgot.error().message() + "; do it again");
        }
        applied(std::move(*reply));
      });
}

// As it is now: of two that change it, the last that says so has seen both.
void FileServer::tell_size(File& file, ContainerId container) {
  const std::lock_guard guard(file.room_mutex);
  store_.data().set_size(container, size_of(file));
}

void FileServer::resume(ChangeGate::Works works) {
  for (auto& work : works) pool_.resume(std::move(work));
}

void FileServer::end_change(const std::shared_ptr<File>& file, std::uint64_t number) {
  ChangeGate::Works leases;
  ChangeGate::Begun next;
  {
    const std::lock_guard guard(file->changes_mutex);
    leases = file->changes.end(number);
    if (leases.empty()) next = file->changes.given();
  }
  if (leases.empty()) return begin_later(*file, next);
  // Before the next change takes them back, so that each is of some use.
  pool_.resume([this, file, leases] {
    for (const auto& give : leases) give();
    ChangeGate::Begun later;
    {
      const std::lock_guard guard(file->changes_mutex);
      later = file->changes.given();
    }
    begin_later(*file, later);
  });
}

void FileServer::begin_later(const File& file, ChangeGate::Begun& begun) {
  take_back(file, begun);
  resume(std::move(begun.ready));
}

void FileServer::lease(const std::shared_ptr<Asked>& asked, const std::shared_ptr<File>& file) {
  // The size cannot change before the node gives the lease back, which it may do before it has it.
  const auto give = [this, asked](std::uint64_t number) {
    Reply reply;
    work(*asked->from, asked->request, reply);
    reply.set_lease(number);
    asked->answer(std::move(reply));
  };
  std::uint64_t number = 0;
  {
    const std::lock_guard guard(file->changes_mutex);
    if (asked->from->over) return;  // nobody is there to be answered
    number = file->changes.lease(asked->from->node, give);
  }
  if (number != 0) give(number);
}

void FileServer::revoked(NodeId from, const peer::FileRevoked& revoked) {
  if (revoked.incarnation() != incarnation_) return;
  const std::shared_ptr<File> file = table_.find(revoked.file());
  if (file == nullptr) return;
  const std::lock_guard guard(file->changes_mutex);
  resume(file->changes.acknowledged(from, revoked.number()));
}

// The node is gone, and its lease with it.
void FileServer::let_go_changes(File& file, NodeId node) {
  const std::lock_guard guard(file.changes_mutex);
  resume(file.changes.node_gone(node));
}

}  // namespace gob::file
