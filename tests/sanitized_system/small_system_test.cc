// Two real gobd and programs that share memory: small enough to run under the sanitizers, too.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "libgob/gob.hpp"
#include "libgob/runtime/config.h"

namespace gob {
namespace {

constexpr int kReadyTimeoutMs = 60'000;  // a sanitized daemon on a busy machine is slow to start

std::uint16_t free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  EXPECT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  ::close(fd);
  return ntohs(address.sin_port);
}

class TwoNodes : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/gob-small-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    dir_ = pattern;
    DaemonConfig config;
    config.cluster = "small";
    config.budget_bytes = std::uint64_t{64} << 20;
    config.nodes = {{"n1", "127.0.0.1", free_port()}, {"n2", "127.0.0.1", free_port()}};
    const int notify = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string notify_path = dir_ + "/notify";
    notify_path.copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(notify, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    for (const NodeConfig& node : config.nodes) {
      config.node = node.name;
      config.control_socket = socket_of(node.name);
      const std::string file = dir_ + "/" + node.name + ".toml";
      std::ofstream(file) << to_toml(config);
      const pid_t pid = ::fork();
      if (pid == 0) {
        ::setenv("NOTIFY_SOCKET", notify_path.c_str(), 1);
        ::execl(GOBD, "gobd", "--config", file.c_str(), nullptr);
        ::_exit(127);
      }
      daemons_.push_back(pid);
    }
    for (std::size_t ready = 0; ready < daemons_.size();) {
      pollfd waiting{notify, POLLIN, 0};
      ASSERT_EQ(::poll(&waiting, 1, kReadyTimeoutMs), 1) << "a gobd did not become ready";
      char text[256] = {};
      ASSERT_GT(::recv(notify, text, sizeof text - 1, 0), 0);
      if (std::string(text).find("READY=1") != std::string::npos) ++ready;
    }
    ::close(notify);
  }

  void TearDown() override {
    for (const pid_t pid : daemons_) ::kill(pid, SIGTERM);
    for (const pid_t pid : daemons_) {
      int status = 0;
      ::waitpid(pid, &status, 0);
      EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0)
          << "gobd ended with status " << status << "; a sanitizer may have spoken above";
    }
    std::filesystem::remove_all(dir_);
  }

  std::string socket_of(const std::string& node) const { return dir_ + "/" + node + ".sock"; }

  // Runs `body` in a program of its own on each node; true if both end well.
  template <class F>
  bool on_both(F body) {
    std::vector<pid_t> programs;
    for (int rank = 0; rank < 2; ++rank) {
      const pid_t pid = ::fork();
      if (pid == 0) {
        bool right = false;
        try {
          gobelins::Connection connection(socket_of(rank == 0 ? "n1" : "n2"));
          right = body(connection, rank);
        } catch (const std::exception& error) {
          std::fprintf(stderr, "rank %d: %s\n", rank, error.what());
        }
        ::_exit(right ? 0 : 1);
      }
      programs.push_back(pid);
    }
    bool all = true;
    for (const pid_t pid : programs) {
      int status = 0;
      ::waitpid(pid, &status, 0);
      all = all && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    }
    return all;
  }

  std::string dir_;
  std::vector<pid_t> daemons_;
};

TEST_F(TwoNodes, SeeEachOthersWritesAcrossBarriers) {
  constexpr std::size_t kWords = 64 * 512;  // 64 pages
  EXPECT_TRUE(on_both([](gobelins::Connection& gob, int rank) {
    if (rank == 0) gob.create("array", kWords * sizeof(std::uint64_t));
    gob.barrier("made", 2);
    auto memory = gob.open("array").map();
    auto words = memory.as<std::uint64_t>();
    for (std::uint64_t round = 1; round <= 3; ++round) {
      for (std::size_t i = static_cast<std::size_t>(rank); i < kWords; i += 2)
        words[i] = round * kWords + i;
      gob.barrier("written", 2);
      for (std::size_t i = 0; i < kWords; ++i)
        if (words[i] != round * kWords + i) return false;
      gob.barrier("read", 2);
    }
    return true;
  }));
}

TEST_F(TwoNodes, CountTogetherUnderALock) {
  constexpr std::uint64_t kEach = 50;
  EXPECT_TRUE(on_both([](gobelins::Connection& gob, int rank) {
    if (rank == 0) gob.create("counter", 4096);
    gob.barrier("made", 2);
    auto memory = gob.open("counter").map();
    volatile std::uint64_t& counter = memory.as<std::uint64_t>()[0];
    auto mutex = gob.mutex("lock");
    for (std::uint64_t i = 0; i < kEach; ++i) {
      mutex.lock();
      counter = counter + 1;
      mutex.unlock();
    }
    gob.barrier("counted", 2);
    return counter == 2 * kEach;
  }));
}

}  // namespace
}  // namespace gob
