// For tests of attached files on real nodes: a folder on the host that they show, and programs that
// use it. One thread.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>

#include "tests/system/nodes.h"

namespace gob {

inline DaemonConfig file_settings() {
  DaemonConfig config;
  config.cluster = "files";
  config.budget_bytes = std::uint64_t{64} << 20;
  config.mount = "/each";  // Nodes puts the place of each node
  return config;
}

// A folder of the host, attached as "tree" at node 1, and removed at the end.
class SharedFolder {
 public:
  SharedFolder() {
    char pattern[] = "/tmp/gob-shared-XXXXXX";
    if (::mkdtemp(pattern) == nullptr) {
      ADD_FAILURE() << "cannot make a folder to share";
      return;
    }
    path_ = pattern;
    EXPECT_EQ(::chmod(pattern, 0755), 0);
    std::filesystem::create_directory(path_ + "/tree");
    std::filesystem::create_directory(path_ + "/reference");
  }
  ~SharedFolder() { std::filesystem::remove_all(path_); }
  SharedFolder(const SharedFolder&) = delete;
  SharedFolder& operator=(const SharedFolder&) = delete;

  [[nodiscard]] std::string tree() const { return path_ + "/tree"; }
  [[nodiscard]] std::string reference() const { return path_ + "/reference"; }
  void attach(const Nodes& nodes, unsigned home = 0) const {
    ASSERT_EQ(nodes.attach(home, "tree", tree()), "");
  }

 private:
  std::string path_;
};

inline std::string seen_at(const Nodes& nodes, unsigned node) {
  return nodes.mount_of(node) + "/tree";
}

inline std::string content(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

// Of files that nodes have opened for reading, as a node knows them.
inline std::size_t containers_of_files(const Nodes& nodes, unsigned node) {
  const auto stat = nodes.stat(node);
  if (!stat) return ~std::size_t{0};
  return static_cast<std::size_t>(
      std::ranges::count_if(stat->containers(), [](const control::ContainerStat& each) {
        return each.container().name().starts_with("file-");
      }));
}

// At every node; false if it does not come to that in time.
inline bool files_come_down_to(const Nodes& nodes, std::size_t count) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  for (unsigned node = 0; node < nodes.count(); ++node)
    while (containers_of_files(nodes, node) != count)
      if (std::chrono::steady_clock::now() > give_up) return false;
  return true;
}

// A child process; true if `program` returned true in time.
inline bool runs_to_its_end(const std::function<bool()>& program, int timeout_ms = 60'000) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(program() ? 0 : 1);
  return Nodes::wait_for(pid, timeout_ms) == 0;
}

}  // namespace gob
