// The containers of files: their bytes in the memory of whatever nodes read them. A file gets one
// when it is first opened for reading, and keeps it as long as some node's kernel knows the file.
// Its pages are never written: changes go to the file, and the pages are forgotten; unless programs
// have it mapped for writing (file_server_mapped.cc).
#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <future>
#include <optional>
#include <sstream>
#include <system_error>
#include <utility>
#include <vector>

#include "libgob/base/file_limit.h"
#include "libgob/container/container_record.h"
#include "libgob/file/file_server.h"
#include "libgob/file/impersonate.h"

namespace gob::file {

namespace {

// A file as the host knows it whatever becomes of its name: type and bytes of its handle.
constexpr std::size_t kMaxHandleBytes = MAX_HANDLE_SZ;
struct Handle {
  file_handle head;
  unsigned char bytes[kMaxHandleBytes];
};

// What a container says of where its bytes are: by which attachment the file was first reached, on
// which file system it is, and its handle there.
struct Source {
  ContainerId attached;
  std::uint64_t file_system = 0;  // 0: not known
  Handle handle{};
};

// A number that most file systems keep when they are mounted anew; some (XFS) only as long as their
// device has the same number, some (NFS, FUSE) have none.
std::uint64_t file_system_of(int fd) {
  struct statfs status {};
  std::uint64_t id = 0;
  static_assert(sizeof id == sizeof status.f_fsid);
  if (::fstatfs(fd, &status) == 0) std::memcpy(&id, &status.f_fsid, sizeof id);
  return id;
}

std::string source_of(const File& file) {
  Handle handle{};
  handle.head.handle_bytes = kMaxHandleBytes;
  int mount = 0;
  if (::name_to_handle_at(file.path.get(), "", &handle.head, &mount, AT_EMPTY_PATH) != 0)
    return "-";  // this file system has none
  std::string text = std::to_string(file.attached.value()) + "," +
                     std::to_string(file_system_of(file.path.get())) + ":" +
                     std::to_string(handle.head.handle_type) + ":";
  for (unsigned i = 0; i < handle.head.handle_bytes; ++i) {
    constexpr const char* kDigits = "0123456789abcdef";
    text += kDigits[handle.bytes[i] >> 4];
    text += kDigits[handle.bytes[i] & 15];
  }
  return text;
}

// Nothing: not what source_of() makes, or made in earlier versions, without the file system.
std::optional<Source> parse_source(const std::string& source) {
  std::istringstream text(source);
  Source parsed;
  Handle& handle = parsed.handle;
  std::uint32_t id = 0;
  char comma = 0;
  char colons[2] = {};
  std::string digits;
  text >> id;
  if (text.peek() == ',') text >> comma >> parsed.file_system;
  if (!(text >> colons[0] >> handle.head.handle_type >> colons[1] >> digits) || colons[0] != ':' ||
      colons[1] != ':' || digits.size() % 2 != 0 || digits.size() / 2 > kMaxHandleBytes)
    return std::nullopt;
  parsed.attached = ContainerId{id};
  handle.head.handle_bytes = static_cast<unsigned>(digits.size() / 2);
  for (std::size_t i = 0; i < digits.size() / 2; ++i) {
    unsigned value = 0;
    const char* const at = digits.data() + 2 * i;
    if (std::from_chars(at, at + 2, value, 16).ptr != at + 2) return std::nullopt;
    handle.bytes[i] = static_cast<unsigned char>(value);
  }
  return parsed;
}

// The handle alone: the file may be reached by another attachment now.
std::string handle_of(const std::string& source) {
  const std::size_t colon = source.find(':');
  return colon == std::string::npos ? "" : source.substr(colon + 1);
}

Result<UniqueFd> open_again(Source source, const std::string& path, bool same_file_system) {
  const UniqueFd mount(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!mount) return system_error("cannot open " + path);
  const auto removed = [&] {
    return make_error(ErrorCode::kNotFound, "it was removed from " + path, ENOENT);
  };
  if (same_file_system && file_system_of(mount.get()) != source.file_system) return removed();
  UniqueFd file(
      ::open_by_handle_at(mount.get(), &source.handle.head, O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!file && errno == ESTALE) return removed();
  if (!file) return system_error("cannot open the file again, below " + path);
  // A handle leads anywhere on its file system; what is not in the folder is nobody's business.
  std::error_code error;
  const std::string place =
      std::filesystem::read_symlink(descriptor_path(file.get()), error).string();
  const std::string root =
      std::filesystem::read_symlink(descriptor_path(mount.get()), error).string();
  if (error || (place != root && !place.starts_with(root + "/")) || place.ends_with(" (deleted)"))
    return removed();
  return file;
}

}  // namespace

std::optional<ContainerId> FileServer::attachment_of(const std::string& source) {
  const auto parsed = parse_source(source);
  return parsed ? std::optional(parsed->attached) : std::nullopt;
}

void FileServer::reopen(const std::string& source, std::function<void(Result<UniqueFd>)> done) {
  const auto work = [this, source, done]() -> Result<UniqueFd> {
    const auto parsed = parse_source(source);
    std::string path;
    std::vector<std::string> others;  // by which it may have been reached as well
    if (parsed) {
      const std::lock_guard guard(mutex_);
      for (const auto& [attached, root] : roots_)
        if (attached == parsed->attached)
          path = root.path;
        else if (parsed->file_system != 0)
          others.push_back(root.path);
    }
    Result<UniqueFd> file =
        make_error(ErrorCode::kNotFound, "its folder is not attached any more", ESTALE);
    if (!path.empty()) file = open_again(*parsed, path, false);
    for (const std::string& other : others) {
      if (file) break;
      auto found = open_again(*parsed, other, true);
      // That it was removed is sure only if all can say so.
      if (found || file.error().code == ErrorCode::kNotFound) file = std::move(found);
    }
    return file;
  };
  if (!pool_.post([work, done] { done(work()); }))
    done(make_error(ErrorCode::kUnavailable, "too much is waiting for this node's disks", EAGAIN));
}

std::shared_ptr<LastWrites::Write> FileServer::reopened(const std::string& source) {
  const auto parsed = parse_source(source);
  if (!parsed) return nullptr;
  FileTable::Attachments attachments{parsed->attached};
  {
    const std::lock_guard guard(mutex_);
    if (!roots_.contains(parsed->attached))  // so any of the others may be what it is found by
      for (const auto& [other, root] : roots_) attachments.insert(other);
  }
  return last_writes_.begin(std::move(attachments), handle_of(source));
}

// Of a file that an earlier life of this node provided: all bytes go by one that was opened in this
// life, but for a cut.
bool FileServer::waits_for_last_write(const std::shared_ptr<Asked>& asked) {
  const Request& request = asked->request;
  const bool cuts = op_of(request) == FileOp::kSetAttributes && (request.set() & kSetSize) != 0;
  if (!cuts && op_of(request) != FileOp::kOpen) return false;
  const std::shared_ptr<File> file = table_.find(request.file());
  return file != nullptr &&
         last_writes_.after([&] { return handle_of(source_of(*file)); },
                            [this, asked] { pool_.resume([this, asked] { dispatch(asked); }); });
}

// Sees that every node knows the file's container. 0 or an errno; ENOSPC: there are too many.
int FileServer::need_container(File& file) {
  std::unique_lock lock(file.data_mutex);
  const auto settled = [&] { return file.data != File::Data::kOpening; };
  const auto fail = [&](const std::string& why) {
    log_.add("container", [&] {
      return "the bytes of " + place_of(file) +
             " get no container, so they are read at this node each time, and programs cannot map "
             "them for writing: " +
             why;
    });
  };
  const std::string too_late = "the cluster did not know it within " +
                               std::to_string(timeout_.count()) +
                               " ms (file_timeout_ms); look at the load of the nodes";
  if (!file.data_settled.wait_for(lock, timeout_, settled)) {
    fail(too_late);
    return EIO;
  }
  if (file.data == File::Data::kReady) return 0;
  file.data = File::Data::kOpening;
  lock.unlock();

  // With gobd's own rights: what the program may do is settled by its own open(2).
  be_gobd();
  UniqueFd fd(::open(descriptor_path(file.path.get()).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  int error = !fd || ::fstat(fd.get(), &status) != 0 ? errno : 0;
  const std::string name = "file-" + std::to_string(self_.value()) + "-" +
                           std::to_string(incarnation_) + "-" + std::to_string(file.number);
  ContainerId container;
  if (error == 0) {
    const auto made = std::make_shared<std::promise<Result<ContainerId>>>();
    std::future<Result<ContainerId>> result = made->get_future();
    store_.provide(name, source_of(file), std::move(fd), static_cast<std::uint64_t>(status.st_size),
                   [made](Result<ContainerId> given) { made->set_value(std::move(given)); });
    if (result.wait_for(timeout_) != std::future_status::ready) {
      error = EIO;
      fail(too_late);
      store_.withdraw({}, name);  // should it still come
    } else if (Result<ContainerId> given = result.get(); given) {
      container = *given;
    } else {
      error = given.error().errno_value != 0 ? given.error().errno_value : EIO;
      fail(given.error().message());
    }
  }
  lock.lock();
  file.data = error == 0 ? File::Data::kReady : File::Data::kNone;
  file.container = container;
  file.container_name = name;
  file.data_settled.notify_all();
  if (error == 0 && file.forgotten) {
    store_.withdraw(container, name);
  } else if (error == 0) {
    ++containers_;
    removals_.add(file.number, descriptor_path(file.path.get()));
  }
  lock.unlock();
  if (error == ENOSPC || error == EMFILE || error == ENFILE ||
      containers_ >= kMaxContainers / 4 * 3)
    make_room();
  if (error == 0) look_for_names(file.number);  // it may have been removed before it was watched
  return error;
}

// Nobody will find the file again whose last name is gone. The kernels of the nodes know it by that
// name all the same, and would keep it, with its container and its room on the disk, until they
// want the memory.
void FileServer::look_for_names(std::uint64_t number) {
  if (const std::shared_ptr<File> file = table_.find(number); file != nullptr)
    look_for_names(*file);
}

// Another file system in the tree may not answer: what is known of it must do.
void FileServer::look_for_names(File& file) {
  struct statx status {};
  if (file.of_gob ||
      ::statx(file.path.get(), "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_NLINK, &status) != 0 ||
      status.stx_nlink != 0)
    return;
  ++file.asked_to_forget;
  ask_to_forget(file);
}

void FileServer::ask_to_forget(const File& file) {
  for (const NodeId node : table_.holders(file.number)) {
    peer::FileBody body;
    body.mutable_gone()->set_incarnation(incarnation_);
    body.mutable_gone()->set_file(file.number);
    store_.send(node, std::move(body));
  }
}

// Each file that some node's kernel knows has a descriptor here, and up to three if its bytes are
// in memory. Kernels forget only when they want the memory: so they are asked to, of files that
// were not asked for for the longest time, before this process has no descriptor left, or the
// cluster no container; files of other homes take those, too.
void FileServer::make_room() {
  constexpr std::size_t kMostAtOnce = 1024;
  constexpr std::chrono::milliseconds kPause{20};  // kernels need some time
  using Clock = std::chrono::steady_clock;
  const Clock::time_point now = Clock::now();
  Clock::rep next = next_room_.load();
  if (now.time_since_epoch().count() < next ||
      !next_room_.compare_exchange_strong(next, (now + kPause).time_since_epoch().count()))
    return;
  if (!room_said_.exchange(true))
    spdlog::info(
        "nodes know {} files of this one, {} of them by containers: their kernels are asked to "
        "forget those that were not used for the longest time; \"ulimit -n\" says how many "
        "descriptors there may be",
        table_.files(), containers_.load());
  std::vector<std::shared_ptr<File>> files = table_.all();
  // What is mounted on a folder would go with its name.
  std::erase_if(files, [](const std::shared_ptr<File>& file) { return !file->regular; });
  const std::size_t count = std::min(kMostAtOnce, (files.size() + 1) / 2);
  // As they are now: others change them meanwhile.
  std::vector<std::pair<std::uint64_t, File*>> by_use;
  for (const std::shared_ptr<File>& file : files) by_use.emplace_back(file->used, file.get());
  std::ranges::nth_element(by_use, by_use.begin() + static_cast<std::ptrdiff_t>(count));
  for (std::size_t i = 0; i < count; ++i) {
    by_use[i].second->used = ++requests_;  // if it cannot go, it is others' turn
    ask_to_forget(*by_use[i].second);
  }
}

void FileServer::forgotten(File& file, const FileTable::Attachments& attachments) {
  // A change that waits for leases is still to be made, or refused: of a folder it may concern
  // others that are the same. Not here: whoever gave the file back may be answering a request of
  // it.
  pool_.resume([this, kept = file.shared_from_this()] {
    const std::lock_guard guard(kept->changes_mutex);
    resume(kept->changes.abandoned());
  });
  const std::lock_guard guard(file.data_mutex);
  file.forgotten = true;
  removals_.remove(file.number);
  if (file.data != File::Data::kReady) return;
  --containers_;
  if (file.mapped) return write_last(file.shared_from_this(), attachments);
  store_.withdraw(file.container, file.container_name);
}

}  // namespace gob::file
