#include "tests/system/nodes.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "libgob/base/unique_fd.h"
#include "libgob/runtime/control_client.h"

namespace gob {

namespace {

constexpr int kReadyTimeoutMs = 60'000;  // a sanitized daemon on a busy machine is slow to start
constexpr int kStopTimeoutMs = 60'000;

// In a child: it ends with the test, however that ends.
void end_with(pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);
}

// Ports that nobody has now. All are held at once, so that no two are the same.
std::vector<std::uint16_t> free_ports(unsigned count) {
  std::vector<UniqueFd> held;
  std::vector<std::uint16_t> ports;
  for (unsigned i = 0; i < count; ++i) {
    held.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(held.back().get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::getsockname(held.back().get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    ports.push_back(ntohs(address.sin_port));
  }
  return ports;
}

}  // namespace

Nodes::Nodes(unsigned count, DaemonConfig settings, std::string gobd, Adjust adjust)
    : settings_(std::move(settings)),
      gobd_(std::move(gobd)),
      adjust_(std::move(adjust)),
      pids_(count, -1) {
  char pattern[] = "/tmp/gob-system-XXXXXX";
  if (::mkdtemp(pattern) == nullptr) {
    ADD_FAILURE() << "cannot make a folder for the test";
    return;
  }
  folder_ = pattern;
  if (!settings_.mount.empty()) {
    char mounts[] = "/tmp/gob-mounts-XXXXXX";
    if (::mkdtemp(mounts) == nullptr || ::chmod(mounts, 0755) != 0) {
      ADD_FAILURE() << "cannot make folders to mount at";
      return;
    }
    mounts_ = mounts;
    for (unsigned i = 0; i < count; ++i) {
      settings_.mount = mounts_;
      const std::string path = mounts_ + "/n" + std::to_string(i + 1);
      EXPECT_EQ(::mkdir(path.c_str(), 0755), 0);
    }
  }
  if (const char* transport = std::getenv("GOB_TEST_TRANSPORT")) settings_.transport = transport;
  const std::vector<std::uint16_t> ports = free_ports(count);
  for (unsigned i = 0; i < count; ++i)
    settings_.nodes.push_back({"n" + std::to_string(i + 1), "127.0.0.1", ports[i]});
  notify_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  (folder_ + "/notify").copy(address.sun_path, sizeof address.sun_path - 1);
  EXPECT_EQ(::bind(notify_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  for (unsigned i = 0; i < count; ++i) start(i);
  wait_ready();
}

Nodes::~Nodes() {
  for (unsigned i = 0; i < count(); ++i)
    if (runs(i)) ::kill(pids_[i], SIGTERM);
  for (unsigned i = 0; i < count(); ++i) {
    if (!runs(i)) continue;
    EXPECT_EQ(wait_for(pids_[i], kStopTimeoutMs), 0) << "n" << i + 1 << " ended badly";
  }
  if (testing::Test::HasFailure())
    for (unsigned i = 0; i < count(); ++i)
      std::fprintf(stderr, "--- log of n%u\n%s", i + 1, log_of(i).c_str());
  if (notify_ >= 0) ::close(notify_);
  if (!folder_.empty()) std::filesystem::remove_all(folder_);
  if (mounts_.empty()) return;
  for (unsigned i = 0; i < count(); ++i) {
    const std::string path = mount_of(i);
    // A node that was killed left its mount. Never recursively: there may be files behind it.
    if (::rmdir(path.c_str()) != 0) ::umount2(path.c_str(), MNT_DETACH);
    ::rmdir(path.c_str());
  }
  EXPECT_EQ(::rmdir(mounts_.c_str()), 0);
}

void Nodes::start(unsigned node) {
  DaemonConfig config = settings_;
  config.node = config.nodes[node].name;
  config.control_socket = socket_of(node);
  if (!mounts_.empty()) config.mount = mount_of(node);
  if (!config.swap_dir.empty()) {
    config.swap_dir += "/" + config.node;
    std::filesystem::create_directories(config.swap_dir);
  }
  if (adjust_) adjust_(node, config);
  const std::string file = folder_ + "/" + config.node + ".toml";
  std::ofstream(file) << to_toml(config);
  const std::string log = folder_ + "/" + config.node + ".log";
  const std::string notify = folder_ + "/notify";
  const pid_t test = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) {
    end_with(test);
    const int fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::dup2(fd, 1);
    ::dup2(fd, 2);
    ::setenv("NOTIFY_SOCKET", notify.c_str(), 1);
    ::execl(gobd_.c_str(), "gobd", "--config", file.c_str(), nullptr);
    ::_exit(127);
  }
  pids_[node] = pid;
  ++not_ready_;
}

void Nodes::wait_ready() {
  while (not_ready_ != 0) {
    pollfd waiting{notify_, POLLIN, 0};
    ASSERT_EQ(::poll(&waiting, 1, kReadyTimeoutMs), 1) << "a gobd did not become ready";
    char text[256] = {};
    ASSERT_GT(::recv(notify_, text, sizeof text - 1, 0), 0);
    if (std::string(text).find("READY=1") != std::string::npos) --not_ready_;
  }
}

void Nodes::kill_node(unsigned node) {
  ::kill(pids_[node], SIGKILL);
  wait_for(pids_[node], kStopTimeoutMs);
  pids_[node] = -1;
}

int Nodes::stop_node(unsigned node) {
  ::kill(pids_[node], SIGTERM);
  return await_end(node);
}

int Nodes::await_end(unsigned node) {
  const int status = wait_for(pids_[node], kStopTimeoutMs);
  pids_[node] = -1;
  return status;
}

bool Nodes::suspend(unsigned node) {
  // A thread on another processor goes on for a moment after kill(2), and might answer a peer.
  int status = 0;
  return ::kill(pids_[node], SIGSTOP) == 0 &&
         ::waitpid(pids_[node], &status, WUNTRACED) == pids_[node] && WIFSTOPPED(status);
}

bool Nodes::resume(unsigned node) { return ::kill(pids_[node], SIGCONT) == 0; }

std::string Nodes::socket_of(unsigned node) const {
  return folder_ + "/" + settings_.nodes[node].name + ".sock";
}

std::string Nodes::mount_of(unsigned node) const {
  return mounts_ + "/n" + std::to_string(node + 1);
}

std::string Nodes::attach(unsigned node, const std::string& name, const std::string& path) const {
  const auto client = ControlClient::connect(socket_of(node), "test");
  if (!client) return client.error().message();
  control::Request request;
  request.mutable_attach()->set_name(name);
  request.mutable_attach()->set_path(path);
  request.mutable_attach()->set_folder(std::filesystem::is_directory(path));
  const auto answer = (*client)->call(request);
  return answer ? "" : answer.error().message();
}

std::string Nodes::attach_segment(unsigned node, const std::string& name, int key,
                                  bool* joined) const {
  const auto client = ControlClient::connect(socket_of(node), "test");
  if (!client) return client.error().message();
  control::Request request;
  request.mutable_attach()->set_name(name);
  request.mutable_attach()->set_segment_key(key);
  const auto answer = (*client)->call(request);
  if (answer && joined != nullptr) *joined = answer->reply.container().joined();
  return answer ? "" : answer.error().message();
}

std::string Nodes::link_file(unsigned node, const std::string& name, const std::string& path,
                             bool* joined) const {
  const auto client = ControlClient::connect(socket_of(node), "test");
  if (!client) return client.error().message();
  control::Request request;
  request.mutable_attach()->set_name(name);
  request.mutable_attach()->set_path(path);
  request.mutable_attach()->set_link(true);
  const auto answer = (*client)->call(request);
  if (answer && joined != nullptr) *joined = answer->reply.container().joined();
  return answer ? "" : answer.error().message();
}

std::string Nodes::detach(unsigned node, const std::string& name, bool lossy, Lost* lost) const {
  const auto client = ControlClient::connect(socket_of(node), "test");
  if (!client) return client.error().message();
  control::Request request;
  request.mutable_detach()->set_name(name);
  request.mutable_detach()->set_lossy(lossy);
  const auto answer = (*client)->call(request);
  if (!answer) return answer.error().message();
  if (lost != nullptr)
    for (const control::PageRun& run : answer->reply.detach().lost())
      lost->emplace_back(run.first(), run.count());
  return "";
}

std::string Nodes::sync(unsigned node, const std::string& name) const {
  const auto client = ControlClient::connect(socket_of(node), "test");
  if (!client) return client.error().message();
  control::Request request;
  request.mutable_sync()->set_name(name);
  const auto answer = (*client)->call(request);
  return answer ? "" : answer.error().message();
}

std::string Nodes::log_of(unsigned node) const {
  std::ostringstream text;
  text << std::ifstream(folder_ + "/" + settings_.nodes[node].name + ".log").rdbuf();
  return text.str();
}

Result<control::StatReply> Nodes::stat(unsigned node) const {
  const auto client = ControlClient::connect(socket_of(node), "test");
  if (!client) return client.error();
  control::Request request;
  request.mutable_stat();
  const auto answer = (*client)->call(request);
  if (!answer) return answer.error();
  return answer->reply.stat();
}

pid_t Nodes::spawn(unsigned node, const Program& program) {
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  bool right = false;
  try {
    gobelins::Connection connection(socket_of(node));
    right = program(connection);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "program on n%u: %s\n", node + 1, error.what());
  }
  ::_exit(right ? 0 : 1);
}

bool Nodes::run(unsigned node, const Program& program) {
  return wait_for(spawn(node, program), kStopTimeoutMs) == 0;
}

bool Nodes::run_on_all(const std::function<bool(gobelins::Connection&, unsigned rank)>& program) {
  std::vector<pid_t> pids;
  for (unsigned rank = 0; rank < count(); ++rank)
    pids.push_back(
        spawn(rank, [&, rank](gobelins::Connection& gob) { return program(gob, rank); }));
  bool all = true;
  for (const pid_t pid : pids) all = wait_for(pid, kStopTimeoutMs) == 0 && all;
  return all;
}

int Nodes::wait_for(pid_t pid, int timeout_ms) {
  const UniqueFd ends(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  pollfd waiting{ends.get(), POLLIN, 0};
  const bool ended = ::poll(&waiting, 1, timeout_ms) == 1;
  if (!ended) ::kill(pid, SIGKILL);
  int status = 0;
  ::waitpid(pid, &status, 0);
  if (!ended) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

namespace {
sigjmp_buf bus_return;
void on_bus(int) { siglongjmp(bus_return, 1); }
}  // namespace

bool gets_sigbus(const std::function<void()>& access) {
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = on_bus;
  ::sigaction(SIGBUS, &action, &before);
  volatile bool hit = false;
  if (sigsetjmp(bus_return, 1) == 0)
    access();
  else
    hit = true;
  ::sigaction(SIGBUS, &before, nullptr);
  return hit;
}

}  // namespace gob
