// Files that are removed while other nodes' kernels know them by name.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>

#include "tests/system/file_nodes.h"

namespace gob {
namespace {

// Nothing else would make the kernels forget a name that nobody looks for again.
TEST(RemovedFiles, GiveTheirMemoryBackOnAllNodes) {
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  const auto read_everywhere = [&](const std::string& name) {
    for (unsigned node = 0; node < 2; ++node) {
      std::ifstream file(seen_at(nodes, node) + "/" + name);
      const std::string bytes((std::istreambuf_iterator<char>(file)), {});
      ASSERT_EQ(bytes, "bytes of " + name);
    }
  };
  const auto all = {"by the host", "by a node", "replaced", "open",
                    "renamed",     "exchanged", "other"};
  for (const char* name : all) std::ofstream(folder.tree() + "/" + name) << "bytes of " << name;
  for (const char* name : all) read_everywhere(name);
  const int open_one = ::open((seen_at(nodes, 1) + "/open").c_str(), O_RDONLY);
  ASSERT_GE(open_one, 0);
  ASSERT_EQ(containers_of_files(nodes, 0), all.size());
  ASSERT_EQ(containers_of_files(nodes, 1), all.size());

  ASSERT_EQ(::unlink((folder.tree() + "/by the host").c_str()), 0);
  ASSERT_EQ(::unlink((seen_at(nodes, 1) + "/by a node").c_str()), 0);
  std::ofstream(folder.tree() + "/new") << "new";
  ASSERT_EQ(::rename((folder.tree() + "/new").c_str(), (folder.tree() + "/replaced").c_str()), 0);
  ASSERT_EQ(::unlink((folder.tree() + "/open").c_str()), 0);
  // Each node knows these by other names: who renames something is not told of it.
  const auto at = [&](unsigned node, const char* name) {
    return seen_at(nodes, node) + "/" + name;
  };
  ASSERT_EQ(::rename(at(1, "renamed").c_str(), at(1, "new name").c_str()), 0);
  ASSERT_EQ(::unlink(at(0, "new name").c_str()), 0);
  ASSERT_EQ(::renameat2(AT_FDCWD, at(1, "exchanged").c_str(), AT_FDCWD, at(1, "other").c_str(),
                        RENAME_EXCHANGE),
            0);
  ASSERT_EQ(::unlink(at(0, "exchanged").c_str()), 0);
  ASSERT_EQ(::unlink(at(0, "other").c_str()), 0);
  const auto containers = [&] { return containers_of_files(nodes, 0); };
  EXPECT_TRUE(files_come_down_to(nodes, 1)) << containers();
  char bytes[13] = {};
  EXPECT_EQ(::pread(open_one, bytes, sizeof bytes, 0), 13);
  EXPECT_EQ(std::string(bytes, 13), "bytes of open");
  ::close(open_one);
  EXPECT_TRUE(files_come_down_to(nodes, 0)) << containers();
}

// Descriptors of the home for what has no name any more: it has its room on the disk.
std::size_t nameless(const Nodes& nodes) {
  std::size_t count = 0;
  std::error_code error;
  const std::string fds = "/proc/" + std::to_string(nodes.pid_of(0)) + "/fd";
  for (const auto& fd : std::filesystem::directory_iterator(fds, error)) {
    const std::string target = std::filesystem::read_symlink(fd.path(), error).string();
    if (target.ends_with(" (deleted)") && target.find("/tree/") != std::string::npos) ++count;
  }
  return count;
}

bool none_nameless(const Nodes& nodes) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (nameless(nodes) != 0) {
    if (std::chrono::steady_clock::now() > give_up) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return true;
}

TEST(RemovedFiles, GiveTheirRoomOnTheDiskBackThoughNobodyReadThem) {
  Nodes nodes(3, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  const auto at = [&](unsigned node, const std::string& name) {
    return seen_at(nodes, node) + "/" + name;
  };
  const auto make = [&] {
    for (const char* const name : {"file", "replaced", "new"})
      std::ofstream(folder.tree() + "/" + name) << "bytes";
    ASSERT_EQ(::mkdir((folder.tree() + "/folder").c_str(), 0755), 0);
    ASSERT_EQ(::symlink("nowhere", (folder.tree() + "/link").c_str()), 0);
    for (unsigned node = 0; node < 3; ++node)
      for (const char* const name : {"file", "replaced", "folder", "link"}) {
        struct stat status {};
        ASSERT_EQ(::lstat(at(node, name).c_str(), &status), 0);
      }
  };
  make();
  ASSERT_EQ(::unlink(at(1, "file").c_str()), 0);
  ASSERT_EQ(::unlink(at(2, "link").c_str()), 0);
  ASSERT_EQ(::rmdir(at(1, "folder").c_str()), 0);
  ASSERT_EQ(::rename(at(2, "new").c_str(), at(2, "replaced").c_str()), 0);
  EXPECT_TRUE(none_nameless(nodes)) << nameless(nodes);
  ASSERT_EQ(::unlink(at(0, "replaced").c_str()), 0);
  make();
  for (const char* const name : {"file", "replaced", "folder", "link"})
    ASSERT_TRUE(std::filesystem::remove(folder.tree() + "/" + name)) << "past the mount";
  EXPECT_TRUE(none_nameless(nodes)) << nameless(nodes);
}

}  // namespace
}  // namespace gob
