// What programs rely on less often, and seen through two mounts and on the host's disk: owners,
// times, room, pipes, bytes that are to be on the disk at once, locks of open files.
#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <memory>
#include <thread>

#include "libgob/base/unique_fd.h"
#include "libgob/file/lock_ioctl.h"
#include "tests/system/file_nodes.h"
#include "tests/system/mapped_file.h"

namespace gob {
namespace {

struct stat look(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path << ": " << std::strerror(errno);
  return status;
}

// On the disk and through both mounts.
std::vector<std::string> everywhere(const Nodes& nodes, const SharedFolder& folder,
                                    const std::string& name) {
  return {folder.tree() + name, seen_at(nodes, 0) + name, seen_at(nodes, 1) + name};
}

TEST(FileDetails, RootGivesFilesAwayAndSetUserIdGoesWithThat) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to give files away";
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream(seen_at(nodes, 1) + "/file") << "x";
  ASSERT_EQ(::chmod((seen_at(nodes, 1) + "/file").c_str(), 06755), 0);
  ASSERT_EQ(::chown((seen_at(nodes, 1) + "/file").c_str(), 11, 12), 0);
  ASSERT_EQ(::symlink("file", (seen_at(nodes, 0) + "/link").c_str()), 0);
  ASSERT_EQ(::lchown((seen_at(nodes, 0) + "/link").c_str(), 13, 14), 0);
  for (const std::string& path : everywhere(nodes, folder, "/file")) {
    EXPECT_EQ(look(path).st_uid, 11u) << path;
    EXPECT_EQ(look(path).st_gid, 12u) << path;
    EXPECT_EQ(look(path).st_mode & 07777, 0755u) << path;
  }
  for (const std::string& path : everywhere(nodes, folder, "/link"))
    EXPECT_EQ(look(path).st_gid, 14u) << path;
  ASSERT_EQ(::chown((seen_at(nodes, 0) + "/file").c_str(), static_cast<uid_t>(-1), 15), 0);
  for (const std::string& path : everywhere(nodes, folder, "/file")) {
    EXPECT_EQ(look(path).st_uid, 11u) << path;
    EXPECT_EQ(look(path).st_gid, 15u) << path;
  }
}

// Who owns a file may give it to a group of his, and to no other.
TEST(FileDetails, OwnersGiveFilesToGroupsOfTheirs) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become other users";
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  const std::string path = seen_at(nodes, 1) + "/file";
  std::ofstream(path) << "x";
  ASSERT_EQ(::chown(path.c_str(), 65534, 65534), 0);
  EXPECT_TRUE(runs_to_its_end([&] {
    const gid_t groups[] = {21, 22};
    if (::setgroups(2, groups) != 0 || ::setgid(65534) != 0 || ::setuid(65534) != 0) return false;
    return ::chown(path.c_str(), static_cast<uid_t>(-1), 22) == 0 &&
           ::chown(path.c_str(), static_cast<uid_t>(-1), 23) == -1 && errno == EPERM;
  }));
  EXPECT_EQ(look(folder.tree() + "/file").st_gid, 22u);
  // New files of a folder with the set-group-ID bit have its group.
  ASSERT_EQ(::mkdir((seen_at(nodes, 0) + "/group").c_str(), 0777), 0);
  ASSERT_EQ(::chown((seen_at(nodes, 0) + "/group").c_str(), 0, 31), 0);
  ASSERT_EQ(::chmod((seen_at(nodes, 0) + "/group").c_str(), 02777), 0);
  std::ofstream(seen_at(nodes, 1) + "/group/new") << "x";
  EXPECT_EQ(look(folder.tree() + "/group/new").st_gid, 31u);
}

// Nothing that a program may ask for is taken for nonsense by another node, which would end the
// link.
TEST(FileDetails, WhatNoFileSystemHasIsRefusedWithTheHostsErrno) {
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream(folder.tree() + "/file") << "x";
  const std::string longest(255, 'a');
  for (const std::string& place : {folder.tree(), seen_at(nodes, 0), seen_at(nodes, 1)}) {
    const std::string too_long = place + "/" + longest + "a";
    const std::string far_too_long = place + "/" + std::string(1024, 'a');
    const auto fails_with = [&](int error, int result) {
      EXPECT_EQ(result, -1) << place;
      EXPECT_EQ(errno, error) << place;
    };
    struct stat status {};
    fails_with(ENOENT, ::stat((place + "/" + longest).c_str(), &status));
    for (const std::string& name : {too_long, far_too_long}) {
      fails_with(ENAMETOOLONG, ::stat(name.c_str(), &status));
      fails_with(ENAMETOOLONG, ::open(name.c_str(), O_RDWR | O_CREAT, 0644));
      fails_with(ENAMETOOLONG, ::mkdir(name.c_str(), 0755));
      fails_with(ENAMETOOLONG, ::symlink("file", name.c_str()));
      fails_with(ENAMETOOLONG, ::rename((place + "/file").c_str(), name.c_str()));
      fails_with(ENAMETOOLONG, ::link((place + "/file").c_str(), name.c_str()));
    }
    const UniqueFd fd(::open((place + "/file").c_str(), O_RDWR));
    fails_with(ENXIO, static_cast<int>(::lseek(fd.get(), -1, SEEK_DATA)));
    fails_with(ENXIO, static_cast<int>(::lseek(fd.get(), -1, SEEK_HOLE)));
    fails_with(EINVAL, ::fallocate(fd.get(), 0, -1, 1));
    fails_with(EINVAL, ::ftruncate(fd.get(), -1));
    fails_with(ERANGE,
               ::setxattr((place + "/file").c_str(), ("user." + longest).c_str(), "x", 1, 0));
    const std::string value(65537, 'v');
    fails_with(E2BIG,
               ::setxattr((place + "/file").c_str(), "user.x", value.data(), value.size(), 0));
  }
  for (const unsigned node : {0u, 1u})
    EXPECT_EQ(nodes.log_of(node).find(" is down"), std::string::npos) << nodes.log_of(node);
}

TEST(FileDetails, TimesAreTheHostsOnAllNodes) {
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  const std::string path = seen_at(nodes, 1) + "/file";
  std::ofstream(path) << "x";
  const timespec set[2] = {{1'000'000'001, 123'456'789}, {1'100'000'002, 987'654'321}};
  ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), set, 0), 0);
  for (const std::string& each : everywhere(nodes, folder, "/file")) {
    const struct stat status = look(each);
    EXPECT_EQ(status.st_atim.tv_sec, set[0].tv_sec) << each;
    EXPECT_EQ(status.st_atim.tv_nsec, set[0].tv_nsec) << each;
    EXPECT_EQ(status.st_mtim.tv_sec, set[1].tv_sec) << each;
    EXPECT_EQ(status.st_mtim.tv_nsec, set[1].tv_nsec) << each;
  }
  // One that is left alone, one that is now.
  const timespec now_and_omit[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
  const time_t before = ::time(nullptr);
  ASSERT_EQ(::utimensat(AT_FDCWD, (seen_at(nodes, 0) + "/file").c_str(), now_and_omit, 0), 0);
  for (const std::string& each : everywhere(nodes, folder, "/file")) {
    EXPECT_GE(look(each).st_atim.tv_sec, before) << each;
    EXPECT_EQ(look(each).st_mtim.tv_nsec, set[1].tv_nsec) << each;
  }
  // A write, on another node, moves it; so does a cut. All agree, to the nanosecond.
  const auto changed = [&](const char* what, auto&& change) {
    const timespec old[2] = {{0, UTIME_OMIT}, {1'200'000'000, 5}};
    ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), old, 0), 0);
    change();
    const struct stat on_disk = look(folder.tree() + "/file");
    EXPECT_GE(on_disk.st_mtim.tv_sec, before) << what;
    for (const std::string& each : everywhere(nodes, folder, "/file")) {
      EXPECT_EQ(look(each).st_mtim.tv_sec, on_disk.st_mtim.tv_sec) << what << " " << each;
      EXPECT_EQ(look(each).st_mtim.tv_nsec, on_disk.st_mtim.tv_nsec) << what << " " << each;
      EXPECT_EQ(look(each).st_ctim.tv_nsec, on_disk.st_ctim.tv_nsec) << what << " " << each;
    }
  };
  const UniqueFd fd(::open((seen_at(nodes, 0) + "/file").c_str(), O_RDWR));
  changed("write", [&] { ASSERT_EQ(::pwrite(fd.get(), "more", 4, 100), 4); });
  changed("truncate", [&] { ASSERT_EQ(::ftruncate(fd.get(), 2), 0); });
  // A folder's, by what is made in it.
  const struct stat was = look(folder.tree());
  ASSERT_EQ(::mkdir((seen_at(nodes, 1) + "/sub").c_str(), 0755), 0);
  const struct stat is = look(folder.tree());
  EXPECT_NE(is.st_mtim.tv_nsec, was.st_mtim.tv_nsec);
  EXPECT_EQ(look(seen_at(nodes, 0)).st_mtim.tv_nsec, is.st_mtim.tv_nsec);
}

TEST(FileDetails, RoomIsTheHostsOnAllNodes) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to mount a file system that nobody else uses";
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  ASSERT_EQ(::mount("tmpfs", folder.tree().c_str(), "tmpfs", 0, "size=3m,nr_inodes=77"), 0);
  folder.attach(nodes);
  std::ofstream(seen_at(nodes, 1) + "/file") << std::string(1 << 20, 'x');
  struct statvfs host {};
  ASSERT_EQ(::statvfs(folder.tree().c_str(), &host), 0);
  ASSERT_EQ(host.f_blocks - host.f_bfree, (1u << 20) / host.f_frsize);
  for (const unsigned node : {0u, 1u})
    for (const char* name : {"", "/file"}) {
      struct statvfs seen {};
      ASSERT_EQ(::statvfs((seen_at(nodes, node) + name).c_str(), &seen), 0);
      EXPECT_EQ(seen.f_bsize, host.f_bsize);
      EXPECT_EQ(seen.f_frsize, host.f_frsize);
      EXPECT_EQ(seen.f_blocks, host.f_blocks);
      EXPECT_EQ(seen.f_bfree, host.f_bfree);
      EXPECT_EQ(seen.f_bavail, host.f_bavail);
      EXPECT_EQ(seen.f_files, host.f_files);
      EXPECT_EQ(seen.f_ffree, host.f_ffree);
      EXPECT_EQ(seen.f_namemax, host.f_namemax);
    }
  EXPECT_EQ(nodes.detach(0, "tree"), "");
  EXPECT_EQ(::umount2(folder.tree().c_str(), MNT_DETACH), 0);
}

// Each kernel makes a pipe of its own of the name.
TEST(FileDetails, ANamedPipeJoinsProgramsOfOneNode) {
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  ASSERT_EQ(::mkfifo((seen_at(nodes, 1) + "/pipe").c_str(), 0640), 0);
  for (const std::string& path : everywhere(nodes, folder, "/pipe"))
    EXPECT_EQ(look(path).st_mode, mode_t{S_IFIFO | 0640}) << path;
  for (const unsigned node : {0u, 1u}) {
    const std::string path = seen_at(nodes, node) + "/pipe";
    const pid_t writer = ::fork();
    if (writer == 0) {
      const int fd = ::open(path.c_str(), O_WRONLY);
      ::_exit(::write(fd, "through", 7) == 7 ? 0 : 1);
    }
    EXPECT_TRUE(runs_to_its_end([&] {
      const int fd = ::open(path.c_str(), O_RDONLY);
      std::string all;
      char bytes[16];
      for (ssize_t got = 0; (got = ::read(fd, bytes, sizeof bytes)) > 0;)
        all.append(bytes, static_cast<std::size_t>(got));
      return all == "through";
    }));
    EXPECT_EQ(Nodes::wait_for(writer, 60'000), 0);
  }
  // Who reads at one node is no reader at the other, as gobd(8) says.
  const UniqueFd reader(::open((seen_at(nodes, 0) + "/pipe").c_str(), O_RDONLY | O_NONBLOCK));
  ASSERT_TRUE(reader);
  EXPECT_EQ(::open((seen_at(nodes, 1) + "/pipe").c_str(), O_WRONLY | O_NONBLOCK), -1);
  EXPECT_EQ(errno, ENXIO);
}

TEST(FileDetails, MknodMakesFilesAndDevicesThatHaveNoEffect) {
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  ASSERT_EQ(::mknod((seen_at(nodes, 1) + "/plain").c_str(), S_IFREG | 0600, 0), 0);
  ASSERT_EQ(::mknod((seen_at(nodes, 1) + "/socket").c_str(), S_IFSOCK | 0600, 0), 0);
  for (const std::string& path : everywhere(nodes, folder, "/plain"))
    EXPECT_EQ(look(path).st_mode, mode_t{S_IFREG | 0600}) << path;
  for (const std::string& path : everywhere(nodes, folder, "/socket"))
    EXPECT_EQ(look(path).st_mode, mode_t{S_IFSOCK | 0600}) << path;
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to make devices";
  ASSERT_EQ(::mknod((seen_at(nodes, 1) + "/null").c_str(), S_IFCHR | 0666, makedev(1, 3)), 0);
  for (const std::string& path : everywhere(nodes, folder, "/null"))
    EXPECT_EQ(look(path).st_rdev, makedev(1, 3)) << path;
  EXPECT_EQ(::open((seen_at(nodes, 0) + "/null").c_str(), O_RDONLY), -1);
  EXPECT_EQ(errno, EACCES);
}

// Without a clock that writes back, what reaches the disk is what was asked for.
TEST(FileDetails, WhatIsAskedToBeOnTheDiskIsThere) {
  constexpr std::size_t kPage = 4096;
  DaemonConfig settings = file_settings();
  settings.write_back_ms = 0;
  Nodes nodes(2, settings);
  const SharedFolder folder;
  folder.attach(nodes);
  const std::string on_disk = folder.tree() + "/file";
  std::ofstream(on_disk) << std::string(2 * kPage, '.');
  EXPECT_TRUE(runs_to_its_end([&] {
    const MappedFile file(nodes, 1, "/file", 2 * kPage);
    *file.at(0) = 'm';
    if (content(on_disk)[0] != '.') return false;
    if (::fdatasync(file.fd()) != 0 || content(on_disk)[0] != 'm') return false;
    for (const int flag : {O_SYNC, O_DSYNC}) {
      const UniqueFd fd(::open((seen_at(nodes, 0) + "/file").c_str(), O_WRONLY | flag));
      const std::string bytes(kPage, flag == O_SYNC ? 's' : 'd');
      if (::pwrite(fd.get(), bytes.data(), bytes.size(), kPage) != kPage) return false;
      if (content(on_disk).substr(kPage) != bytes) return false;
      // And at the end, by who appends.
      const UniqueFd end(::open((seen_at(nodes, 1) + "/file").c_str(), O_WRONLY | O_APPEND | flag));
      if (::write(end.get(), "end", 3) != 3 || !content(on_disk).ends_with("end")) return false;
      if (::ftruncate(end.get(), 2 * kPage) != 0) return false;
    }
    return true;
  }));
}

TEST(FileDetails, OTmpfileIsRefusedWithTheDocumentedErrno) {
  Nodes nodes(1, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  EXPECT_EQ(::open(seen_at(nodes, 0).c_str(), O_RDWR | O_TMPFILE, 0600), -1);
  EXPECT_EQ(errno, EOPNOTSUPP);
}

struct flock range_lock(short type, off_t start, off_t length) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = start;
  lock.l_len = length;
  return lock;
}

int ofd_lock(int fd, short type, off_t start, off_t length) {
  struct flock lock = range_lock(type, start, length);
  return ::fcntl(fd, F_OFD_SETLK, &lock) == 0 ? 0 : errno;
}

// They belong to the open file, not to the process: they hold across nodes and within a process,
// and end when the last descriptor of the open file does.
TEST(FileDetails, LocksOfOpenFilesHoldAcrossNodesAndEndWithThem) {
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream(folder.tree() + "/file") << "some bytes";
  const auto open_at = [&](unsigned node) {
    return UniqueFd(::open((seen_at(nodes, node) + "/file").c_str(), O_RDWR | O_CLOEXEC));
  };
  UniqueFd holder = open_at(1);
  const UniqueFd same_node = open_at(1);
  const UniqueFd other_node = open_at(0);
  ASSERT_EQ(ofd_lock(holder.get(), F_WRLCK, 0, 4), 0);
  EXPECT_EQ(ofd_lock(same_node.get(), F_WRLCK, 0, 1), EAGAIN) << "one process, two open files";
  EXPECT_EQ(ofd_lock(other_node.get(), F_RDLCK, 3, 1), EAGAIN);
  EXPECT_EQ(ofd_lock(other_node.get(), F_WRLCK, 4, 2), 0);
  // Record locks of processes and those of open files stand against each other.
  struct flock record = range_lock(F_WRLCK, 0, 1);
  EXPECT_EQ(::fcntl(other_node.get(), F_SETLK, &record), -1);
  struct flock asked = range_lock(F_WRLCK, 0, 1);
  EXPECT_EQ(::fcntl(other_node.get(), F_OFD_GETLK, &asked), 0);
  EXPECT_EQ(asked.l_type, F_WRLCK);
  // Another descriptor of the same file that is closed takes no lock of this kind with it.
  open_at(1).reset();
  EXPECT_EQ(ofd_lock(other_node.get(), F_RDLCK, 0, 1), EAGAIN);
  // Nor one of the open file itself, while a child has it.
  int go_on[2];
  ASSERT_EQ(::pipe(go_on), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(go_on[1]);
    char byte = 0;
    ::_exit(static_cast<int>(::read(go_on[0], &byte, 1)));
  }
  ::close(go_on[0]);
  holder.reset();
  EXPECT_EQ(ofd_lock(other_node.get(), F_RDLCK, 0, 1), EAGAIN);
  // It waits for the end of the last.
  const pid_t waiting = ::fork();
  if (waiting == 0) {
    ::close(go_on[1]);
    const UniqueFd fd = open_at(0);
    struct flock wanted = range_lock(F_WRLCK, 0, 1);
    ::_exit(::fcntl(fd.get(), F_OFD_SETLKW, &wanted) == 0 ? 0 : errno);
  }
  ::close(go_on[1]);
  EXPECT_EQ(Nodes::wait_for(child, 60'000), 0);
  EXPECT_EQ(Nodes::wait_for(waiting, 20'000), 0) << "the lock outlived its open file";
}

// Else anybody could take others' locks away.
TEST(FileDetails, LocksAreHandedOverByRootOnly) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become another user";
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  const std::string path = seen_at(nodes, 1) + "/file";
  std::ofstream(path) << "x";
  ASSERT_EQ(::chmod(path.c_str(), 0666), 0);
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_EQ(::flock(file.get(), LOCK_EX), 0);
  const auto held = std::make_unique<file::HeldRanges>();
  ASSERT_EQ(::ioctl(file.get(), file::kIoctlHeldRanges, held.get()), 0);
  ASSERT_EQ(held->count, 1u);
  const file::LockOffer offer{held->ranges[0].owner, 0, 1};
  EXPECT_TRUE(runs_to_its_end([&] {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) return false;
    const auto is_refused = [&](unsigned long command, void* argument) {
      return ::ioctl(file.get(), command, argument) == -1 && errno == EPERM;
    };
    file::LockOffer same = offer;
    return is_refused(file::kIoctlHeldRanges, held.get()) &&
           is_refused(file::kIoctlOfferLocks, &same) && is_refused(file::kIoctlJoinLocks, &same) &&
           is_refused(file::kIoctlLocksMoved, &same) && is_refused(file::kIoctlKeepLocks, nullptr);
  }));
  // And what was not offered cannot be joined from the other node.
  const UniqueFd there(::open((seen_at(nodes, 0) + "/file").c_str(), O_RDWR | O_CLOEXEC));
  const file::LockOffer from{offer.owner, 1, 1};
  ASSERT_EQ(::ioctl(there.get(), file::kIoctlJoinLocks, &from), 0);
  EXPECT_EQ(::flock(there.get(), LOCK_EX | LOCK_NB), -1);
  EXPECT_EQ(errno, EAGAIN);
}

// A kernel keeps attributes of files that it reads; whoever changes them waits until it forgot
// them.
TEST(FileDetails, AttributesThatAKernelKeepsAreThoseOfTheLastChange) {
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  const std::string here = seen_at(nodes, 0) + "/file";
  const std::string there = seen_at(nodes, 1) + "/file";
  std::ofstream(here) << "hello";
  const UniqueFd open_there(::open(there.c_str(), O_RDONLY));
  const UniqueFd open_here(::open(here.c_str(), O_RDWR));
  ASSERT_TRUE(open_there && open_here);
  const auto keep = [&] {
    ::usleep(100'000);  // a file that has just changed is not kept
    struct stat status {};
    ASSERT_EQ(::fstat(open_there.get(), &status), 0);
    ASSERT_EQ(::stat(there.c_str(), &status), 0);
  };
  const auto seen = [&] {
    struct stat status {};
    EXPECT_EQ(::fstat(open_there.get(), &status), 0);
    return status;
  };
  const auto modified = [](const struct stat& of) {
    return of.st_mtim.tv_sec * 1'000'000'000 + of.st_mtim.tv_nsec;
  };
  keep();
  const auto before = modified(seen());
  ASSERT_EQ(::pwrite(open_here.get(), "H", 1, 0), 1);
  EXPECT_GT(modified(seen()), before);
  EXPECT_EQ(modified(seen()), modified(look(folder.tree() + "/file")));
  keep();
  ASSERT_EQ(::pwrite(open_here.get(), "longer", 6, 5), 6);
  EXPECT_EQ(seen().st_size, 11);
  keep();
  ASSERT_EQ(::fchmod(open_here.get(), 0600), 0);
  EXPECT_EQ(seen().st_mode & 07777, 0600u);
  keep();
  ASSERT_EQ(::link(here.c_str(), (here + "2").c_str()), 0);
  EXPECT_EQ(seen().st_nlink, 2u);
  keep();
  ASSERT_EQ(::unlink((here + "2").c_str()), 0);
  EXPECT_EQ(seen().st_nlink, 1u);
  keep();
  std::ofstream(here + "3") << "x";
  ASSERT_EQ(::rename((here + "3").c_str(), here.c_str()), 0);
  EXPECT_EQ(seen().st_nlink, 0u);
  EXPECT_EQ(look(there).st_size, 1);
}

// As often as it can: one node writes, and the other looks, by name and by descriptor, and reads.
TEST(FileDetails, WhoLooksAfterAWriteSeesItsTime) {
  Nodes nodes(2, file_settings());
  const SharedFolder folder;
  folder.attach(nodes);
  std::ofstream(folder.tree() + "/file") << std::string(5000, 'x');
  const std::string here = seen_at(nodes, 0) + "/file";
  const std::string there = seen_at(nodes, 1) + "/file";
  std::atomic<std::int64_t> written = 0;  // when the file last changed that a write has ended for
  std::atomic<std::int64_t> length = 5000;
  std::atomic<bool> end = false;
  const auto time_of = [](const struct stat& of) {
    return of.st_mtim.tv_sec * 1'000'000'000 + of.st_mtim.tv_nsec;
  };
  std::vector<std::thread> lookers;
  for (const bool by_name : {false, true})
    lookers.emplace_back([&, by_name] {
      UniqueFd fd(::open(there.c_str(), O_RDONLY));
      while (!end) {
        const std::int64_t oldest = written;
        const std::int64_t shortest = length;
        struct stat status {};
        ASSERT_EQ(by_name ? ::stat(there.c_str(), &status) : ::fstat(fd.get(), &status), 0);
        ASSERT_GE(time_of(status), oldest);
        ASSERT_GE(status.st_size, shortest);
        if (by_name) fd.reset(::open(there.c_str(), O_RDONLY));
        char byte = 0;
        ASSERT_EQ(::pread(fd.get(), &byte, 1, shortest - 1), 1);
        ASSERT_EQ(byte, 'x');
      }
    });
  const UniqueFd fd(::open(here.c_str(), O_RDWR));
  std::uint32_t steps = 1;
  for (int i = 0; i < 120; ++i) {
    const std::int64_t at = i % 4 == 3 ? length.load() : 100;
    ASSERT_EQ(::pwrite(fd.get(), "x", 1, at), 1);
    struct stat status {};
    ASSERT_EQ(::stat((folder.tree() + "/file").c_str(), &status), 0);
    written = time_of(status);
    length = status.st_size;
    // Around the time after which attributes are kept.
    steps = steps * 1103515245 + 12345;
    ::usleep(35'000 + (steps >> 16) % 40'000);
  }
  end = true;
  for (std::thread& looker : lookers) looker.join();
}

}  // namespace
}  // namespace gob
