// Paths through folders that change on one node while another one walks them.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <string>
#include <thread>

#include "tests/system/file_nodes.h"

namespace gob {
namespace {

int errno_of_look(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 ? 0 : errno;
}

class FolderNames : public testing::Test {
 protected:
  FolderNames() : nodes_(3, file_settings()) {
    folder_.attach(nodes_);
    std::filesystem::create_directories(folder_.tree() + "/a/b/c/d");
    std::ofstream(folder_.tree() + "/a/b/c/d/file") << "text";
  }
  [[nodiscard]] std::string at(unsigned node, const std::string& path) const {
    return seen_at(nodes_, node) + path;
  }

  Nodes nodes_;
  SharedFolder folder_;
};

TEST_F(FolderNames, ARenamedFolderIsAtItsNewPlaceAtOnceForEveryNode) {
  EXPECT_TRUE(runs_to_its_end([&] {
    std::atomic<bool> ends = false;
    // So that there is always something that nodes believe.
    std::thread walker([&] {
      while (!ends)
        for (unsigned node = 0; node < 3; ++node)
          for (const char* const path : {"/a/b/c/d/file", "/a/moved/c/d/file"})
            static_cast<void>(errno_of_look(at(node, path)));
    });
    bool right = true;
    for (int i = 0; i < 150 && right; ++i) {
      const bool back = i % 2 != 0;
      const std::string from = back ? "/a/moved" : "/a/b";
      const std::string to = back ? "/a/b" : "/a/moved";
      const auto who = static_cast<unsigned>(i % 3);
      right = ::rename(at(who, from).c_str(), at(who, to).c_str()) == 0;
      for (unsigned node = 0; node < 3; ++node)
        right = right && errno_of_look(at(node, from + "/c/d/file")) == ENOENT &&
                errno_of_look(at(node, to + "/c/d/file")) == 0;
    }
    ends = true;
    walker.join();
    return right;
  }));
}

// In both directions at once: neither waits for the other for ever.
TEST_F(FolderNames, FoldersGoFromOneFolderToAnother) {
  std::filesystem::create_directories(folder_.tree() + "/a/to/y");
  EXPECT_TRUE(runs_to_its_end([&] {
    std::atomic<bool> right = true;
    const auto carry = [&](unsigned who, const std::string& one, const std::string& other) {
      for (int i = 0; i < 100 && right; ++i) {
        const std::string& from = i % 2 == 0 ? one : other;
        const std::string& to = i % 2 == 0 ? other : one;
        right = right && ::rename(at(who, from).c_str(), at(who, to).c_str()) == 0;
        for (unsigned node = 0; node < 3; ++node)
          right =
              right && errno_of_look(at(node, from)) == ENOENT && errno_of_look(at(node, to)) == 0;
      }
    };
    std::thread there([&] { carry(1, "/a/b/c", "/a/to/c"); });
    carry(2, "/a/to/y", "/a/b/y");
    there.join();
    return right.load();
  }));
}

TEST_F(FolderNames, ANewFolderOfTheSameNameIsAnotherOne) {
  EXPECT_TRUE(runs_to_its_end([&] {
    for (int i = 0; i < 50; ++i) {
      const auto who = static_cast<unsigned>(i % 3);
      const std::string name = "/a/again";
      if (::mkdir(at(who, name).c_str(), 0755) != 0 ||
          ::mkdir(at(who, name + "/" + std::to_string(i)).c_str(), 0755) != 0)
        return false;
      for (unsigned node = 0; node < 3; ++node)
        if (errno_of_look(at(node, name + "/" + std::to_string(i))) != 0) return false;
      if (::rmdir(at(who, name + "/" + std::to_string(i)).c_str()) != 0 ||
          ::rmdir(at(who, name).c_str()) != 0)
        return false;
      for (unsigned node = 0; node < 3; ++node)
        if (errno_of_look(at(node, name)) != ENOENT) return false;
    }
    return true;
  }));
}

TEST_F(FolderNames, WhoMayNoLongerSearchAFolderFindsNothingInItAtOnce) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to look as somebody else";
  EXPECT_TRUE(runs_to_its_end([&] {
    const auto nobody_looks = [&](unsigned node) {
      if (::seteuid(65534) != 0) return -1;
      const int result = errno_of_look(at(node, "/a/b/c/d/file"));
      return ::seteuid(0) == 0 ? result : -1;
    };
    for (int i = 0; i < 30; ++i) {
      const auto who = static_cast<unsigned>(i % 3);
      for (unsigned node = 0; node < 3; ++node)
        if (nobody_looks(node) != 0) return false;
      if (::chmod(at(who, "/a/b").c_str(), 0700) != 0) return false;
      for (unsigned node = 0; node < 3; ++node)
        if (nobody_looks(node) != EACCES) return false;
      if (::chmod(at(who, "/a/b").c_str(), 0755) != 0) return false;
    }
    return true;
  }));
}

}  // namespace
}  // namespace gob
