#include "libgob/runtime/control_listener.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <fstream>

#include "tests/runtime/control_fixture.h"

namespace gob {
namespace {

using test::TempDir;

mode_t mode_of(const std::string& path) {
  struct stat file {};
  EXPECT_EQ(::lstat(path.c_str(), &file), 0);
  return file.st_mode & 07777;
}

TEST(ControlListener, TheFileHasTheModeAskedWhateverTheUmask) {
  const TempDir dir;
  const mode_t before = ::umask(0077);
  {
    auto listener = ControlListener::listen(dir.file("s"), 0666);
    ::umask(before);
    ASSERT_TRUE(listener.ok()) << listener.error().message();
    EXPECT_EQ(mode_of(dir.file("s")), 0666u);
  }
  auto strict = ControlListener::listen(dir.file("s"), 0600);
  ASSERT_TRUE(strict.ok());
  EXPECT_EQ(mode_of(dir.file("s")), 0600u);
}

TEST(ControlListener, NothingIsLeftBehind) {
  const TempDir dir;
  { auto listener = ControlListener::listen(dir.file("s"), 0600); }
  EXPECT_FALSE(std::filesystem::exists(dir.file("s")));
  EXPECT_FALSE(std::filesystem::exists(dir.file("s.lock")));
}

TEST(ControlListener, ASecondServerIsRefusedAndTheFirstUnharmed) {
  const TempDir dir;
  auto first = ControlListener::listen(dir.file("s"), 0600);
  ASSERT_TRUE(first.ok());
  auto second = ControlListener::listen(dir.file("s"), 0600);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, ErrorCode::kAlreadyExists);
  EXPECT_NE(second.error().message().find(dir.file("s")), std::string::npos);
  const UniqueFd connection = test::raw_connection(dir.file("s"));
}

TEST(ControlListener, AProgramThatListensWithoutOurLockIsRespected) {
  const TempDir dir;
  const auto address = unix_address(dir.file("s"));
  UniqueFd other(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::bind(other.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address), 0);
  ASSERT_EQ(::listen(other.get(), 1), 0);
  auto listener = ControlListener::listen(dir.file("s"), 0600);
  ASSERT_FALSE(listener.ok());
  EXPECT_EQ(listener.error().errno_value, EADDRINUSE);
  EXPECT_TRUE(std::filesystem::exists(dir.file("s")));
}

TEST(ControlListener, ASocketLeftByAKilledServerIsReplaced) {
  const TempDir dir;
  const pid_t child = ::fork();
  if (child == 0) {
    auto listener = ControlListener::listen(dir.file("s"), 0600);
    ::raise(SIGKILL);
    ::_exit(1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  ASSERT_TRUE(std::filesystem::exists(dir.file("s")));
  auto listener = ControlListener::listen(dir.file("s"), 0600);
  ASSERT_TRUE(listener.ok()) << listener.error().message();
  const UniqueFd connection = test::raw_connection(dir.file("s"));
}

TEST(ControlListener, AFileThatIsNoSocketIsNeverRemoved) {
  const TempDir dir;
  std::ofstream(dir.file("s")) << "precious";
  auto listener = ControlListener::listen(dir.file("s"), 0600);
  ASSERT_FALSE(listener.ok());
  EXPECT_NE(listener.error().message().find("not a socket"), std::string::npos);
  EXPECT_EQ(std::filesystem::file_size(dir.file("s")), 8u);
  EXPECT_FALSE(std::filesystem::exists(dir.file("s.lock")));
}

TEST(ControlListener, APathTooLongForASocketSaysSo) {
  auto listener = ControlListener::listen("/tmp/" + std::string(108, 'x'), 0600);
  ASSERT_FALSE(listener.ok());
  EXPECT_EQ(listener.error().errno_value, ENAMETOOLONG);
  EXPECT_NE(listener.error().message().find("107"), std::string::npos);
  EXPECT_FALSE(ControlListener::listen("", 0600).ok());
}

TEST(ControlListener, ADirectoryThatDoesNotExistIsNamed) {
  const TempDir dir;
  auto listener = ControlListener::listen(dir.file("missing/s"), 0600);
  ASSERT_FALSE(listener.ok());
  EXPECT_EQ(listener.error().errno_value, ENOENT);
  EXPECT_NE(listener.error().message().find("directory"), std::string::npos);
}

}  // namespace
}  // namespace gob
