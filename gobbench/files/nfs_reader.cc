#include "gobbench/files/nfs_reader.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>

// After the headers of the system, whose types they need.
#include <nfsc/libnfs.h>
// clang-format keeps this line apart: it needs the types above.
#include <nfsc/libnfs-raw-nfs4.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <thread>

namespace gob::bench {
namespace {

constexpr int kTimeoutMs = 30'000;

class Client {
 public:
  explicit Client(const NfsPlace& place) : place_(place), nfs_(nfs_init_context()) {}
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client() {
    if (file_ != nullptr) nfs_close(nfs_, file_);
    if (nfs_ != nullptr) nfs_destroy_context(nfs_);
  }

  Result<double> read(const ReadPlan& plan) {
    if (Status opened = open(); !opened) return opened.error();
    plan_ = &plan;
    offsets_ = read_offsets(plan);
    slots_.resize(plan.depth);
    const auto begin = std::chrono::steady_clock::now();
    for (Slot& slot : slots_) {
      slot.client = this;
      slot.bytes.resize(plan.request_bytes);
      start_next(slot);
    }
    while (under_way_ > 0 && failure_) serve();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    if (!failure_) return failure_.error();
    return took.count();
  }

 private:
  // One read of the plan.
  struct Slot {
    Client* client = nullptr;
    std::vector<std::byte> bytes;
    std::uint64_t offset = 0;  // of the read
    std::uint64_t wanted = 0;
    std::uint64_t got = 0;
  };

  Error failed(const std::string& what) const {
    const char* why = nfs_ == nullptr ? nullptr : nfs_get_error(nfs_);
    return make_error(ErrorCode::kSystem, "NFS: cannot " + what + " " + place_.path + " of " +
                                              place_.host + ": " +
                                              (why == nullptr ? "it gave no reason" : why));
  }

  Status open() {
    if (nfs_ == nullptr) return failed("reach");
    nfs_set_version(nfs_, NFS_V4);
    nfs_set_timeout(nfs_, kTimeoutMs);
    nfs_set_autoreconnect(nfs_, 0);
    const std::filesystem::path path(place_.path);
    const std::string url = "nfs://" + place_.host + path.parent_path().string() +
                            "?version=4&nfsport=" + std::to_string(place_.port);
    const std::unique_ptr<nfs_url, void (*)(nfs_url*)> parsed(nfs_parse_url_dir(nfs_, url.c_str()),
                                                              nfs_destroy_url);
    if (parsed == nullptr || nfs_mount(nfs_, parsed->server, parsed->path) != 0)
      return failed("mount the folder of");
    const std::string name = "/" + path.filename().string();
    if (nfs_open(nfs_, name.c_str(), O_RDONLY, &file_) != 0) return failed("open");
    return {};
  }

  void start_next(Slot& slot) {
    if (next_ == offsets_.size()) return;
    slot.offset = offsets_[next_++];
    slot.wanted = std::min(plan_->request_bytes, plan_->file_bytes - slot.offset);
    slot.got = 0;
    ++under_way_;
    ask(slot);
  }

  void ask(Slot& slot) {
    // The server may give less than that; then the rest is asked for.
    if (nfs_pread_async(nfs_, file_, slot.offset + slot.got, slot.wanted - slot.got, on_read,
                        &slot) != 0)
      failure_ = failed("read");
  }

  static void on_read(int count, nfs_context* /*nfs*/, void* data, void* private_data) {
    Slot& slot = *static_cast<Slot*>(private_data);
    Client& client = *slot.client;
    if (!client.failure_) return;
    if (count <= 0) {
      client.failure_ = client.failed("read");
      return;
    }
    const auto size = std::min<std::uint64_t>(static_cast<unsigned>(count), slot.wanted - slot.got);
    std::copy_n(static_cast<const std::byte*>(data), size,
                slot.bytes.begin() + static_cast<std::ptrdiff_t>(slot.got));
    slot.got += size;
    if (slot.got < slot.wanted) return client.ask(slot);
    --client.under_way_;
    if (!right_bytes(std::span(slot.bytes).first(slot.wanted), slot.offset)) {
      client.failure_ = make_error(ErrorCode::kLost, "NFS: " + client.place_.path +
                                                         " holds wrong bytes near offset " +
                                                         std::to_string(slot.offset));
      return;
    }
    client.start_next(slot);
  }

  void serve() {
    pollfd socket = {nfs_get_fd(nfs_), static_cast<short>(nfs_which_events(nfs_)), 0};
    const int ready = ::poll(&socket, 1, kTimeoutMs);
    if (ready < 0 && errno == EINTR) return;
    if (ready == 0) {
      failure_ = make_error(ErrorCode::kTimedOut, "NFS: no answer of " + place_.host + " in 30 s",
                            ETIMEDOUT);
    } else if (ready < 0 || nfs_service(nfs_, socket.revents) != 0) {
      failure_ = failed("go on reading");
    }
  }

  const NfsPlace& place_;
  nfs_context* nfs_;
  nfsfh* file_ = nullptr;
  const ReadPlan* plan_ = nullptr;
  std::vector<std::uint64_t> offsets_;
  std::size_t next_ = 0;
  std::vector<Slot> slots_;
  unsigned under_way_ = 0;
  Status failure_;
};

}  // namespace

Result<double> read_nfs(const NfsPlace& place, const ReadPlan& plan) {
  Result<double> seconds = 0.0;
  // A thread of its own: setns() moves the thread that calls it.
  std::thread([&] {
    if (place.netns_fd >= 0 && ::setns(place.netns_fd, CLONE_NEWNET) != 0)
      seconds = system_error("cannot enter a network namespace");
    else
      seconds = Client(place).read(plan);
  }).join();
  return seconds;
}

}  // namespace gob::bench
