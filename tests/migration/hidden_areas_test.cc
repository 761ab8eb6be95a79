// Large areas of a stopped process, a child of this one, are hidden from what CRIU reads, and
// appear again in its images. CRIU itself is played: its call to open smaps, and the image that
// comes of it.
#include "libgob/migration/hidden_areas.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <sstream>

#include "libgob/base/ids.h"
#include "libgob/base/unique_fd.h"
#include "libgob/migration/criu_images.pb.h"

namespace gob::migration {
namespace {

constexpr std::uint64_t kPages = 1024;
constexpr int kClosesSmall = 1;
constexpr int kForksWithoutLarge = 2;

std::uint64_t number_of(const void* at) { return reinterpret_cast<std::uint64_t>(at); }

// Between pages of other rights: areas side by side would be one.
char* map_pages(std::uint64_t pages) {
  char* at = static_cast<char*>(::mmap(nullptr, (pages + 2) * kPageSize, PROT_READ,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  ::mprotect(at + kPageSize, pages * kPageSize, PROT_READ | PROT_WRITE);
  return at + kPageSize;
}

class HiddenAreasTest : public testing::Test {
 protected:
  HiddenAreasTest() {
    for (const std::uint64_t page : {0, 3, 4, 5, 900}) large_[page * kPageSize] = 7;
    for (const std::uint64_t page : {1, 2}) closed_[page * kPageSize] = 7;
    small_[0] = 7;
    ::mprotect(closed_, kPages * kPageSize, PROT_NONE);
    std::array<char, 64> name{"/tmp/hidden-areas-XXXXXX"};
    folder_ = ::mkdtemp(name.data());
    child_ = ::fork();
    if (child_ == 0) {
      ::mlock2(locked_, kPages * kPageSize, MLOCK_ONFAULT);
      ::raise(SIGSTOP);
      if (*asked_ == kClosesSmall) ::mprotect(small_, 16 * kPageSize, PROT_READ);
      if (*asked_ == kForksWithoutLarge) ::madvise(large_, kPages * kPageSize, MADV_DONTFORK);
      ::raise(SIGSTOP);
      ::_exit(0);
    }
    ::waitpid(child_, nullptr, WUNTRACED);
    ResidentRequest::Process& process = *processes_.add_processes();
    process.set_pid(child_);
    process.set_inside(child_);
  }
  ~HiddenAreasTest() override {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
    std::filesystem::remove_all(folder_);
  }

  // Lets the child go on, until it has done `what` and stands still again.
  bool change_child(int what) {
    *asked_ = what;
    int status = 0;
    return ::kill(child_, SIGCONT) == 0 && ::waitpid(child_, &status, WUNTRACED) == child_ &&
           WIFSTOPPED(status);
  }
  // How CRIU opens the file: below a descriptor of the process's folder.
  std::string smaps_seen() {
    const auto variables = prepare_blinkers(folder_);
    EXPECT_TRUE(variables);
    const std::string& place = variables->back();
    ::setenv("GOB_CRIU_BLINKERS", place.substr(place.find('=') + 1).c_str(), 1);
    void* const library = ::dlopen((folder_ + "/blinkers.so").c_str(), RTLD_NOW | RTLD_LOCAL);
    EXPECT_NE(library, nullptr) << ::dlerror();
    int (*open)(int, const char*, int, ...) = nullptr;
    *reinterpret_cast<void**>(&open) = ::dlsym(library, "openat64");
    const UniqueFd process(
        ::open(("/proc/" + std::to_string(child_)).c_str(), O_RDONLY | O_DIRECTORY));
    const UniqueFd file(open(process.get(), "smaps", O_RDONLY));
    std::string text;
    std::array<char, 4096> bytes;
    for (ssize_t got = 0; (got = ::read(file.get(), bytes.data(), bytes.size())) > 0;)
      text.append(bytes.data(), static_cast<std::size_t>(got));
    return text;
  }
  // What CRIU is shown of the process as it stands still.
  std::string show(HiddenAreas& hidden) {
    hidden.find(processes_);
    EXPECT_TRUE(hidden.hide(folder_));
    hidden.look();
    return smaps_seen();
  }
  static std::string range(const char* at, std::uint64_t pages) {
    std::ostringstream text;
    text << std::hex << number_of(at) << '-' << number_of(at) + pages * kPageSize << ' ';
    return text.str();
  }
  [[nodiscard]] std::string image_path() const {
    return folder_ + "/mm-" + std::to_string(child_) + ".img";
  }
  // CRIU's image of two areas, with a field that is not known here: 1, a number.
  void write_image(std::uint64_t large_pages, std::uint64_t closed_pages) const {
    criu::Mm mm;
    for (const auto& [start, pages] : {std::pair(large_, large_pages), {closed_, closed_pages}}) {
      criu::Vma& vma = *mm.add_vmas();
      vma.set_start(number_of(start));
      vma.set_end(number_of(start) + pages * kPageSize);
      vma.set_flags(MAP_PRIVATE | MAP_ANONYMOUS);
      vma.set_status(1 << 0 | 1 << 9);
    }
    const std::string body = mm.SerializeAsString() + "\x08\x2a";
    const std::array<std::uint32_t, 3> head{0x54564319, 0x57492820,
                                            static_cast<std::uint32_t>(body.size())};
    std::ofstream file(image_path(), std::ios::binary);
    file.write(reinterpret_cast<const char*>(head.data()), sizeof head);
    file << body;
  }
  [[nodiscard]] std::string image() const {
    std::ifstream file(image_path(), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  char* large_ = map_pages(kPages);
  char* closed_ = map_pages(kPages);
  char* locked_ = map_pages(kPages);
  char* small_ = map_pages(16);
  int* asked_ = static_cast<int*>(
      ::mmap(nullptr, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  std::string folder_;
  pid_t child_ = -1;
  ResidentRequest::Processes processes_;
};

TEST_F(HiddenAreasTest, CriuSeesOnePageOfLargeAreasAndAllOfOthers) {
  HiddenAreas hidden;
  hidden.find(processes_);
  ASSERT_TRUE(hidden.hide(folder_));
  auto seen =
      std::async(std::launch::async, [this] { return smaps_seen(); });  // it waits for this:
  hidden.look();
  const std::string text = seen.get();
  EXPECT_NE(text.find(range(large_, 1) + "rw-p"), std::string::npos);
  EXPECT_NE(text.find(range(closed_, 1) + "---p"), std::string::npos);
  EXPECT_NE(text.find(range(locked_, kPages)), std::string::npos);
  EXPECT_NE(text.find(range(small_, 16)), std::string::npos);
  EXPECT_NE(text.find("[stack]"), std::string::npos);
}

// What was read while the process ran is shown when the areas are the same, and held against the
// truth later.
TEST_F(HiddenAreasTest, WhatWasForeseenIsShownAndProvedAfterwards) {
  HiddenAreas hidden;
  hidden.foresee(processes_);
  const std::string text = show(hidden);
  EXPECT_NE(text.find(range(large_, 1) + "rw-p"), std::string::npos);
  EXPECT_NE(text.find(range(locked_, kPages)), std::string::npos);
  EXPECT_TRUE(hidden.make_sure());
}

TEST_F(HiddenAreasTest, AreasThatChangedBeforeTheStopAreLookedAtAnew) {
  HiddenAreas hidden;
  hidden.foresee(processes_);
  ASSERT_TRUE(change_child(kClosesSmall));
  EXPECT_NE(show(hidden).find(range(small_, 16) + "r--p"), std::string::npos);
  EXPECT_TRUE(hidden.make_sure());
}

TEST_F(HiddenAreasTest, FlagsThatChangedBeforeTheStopAreNoticed) {
  HiddenAreas hidden;
  hidden.foresee(processes_);
  ASSERT_TRUE(change_child(kForksWithoutLarge));
  show(hidden);
  const Status sure = hidden.make_sure();
  ASSERT_FALSE(sure);
  EXPECT_EQ(sure.error().code, ErrorCode::kUnavailable);
}

TEST_F(HiddenAreasTest, CriuSeesEverythingIfWhoeverWouldHideItEnds) {
  {
    HiddenAreas hidden;
    hidden.find(processes_);
    ASSERT_TRUE(hidden.hide(folder_));
  }
  EXPECT_NE(smaps_seen().find(range(large_, kPages)), std::string::npos);
}

TEST_F(HiddenAreasTest, CriuSeesEverythingWhereNothingIsHidden) {
  const std::string text = smaps_seen();
  EXPECT_NE(text.find(range(large_, kPages)), std::string::npos);
}

TEST_F(HiddenAreasTest, ImagesGetTheAreasAsTheyAreAndTasksTheirPages) {
  HiddenAreas hidden;
  hidden.find(processes_);
  hidden.look();

  write_image(1, 1);
  std::set<std::uint64_t> changed;
  ASSERT_TRUE(lengthen_areas(image_path(),
                             {{number_of(large_), number_of(large_) + kPages * kPageSize},
                              {number_of(closed_), number_of(closed_) + kPages * kPageSize}},
                             changed));
  EXPECT_EQ(changed.size(), 2u);
  const auto areas = private_areas(image());
  ASSERT_TRUE(areas);
  ASSERT_EQ(areas->size(), 2u);
  EXPECT_EQ(areas->front().end, number_of(large_) + kPages * kPageSize);
  EXPECT_EQ(areas->back().end, number_of(closed_) + kPages * kPageSize);
  EXPECT_NE(image().find("\x08\x2a"), std::string::npos)
      << "a field that is not known here is gone";

  std::vector<LazyTask> tasks{{child_, *areas, {{number_of(large_), 1}}, {}}};
  hidden.add_to(tasks);
  const std::uint64_t at = number_of(large_);
  EXPECT_EQ(std::ranges::count(tasks[0].runs, LazyRun{at + 3 * kPageSize, 3}), 1);
  EXPECT_EQ(std::ranges::count(tasks[0].runs, LazyRun{at + 900 * kPageSize, 1}), 1);
  EXPECT_EQ(std::ranges::count(tasks[0].runs, LazyRun{number_of(closed_) + kPageSize, 2}), 1);
  EXPECT_TRUE(tasks[0].areas[0].looked_at);
}

TEST_F(HiddenAreasTest, AreasThatCriuSawStayAsTheyAre) {
  write_image(kPages, 1);
  const std::string before = image();
  std::set<std::uint64_t> changed;
  const std::map<std::uint64_t, std::uint64_t> ends{
      {number_of(large_), number_of(large_) + kPages * kPageSize}};
  ASSERT_TRUE(lengthen_areas(image_path(), ends, changed));
  EXPECT_TRUE(changed.empty());
  EXPECT_EQ(image(), before);
}

TEST_F(HiddenAreasTest, AnAreaThatIsNeitherIsRefused) {
  write_image(2, 1);
  std::set<std::uint64_t> changed;
  const Status odd = lengthen_areas(
      image_path(), {{number_of(large_), number_of(large_) + kPages * kPageSize}}, changed);
  ASSERT_FALSE(odd);
  EXPECT_EQ(odd.error().code, ErrorCode::kProtocol);
  EXPECT_FALSE(
      lengthen_areas(image_path(), {{number_of(small_), number_of(small_) + kPageSize}}, changed));
}

}  // namespace
}  // namespace gob::migration
