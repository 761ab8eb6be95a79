// Files that are reached by several attachments of their home: each is one file.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>

#include "libgob/base/page_table.h"
#include "libgob/base/unique_fd.h"
#include "tests/system/file_model.h"
#include "tests/system/mapped_file.h"

namespace gob {
namespace {

constexpr std::size_t kPage = kPageSize;

// A folder as "tree" and as "again", one in it as "inner", and a file in that as "one".
class Attachments : public testing::Test {
 protected:
  Attachments() : nodes_(3, file_settings()) {
    folder_.attach(nodes_);
    std::filesystem::create_directories(folder_.tree() + "/a/b/c");
    std::ofstream(folder_.tree() + "/a/b/file") << std::string(3 * kPage, '.');
    EXPECT_EQ(nodes_.attach(0, "again", folder_.tree()), "");
    EXPECT_EQ(nodes_.attach(0, "inner", folder_.tree() + "/a/b"), "");
    EXPECT_EQ(nodes_.attach(0, "one", folder_.tree() + "/a/b/file"), "");
  }
  [[nodiscard]] std::string at(unsigned node, const std::string& path) const {
    return nodes_.mount_of(node) + path;
  }
  // The file, by each way to it.
  static constexpr std::array kWays = {"/tree/a/b/file", "/again/a/b/file", "/inner/file", "/one"};

  Nodes nodes_;
  SharedFolder folder_;
};

TEST_F(Attachments, WhatIsWrittenByOneIsReadByAll) {
  EXPECT_TRUE(runs_to_its_end([&] {
    std::string text = content(at(0, kWays[0]));
    for (unsigned i = 0; i < 48; ++i) {
      const UniqueFd fd(::open(at(i % 3, kWays[i % 4]).c_str(), O_WRONLY));
      const std::string word = "written " + std::to_string(i);
      if (i % 8 == 7) {
        // The end is cut and grows again, which brings zeros.
        text.resize(text.size() - kPage / 2);
        if (::ftruncate(fd.get(), static_cast<off_t>(text.size())) != 0) return false;
        text.resize(3 * kPage);
        if (::ftruncate(fd.get(), static_cast<off_t>(text.size())) != 0) return false;
      }
      text.replace(i * 250, word.size(), word);
      if (::pwrite(fd.get(), word.data(), word.size(), i * 250) !=
          static_cast<ssize_t>(word.size()))
        return false;
      for (unsigned node = 0; node < 3; ++node)
        for (const char* const way : kWays)
          if (content(at(node, way)) != text) return false;
    }
    return true;
  }));
}

TEST_F(Attachments, RandomOperationsByAllWaysAgreeWithTheHost) {
  for (std::uint64_t seed = 101; seed <= 102; ++seed) {
    const SharedFolder folder;
    std::vector<std::string> roots;
    for (const std::string name : {"x", "y"}) {
      ASSERT_EQ(nodes_.attach(0, name, folder.tree()), "");
      for (unsigned node = 0; node < 2; ++node) roots.push_back(at(node, "/" + name));
    }
    {
      FileModel model(seed, roots, folder.reference());
      for (int step = 0; step < 1500; ++step)
        ASSERT_EQ(model.step(), "") << "seed " << seed << " step " << step;
      ASSERT_EQ(model.compare_all(), "") << "seed " << seed;
    }
    for (const char* const name : {"x", "y"}) ASSERT_EQ(nodes_.detach(1, name), "");
  }
}

TEST_F(Attachments, OneIsMappedAndTheOthersReadAndWrite) {
  EXPECT_TRUE(runs_to_its_end([&] {
    const MappedFile file(nodes_, 1, "/a/b/file", 3 * kPage);
    for (unsigned i = 0; i < 24; ++i) {
      const std::string word = "stored " + std::to_string(i);
      std::memcpy(file.at(i * 500), word.data(), word.size());
      for (unsigned node = 0; node < 3; ++node)
        for (const char* const way : kWays)
          if (content(at(node, way)).substr(i * 500, word.size()) != word) return false;
      const UniqueFd fd(::open(at(i % 3, kWays[i % 4]).c_str(), O_WRONLY));
      if (::pwrite(fd.get(), "By", 2, i * 500) != 2) return false;
      if (std::memcmp(file.at(i * 500), "By", 2) != 0) return false;
    }
    return true;
  }));
}

TEST_F(Attachments, ALockByOneIsInTheWayByAll) {
  EXPECT_TRUE(runs_to_its_end([&] {
    const UniqueFd holder(::open(at(1, kWays[0]).c_str(), O_RDWR));
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_len = 4;
    if (::fcntl(holder.get(), F_OFD_SETLK, &lock) != 0) return false;
    for (unsigned node = 0; node < 3; ++node)
      for (const char* const way : kWays) {
        const UniqueFd other(::open(at(node, way).c_str(), O_RDWR));
        struct flock wanted = lock;
        if (::fcntl(other.get(), F_OFD_SETLK, &wanted) == 0 || errno != EAGAIN) return false;
      }
    return true;
  }));
}

TEST_F(Attachments, ARenamedFolderIsAtItsNewPlaceByAll) {
  EXPECT_TRUE(runs_to_its_end([&] {
    const auto errno_of_look = [](const std::string& path) {
      struct stat status {};
      return ::stat(path.c_str(), &status) == 0 ? 0 : errno;
    };
    const std::array places = {std::pair{"/tree", "/a/b"}, std::pair{"/again", "/a/b"},
                               std::pair{"/inner", ""}};
    std::atomic<bool> ends = false;
    std::thread walker([&] {
      while (!ends)
        for (unsigned node = 0; node < 3; ++node)
          for (const auto& [name, in] : places)
            static_cast<void>(errno_of_look(at(node, name + std::string(in) + "/c/none")));
    });
    bool right = true;
    for (unsigned i = 0; i < 90 && right; ++i) {
      const std::string from = i % 2 != 0 ? "/moved" : "/c";
      const std::string to = i % 2 != 0 ? "/c" : "/moved";
      const auto& [name, in] = places[i % 3];
      right = ::rename(at(i / 2 % 3, name + (in + from)).c_str(),
                       at(i / 2 % 3, name + (in + to)).c_str()) == 0;
      for (unsigned node = 0; node < 3; ++node)
        for (const auto& [other, inside] : places)
          right = right && errno_of_look(at(node, other + (inside + from))) == ENOENT &&
                  errno_of_look(at(node, other + (inside + to))) == 0;
    }
    ends = true;
    walker.join();
    return right;
  }));
}

TEST_F(Attachments, TheEndOfOneLeavesAFileToTheOthers) {
  EXPECT_TRUE(runs_to_its_end([&] {
    const UniqueFd by_tree(::open(at(1, kWays[0]).c_str(), O_RDWR));
    const MappedFile file(nodes_, 1, "/a/b/file", 3 * kPage);
    std::memcpy(file.at(0), "stored", 6);
    const UniqueFd inside(::open(at(2, "/tree/a").c_str(), O_RDONLY | O_DIRECTORY));
    if (content(at(2, kWays[1])).substr(0, 6) != "stored") return false;
    if (!nodes_.detach(2, "tree").empty()) return false;
    // It is on the disk, as ever.
    if (content(folder_.tree() + "/a/b/file").substr(0, 6) != "stored") return false;
    if (::faccessat(inside.get(), "b", F_OK, 0) == 0 || errno != ESTALE) return false;
    // The descriptor and the mapping are of a file that is still attached.
    std::memcpy(file.at(0), "Stored", 6);
    if (content(at(2, kWays[1])).substr(0, 6) != "Stored") return false;
    if (::pwrite(by_tree.get(), "W", 1, 0) != 1 || *file.at(0) != 'W') return false;
    for (const char* const name : {"again", "inner", "one"})
      if (!nodes_.detach(0, name).empty()) return false;
    char byte = 0;
    return content(folder_.tree() + "/a/b/file").substr(0, 6) == "Wtored" &&
           ::pread(by_tree.get(), &byte, 1, 2 * kPage) != 1;
  }));
}

TEST_F(Attachments, AFileThatIsRemovedByOneGivesItsMemoryBack) {
  EXPECT_TRUE(runs_to_its_end([&] {
    for (unsigned node = 0; node < 3; ++node)
      for (const char* const way : {kWays[0], kWays[1], kWays[2]})
        if (content(at(node, way)).empty()) return false;
    return ::unlink(at(1, kWays[1]).c_str()) == 0;
  }));
  EXPECT_EQ(nodes_.detach(0, "one"), "") << "that is the file itself, whatever its name";
  EXPECT_TRUE(files_come_down_to(nodes_, 0)) << containers_of_files(nodes_, 0);
}

TEST_F(Attachments, AMountThatGivesOtherRightsIsNoWayToTheSameFile) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to mount";
  const std::string read_only = folder_.reference();
  ASSERT_EQ(::mount(folder_.tree().c_str(), read_only.c_str(), nullptr, MS_BIND, nullptr), 0);
  ASSERT_EQ(::mount(nullptr, read_only.c_str(), nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr),
            0);
  ASSERT_EQ(nodes_.attach(0, "export", read_only), "");
  EXPECT_TRUE(runs_to_its_end([&] {
    const auto errno_of = [](const std::string& path, int flags) {
      const UniqueFd fd(::open(path.c_str(), flags, 0644));
      return fd ? 0 : errno;
    };
    const std::string there = at(2, "/export/a/b/file");
    if (errno_of(there, O_RDONLY) != 0 || errno_of(there, O_WRONLY) != EROFS) return false;
    // The file is known by the other mount now.
    if (errno_of(at(1, kWays[0]), O_RDWR) != EBUSY) return false;
    if (errno_of(at(1, "/tree/new"), O_RDWR | O_CREAT) != 0) return false;
    return errno_of(at(2, "/export/new"), O_RDONLY) == EBUSY;
  }));
  EXPECT_EQ(nodes_.detach(0, "export"), "");
  EXPECT_EQ(::umount2(read_only.c_str(), MNT_DETACH), 0);
  EXPECT_TRUE(runs_to_its_end([&] { return ::open(at(1, kWays[0]).c_str(), O_RDWR) >= 0; }));
}

// What is in a mount of gob has a home already, and would be read there again and again.
TEST_F(Attachments, NoMountOfGobIsSeenThroughAnother) {
  for (const std::string& inside : {at(1, "/inner"), at(1, "/one"), at(1, "")}) {
    const std::string why = nodes_.attach(1, "inside", inside);
    EXPECT_NE(why.find("it is in a mount of gob already"), std::string::npos) << why;
  }
  ASSERT_EQ(nodes_.attach(0, "around", std::filesystem::path(at(0, "")).parent_path()), "");
  EXPECT_TRUE(runs_to_its_end([&] {
    const std::string mount =
        at(2, "/around/" + std::filesystem::path(at(1, "")).filename().string());
    struct stat status {};
    if (::stat(mount.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) return false;
    if (::stat((mount + "/tree").c_str(), &status) == 0 || errno != ELOOP) return false;
    const UniqueFd folder(::open(mount.c_str(), O_RDONLY | O_DIRECTORY));
    return !folder && errno == ELOOP && ::rmdir(mount.c_str()) != 0 && errno == EBUSY;
  }));
  EXPECT_EQ(nodes_.detach(0, "around"), "");
}

// By the attachment by which it was first reached it is not found any more, and the others are
// younger than its container.
TEST_F(Attachments, AHomeThatReturnsFindsAFileByAnotherOne) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to find a file again after a restart";
  int told[2];
  ASSERT_EQ(::pipe(told), 0);
  const pid_t program = ::fork();
  if (program == 0) {
    ::close(told[0]);
    const MappedFile file(nodes_, 1, "/a/b/file", 3 * kPage);
    for (const char* const name : {"again", "inner"})
      if (!nodes_.detach(1, name).empty()) ::_exit(1);
    if (!nodes_.attach(0, "again", folder_.tree()).empty() ||
        content(at(1, kWays[1])).size() != 3 * kPage || !nodes_.detach(1, "tree").empty())
      ::_exit(1);
    std::memcpy(file.at(kPage), "stored since", 12);
    static_cast<void>(!::write(told[1], "1", 1));
    ::pause();
  }
  ::close(told[1]);  // so that the program's death ends the waiting for it
  char byte = 0;
  ASSERT_EQ(::read(told[0], &byte, 1), 1);
  nodes_.kill_node(0);
  // The others agree first that it is away.
  EXPECT_TRUE(nodes_.run(2, [](gobelins::Connection& gob) {
    gob.create("agreed", kPage);
    return true;
  }));
  for (const char* const name : {"again", "one"}) {
    const std::string why = nodes_.detach(2, name);
    EXPECT_NE(why.find("stays attached"), std::string::npos) << why;
  }
  nodes_.start(0);
  nodes_.wait_ready();
  // That waits until it is written.
  EXPECT_TRUE(runs_to_its_end([&] {
    UniqueFd fd;
    while (!fd) fd.reset(::open(at(2, kWays[1]).c_str(), O_RDONLY));
    char now[12] = {};
    return ::pread(fd.get(), now, sizeof now, kPage) == sizeof now &&
           std::memcmp(now, "stored since", sizeof now) == 0;
  }));
  EXPECT_EQ(content(folder_.tree() + "/a/b/file").substr(kPage, 12), "stored since");
  ::kill(program, SIGKILL);
  ::waitpid(program, nullptr, 0);
}

}  // namespace
}  // namespace gob
