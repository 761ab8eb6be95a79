#include "tests/client/fake_gobd.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "libgob/base/ids.h"
#include "libgob/linker/uffd_abi.h"
#include "libgob/runtime/control_server.h"
#include "libgob/runtime/control_wire.h"

namespace gob::test {
namespace {

using Owner = std::pair<ClientId, std::uint64_t>;

struct FakeContainer {
  std::uint32_t id = 0;
  std::uint64_t size_bytes = 0;
  UniqueFd memfd;
};
struct FakeMapping {
  ClientId client;
  std::uint64_t address = 0;
  bool stalls = false;
  UniqueFd uffd;
};
struct Waiting {
  Owner owner;
  Responder responder;
};
struct FakeLock {
  std::optional<Owner> owner;
  bool owner_died = false;
  std::vector<Waiting> waiting;
};

class Daemon : public ControlHandler {
 public:
  void on_request(ClientId client, const PeerCredentials&, const control::Request& request,
                  std::vector<UniqueFd> fds, Responder responder) override {
    switch (request.body_case()) {
      case control::Request::kHello:
        return hello(std::move(responder));
      case control::Request::kCreateContainer:
        return create(request.create_container(), std::move(responder));
      case control::Request::kOpenContainer:
        return open(request.open_container(), std::move(responder));
      case control::Request::kRemoveContainer:
        containers_.erase(request.remove_container().name());
        return responder.done();
      case control::Request::kMapContainer:
        return map(client, request.map_container(), std::move(responder));
      case control::Request::kMappingReady: {
        FakeMapping& mapping = mappings_.at(request.mapping_ready().mapping_id());
        mapping.address = request.mapping_ready().address();
        mapping.uffd = std::move(fds.at(0));
        return responder.done();
      }
      case control::Request::kUnmapContainer:
        mappings_.erase(request.unmap_container().mapping_id());
        return responder.done();
      case control::Request::kBarrier:
        return barrier(client, request.barrier(), std::move(responder));
      case control::Request::kLock:
        return lock(request.lock().name(), {client, request.lock().holder()},
                    request.lock().timeout_ms() == 0, std::move(responder));
      case control::Request::kUnlock:
        return unlock(request.unlock().name(), {client, request.unlock().holder()},
                      std::move(responder));
      case control::Request::kCondWait: {
        const auto& wait = request.cond_wait();
        const Owner owner{client, wait.holder()};
        conditions_[wait.cond()].push_back({owner, std::move(responder)});
        return grant_next(locks_[wait.lock()]);
      }
      case control::Request::kCondNotify:
        return notify(request.cond_notify(), std::move(responder));
      default:
        return responder.fail(make_error(ErrorCode::kUnsupported, "not in this fake"));
    }
  }

  void on_disconnect(ClientId client) override {
    std::erase_if(mappings_, [&](const auto& entry) { return entry.second.client == client; });
    for (auto& [name, lock] : locks_) {
      std::erase_if(lock.waiting, [&](const auto& w) { return w.owner.first == client; });
      if (lock.owner && lock.owner->first == client) {
        lock.owner_died = true;
        grant_next(lock);
      }
    }
  }

  void add_fds(std::vector<pollfd>& fds) const {
    for (const auto& [id, mapping] : mappings_) {
      if (mapping.uffd && !mapping.stalls) fds.push_back({mapping.uffd.get(), POLLIN, 0});
    }
  }

  static void serve_faults(int uffd) {
    uffd_msg message{};
    while (::read(uffd, &message, sizeof message) == sizeof message) {
      if (message.event != UFFD_EVENT_PAGEFAULT) continue;
      const auto& fault = message.arg.pagefault;
      const uffdio_range range{fault.address & ~(kPageSize - 1), kPageSize};
      // Another mapping may have filled the page, or another thread mapped it, in between.
      uffdio_zeropage zero{};
      zero.range = range;
      if (::ioctl(uffd, UFFDIO_ZEROPAGE, &zero) == 0 || errno != EEXIST) continue;
      uffdio_continue in_place{};
      in_place.range = range;
      if (::ioctl(uffd, UFFDIO_CONTINUE, &in_place) == 0 || errno != EEXIST) continue;
      uffdio_range wake = range;
      ::ioctl(uffd, UFFDIO_WAKE, &wake);
    }
  }

 private:
  static void hello(Responder responder) {
    control::Reply reply;
    control::HelloReply& body = *reply.mutable_hello();
    body.set_protocol_version(kControlVersion);
    body.set_node_id(1);
    body.set_node_name("beta");
    body.set_page_size(kPageSize);
    for (const char* name : {"alpha", "beta", "gamma"}) body.add_node_names(name);
    responder.reply(std::move(reply));
  }

  void create(const control::CreateContainer& request, Responder responder) {
    if (containers_.contains(request.name())) {
      return responder.fail(
          make_error(ErrorCode::kAlreadyExists,
                     "creating container \"" + request.name() + "\": the name is taken"));
    }
    FakeContainer container{next_id_++, request.size_bytes(),
                            UniqueFd(::memfd_create("fake", MFD_CLOEXEC))};
    const auto whole = (request.size_bytes() + kPageSize - 1) / kPageSize * kPageSize;
    if (::ftruncate(container.memfd.get(), static_cast<off_t>(whole)) != 0) {
      return responder.fail(system_error("ftruncate"));
    }
    containers_.emplace(request.name(), std::move(container));
    responder.done();
  }

  void open(const control::OpenContainer& request, Responder responder) {
    const auto found = containers_.find(request.name());
    if (found == containers_.end()) {
      return responder.fail(
          make_error(ErrorCode::kNotFound, "there is no container \"" + request.name() + "\""));
    }
    control::Reply reply;
    control::Container& body = *reply.mutable_container()->mutable_container();
    body.set_id(found->second.id);
    body.set_name(request.name());
    body.set_size_bytes(found->second.size_bytes);
    responder.reply(std::move(reply));
  }

  void map(ClientId client, const control::MapContainer& request, Responder responder) {
    for (const auto& [name, container] : containers_) {
      if (container.id != request.container_id()) continue;
      const std::uint64_t id = next_mapping_++;
      FakeMapping& mapping = mappings_[id];
      mapping.client = client;
      mapping.stalls = name.starts_with("stall");
      std::vector<UniqueFd> fds;
      fds.emplace_back(::fcntl(container.memfd.get(), F_DUPFD_CLOEXEC, 0));
      control::Reply reply;
      reply.mutable_map_container()->set_mapping_id(id);
      UniqueFd device(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
      reply.mutable_map_container()->set_has_uffd_device(static_cast<bool>(device));
      if (device) fds.push_back(std::move(device));
      return responder.reply(std::move(reply), std::move(fds));
    }
    responder.fail(make_error(ErrorCode::kNotFound, "no such container"));
  }

  void barrier(ClientId client, const control::Barrier& request, Responder responder) {
    auto& waiting = barriers_[request.name()];
    waiting.push_back({{client, 0}, std::move(responder)});
    if (waiting.size() < request.count()) return;
    auto round = std::exchange(waiting, {});
    for (std::size_t i = 0; i < round.size(); ++i) {
      control::Reply reply;
      reply.mutable_barrier()->set_last(i + 1 == round.size());
      round[i].responder.reply(std::move(reply));
    }
  }

  void lock(const std::string& name, Owner owner, bool only_now, Responder responder) {
    FakeLock& lock = locks_[name];
    if (lock.owner == owner) {
      return responder.fail(make_error(ErrorCode::kInvalidArgument,
                                       "lock \"" + name + "\" is yours already", EDEADLK));
    }
    if (lock.owner && only_now) {
      return responder.fail(
          make_error(ErrorCode::kUnavailable, "lock \"" + name + "\" is taken", EBUSY));
    }
    lock.waiting.push_back({owner, std::move(responder)});
    if (!lock.owner) grant_next(lock);
  }

  void unlock(const std::string& name, Owner owner, Responder responder) {
    FakeLock& lock = locks_[name];
    if (lock.owner != owner) {
      return responder.fail(
          make_error(ErrorCode::kPermissionDenied, "you do not hold lock \"" + name + "\"", EPERM));
    }
    grant_next(lock);
    responder.done();
  }

  static void grant_next(FakeLock& lock) {
    lock.owner.reset();
    if (lock.waiting.empty()) return;
    Waiting next = std::move(lock.waiting.front());
    lock.waiting.erase(lock.waiting.begin());
    lock.owner = next.owner;
    control::Reply reply;
    reply.mutable_lock()->set_owner_died(std::exchange(lock.owner_died, false));
    next.responder.reply(std::move(reply));
  }

  void notify(const control::CondNotify& request, Responder responder) {
    auto& waiting = conditions_[request.cond()];
    std::size_t count = request.all() ? waiting.size() : std::min<std::size_t>(1, waiting.size());
    for (; count > 0; --count) {
      Waiting next = std::move(waiting.front());
      waiting.erase(waiting.begin());
      lock(request.lock(), next.owner, /*only_now=*/false, std::move(next.responder));
    }
    responder.done();
  }

  std::uint32_t next_id_ = 1;
  std::uint64_t next_mapping_ = 1;
  std::map<std::string, FakeContainer> containers_;
  std::map<std::uint64_t, FakeMapping> mappings_;
  std::map<std::string, std::vector<Waiting>> barriers_;
  std::map<std::string, std::vector<Waiting>> conditions_;
  std::map<std::string, FakeLock> locks_;
};

[[noreturn]] void run(const std::string& socket, int ready) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  Daemon daemon;
  ControlServerOptions options;
  options.path = socket;
  auto server = ControlServer::listen(options, daemon);
  if (!server.ok()) {
    spdlog::error("{}", server.error().message());
    ::_exit(1);
  }
  (void)!::write(ready, "r", 1);
  while (true) {
    std::vector<pollfd> fds{{(*server)->fd(), POLLIN, 0}};
    daemon.add_fds(fds);
    ::poll(fds.data(), fds.size(), -1);
    for (std::size_t i = 1; i < fds.size(); ++i) {
      if (fds[i].revents != 0) Daemon::serve_faults(fds[i].fd);
    }
    (*server)->poll();
  }
}

}  // namespace

FakeGobd::FakeGobd() {
  std::string pattern = (std::filesystem::temp_directory_path() / "gob-fake-XXXXXX").string();
  dir_ = ::mkdtemp(pattern.data());
  socket_ = dir_ + "/gobd.sock";
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
  child_ = ::fork();
  if (child_ == 0) run(socket_, ends[1]);
  ::close(ends[1]);
  const UniqueFd read_end(ends[0]);
  char byte = 0;
  if (::read(ends[0], &byte, 1) != 1) throw std::runtime_error("the fake gobd did not start");
}

FakeGobd::~FakeGobd() {
  kill();
  std::filesystem::remove_all(dir_);
}

void FakeGobd::kill() {
  if (child_ < 0) return;
  ::kill(child_, SIGKILL);
  int status = 0;
  ::waitpid(child_, &status, 0);
  child_ = -1;
}

}  // namespace gob::test
