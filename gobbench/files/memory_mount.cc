#include "gobbench/files/memory_mount.h"

#define FUSE_USE_VERSION 312
#include <fuse3/fuse_lowlevel.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "gobbench/page_pattern.h"
#include "libgob/file/mount_point.h"

namespace gob::bench {
namespace {

constexpr fuse_ino_t kFile = 2;
constexpr std::string_view kName = "file";
constexpr unsigned kThreads = 4;
constexpr double kForEverSeconds = 1e9;
constexpr unsigned kMostBytes = 1u << 20;  // of one request
constexpr std::uint16_t kMaxBackground = 64;

// What a thread of the mount asks its own thread at the server's place for.
struct Wanted {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};
thread_local int t_socket = -1;  // of a thread of the mount; -1: the bytes are here

}  // namespace

class MemoryMount::Server {
 public:
  explicit Server(std::uint64_t bytes) {
    words_.reserve(bytes / sizeof(std::uint64_t));
    for (std::size_t page = 0; page < bytes / kPageSize; ++page)
      for (std::size_t word = 0; word < kPageWords; ++word) words_.push_back(pattern(page, word));
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() {
    if (session_ == nullptr) return;
    gob::file::abort_mount(folder_);  // ends the threads' reads, while their descriptor is open
    threads_.clear();
    ends_.clear();  // whoever serves them sees the end
    fuse_session_unmount(session_);
    fuse_session_destroy(session_);
  }

  Status connect(const TcpPlaces& places) {
    for (unsigned i = 0; i < kThreads; ++i) {
      Result<TcpConnection> ends = connect_tcp(places);
      if (!ends) return ends.error();
      ends_.push_back(std::move(ends->client));
      try {
        servers_.emplace_back([this, fd = std::move(ends->server)] { answer(fd.get()); });
      } catch (const std::system_error& error) {
        return make_error(ErrorCode::kSystem, "cannot start the threads of a server",
                          error.code().value());
      }
    }
    return {};
  }

  Status mount(const std::string& folder) {
    char name[] = "gobbench";
    char* arguments[] = {name};
    fuse_args args = FUSE_ARGS_INIT(1, arguments);
    const fuse_lowlevel_ops table = operations();
    session_ = fuse_session_new(&args, &table, sizeof table, this);
    fuse_opt_free_args(&args);
    if (session_ == nullptr)
      return make_error(ErrorCode::kSystem, "cannot start a FUSE session for " + folder);
    if (fuse_session_mount(session_, folder.c_str()) != 0) {
      const int error = errno;
      fuse_session_destroy(std::exchange(session_, nullptr));
      return make_error(ErrorCode::kSystem, "cannot mount at " + folder, error);
    }
    folder_ = folder;
    gob::file::set_read_ahead(folder, kMostBytes);
    try {
      for (unsigned i = 0; i < kThreads; ++i)
        threads_.emplace_back([this, i] { serve(ends_.empty() ? -1 : ends_[i].get()); });
    } catch (const std::system_error& error) {
      return make_error(ErrorCode::kSystem, "cannot start the threads of a mount",
                        error.code().value());
    }
    return {};
  }

 private:
  static Server& of(fuse_req_t req) { return *static_cast<Server*>(fuse_req_userdata(req)); }

  // At the server's place: until the other end is closed.
  void answer(int fd) const {
    Wanted wanted;
    const auto* const bytes = reinterpret_cast<const std::byte*>(words_.data());
    while (receive_all(fd, reinterpret_cast<std::byte*>(&wanted), sizeof wanted))
      if (!send_all(fd, bytes + wanted.offset, wanted.size)) return;
  }

  void serve(int socket) {
    t_socket = socket;
    fuse_buf buffer{};
    while (fuse_session_exited(session_) == 0) {
      const int got = fuse_session_receive_buf(session_, &buffer);
      if (got == -EINTR || got == -EAGAIN) continue;
      if (got <= 0) break;
      fuse_session_process_buf(session_, &buffer);
    }
    std::free(buffer.mem);
  }

  [[nodiscard]] struct stat attributes(fuse_ino_t inode) const {
    struct stat out {};
    out.st_ino = inode;
    out.st_mode = inode == kFile ? S_IFREG | 0444 : S_IFDIR | 0555;
    out.st_nlink = 1;
    out.st_size = inode == kFile ? static_cast<off_t>(words_.size() * sizeof(std::uint64_t)) : 0;
    return out;
  }

  static void init(void*, fuse_conn_info* connection) {
    connection->want |= connection->capable & (FUSE_CAP_ASYNC_READ | FUSE_CAP_EXPLICIT_INVAL_DATA);
    connection->want &= ~(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
                          FUSE_CAP_SPLICE_MOVE);
    connection->max_readahead = kMostBytes;
    connection->max_write = kMostBytes;
    connection->max_background = kMaxBackground;
    connection->congestion_threshold = kMaxBackground * 3 / 4;
  }
  static void lookup(fuse_req_t req, fuse_ino_t, const char* name) {
    if (name != kName) {
      fuse_reply_err(req, ENOENT);
      return;
    }
    fuse_entry_param entry{};
    entry.ino = kFile;
    entry.attr = of(req).attributes(kFile);
    entry.attr_timeout = kForEverSeconds;
    entry.entry_timeout = kForEverSeconds;
    fuse_reply_entry(req, &entry);
  }
  static void getattr(fuse_req_t req, fuse_ino_t inode, fuse_file_info*) {
    const struct stat found = of(req).attributes(inode);
    fuse_reply_attr(req, &found, kForEverSeconds);
  }
  static void open(fuse_req_t req, fuse_ino_t, fuse_file_info* info) {
    info->keep_cache = 1;
    fuse_reply_open(req, info);
  }
  static void read(fuse_req_t req, fuse_ino_t, size_t size, off_t offset, fuse_file_info*) {
    const Server& self = of(req);
    const auto* const bytes = reinterpret_cast<const char*>(self.words_.data());
    const std::size_t all = self.words_.size() * sizeof(std::uint64_t);
    const std::size_t at = std::min(static_cast<std::size_t>(offset), all);
    const std::size_t count = std::min(size, all - at);
    if (t_socket < 0) {
      fuse_reply_buf(req, bytes + at, count);
      return;
    }
    thread_local std::vector<std::byte> buffer(kMostBytes);
    const Wanted wanted{at, count};
    if (count > buffer.size() ||
        !send_all(t_socket, reinterpret_cast<const std::byte*>(&wanted), sizeof wanted) ||
        !receive_all(t_socket, buffer.data(), count)) {
      fuse_reply_err(req, EIO);
      return;
    }
    fuse_reply_buf(req, reinterpret_cast<const char*>(buffer.data()), count);
  }
  static fuse_lowlevel_ops operations() {
    fuse_lowlevel_ops table{};
    table.init = init;
    table.lookup = lookup;
    table.getattr = getattr;
    table.open = open;
    table.read = read;
    return table;
  }

  std::vector<std::uint64_t> words_;
  fuse_session* session_ = nullptr;
  std::string folder_;
  std::vector<std::jthread> servers_;  // end when ends_ have
  std::vector<UniqueFd> ends_;         // by thread of the mount; empty: the bytes are here
  std::vector<std::jthread> threads_;
};

MemoryMount::MemoryMount(std::unique_ptr<Server> server, std::string path)
    : server_(std::move(server)), path_(std::move(path)) {}
MemoryMount::MemoryMount(MemoryMount&&) noexcept = default;
MemoryMount::~MemoryMount() = default;

Result<MemoryMount> MemoryMount::start(const std::string& folder, std::uint64_t bytes) {
  auto server = std::make_unique<Server>(bytes);
  if (Status mounted = server->mount(folder); !mounted) return mounted.error();
  return MemoryMount(std::move(server), folder + "/" + std::string(kName));
}

Result<MemoryMount> MemoryMount::start_remote(const std::string& folder, std::uint64_t bytes,
                                              const TcpPlaces& places) {
  auto server = std::make_unique<Server>(bytes);
  if (Status connected = server->connect(places); !connected) return connected.error();
  if (Status mounted = server->mount(folder); !mounted) return mounted.error();
  return MemoryMount(std::move(server), folder + "/" + std::string(kName));
}

}  // namespace gob::bench
