// How a process will reach its files at the target: what counts as the same, what the source has to
// show, what is refused.
#include "libgob/migration/view.h"

#include <elf.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "libgob/migration/file_facts.h"

namespace gob::migration {
namespace {

namespace fs = std::filesystem;

// The smallest program with a build-id; not one that would run.
std::string program(const std::string& build_id, char body) {
  struct {
    Elf64_Ehdr header{};
    Elf64_Phdr part{};
    Elf64_Nhdr note{};
    char name[4] = "GNU";
  } start;
  std::memcpy(start.header.e_ident, ELFMAG, SELFMAG);
  start.header.e_ident[EI_CLASS] = ELFCLASS64;
  start.header.e_phoff = sizeof start.header;
  start.header.e_phentsize = sizeof start.part;
  start.header.e_phnum = 1;
  start.part.p_type = PT_NOTE;
  start.part.p_offset = sizeof start.header + sizeof start.part;
  start.part.p_filesz = sizeof start.note + sizeof start.name + build_id.size();
  start.note = {4, static_cast<Elf64_Word>(build_id.size()), NT_GNU_BUILD_ID};
  return std::string(reinterpret_cast<const char*>(&start), sizeof start) + build_id +
         std::string(5000, body);
}

class View : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = fs::temp_directory_path() / "view_test.XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    begin_.set_boot("that of another machine");
    begin_.set_mount("/its/gob");
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string make(const std::string& name, const std::string& content) {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << content;
    return folder_ / name;
  }
  // One that the process uses, as a source says it that has what is at `at`.
  File& uses(const std::string& path, const std::string& at, bool installed = false) {
    File& file = *begin_.add_files();
    file = *facts_of(at, mounts_);
    file.set_path(path);
    file.set_installed(installed);
    if (installed) file.set_build_id(build_id_of(at));
    return file;
  }
  Result<Ready> plan() { return plan_view(begin_, here_); }
  void refused_because(const std::string& why) {
    const auto ready = plan();
    ASSERT_FALSE(ready);
    EXPECT_NE(ready.error().message().find(why), std::string::npos) << ready.error().message();
  }
  static std::vector<std::string> folders(const Ready& ready) {
    return {ready.folders().begin(), ready.folders().end()};
  }

  fs::path folder_;
  Begin begin_;
  Place here_{"n2", "/gob"};
  const NetworkMounts mounts_{"/proc/self/mountinfo"};
};

TEST_F(View, OneFileOfOneKernelIsTheSame) {
  const std::string path = make("app/data", "x");
  uses(path, path);
  begin_.set_boot(boot_id());
  const auto ready = plan();
  ASSERT_TRUE(ready) << ready.error().message();
  EXPECT_EQ(ready->ways(0), SAME_FILE);
  EXPECT_TRUE(folders(*ready).empty());
}

TEST_F(View, TheSameNumberOnAnotherMachineProvesNothing) {
  const std::string path = make("app/data", "x");
  uses(path, path);
  const auto ready = plan();
  ASSERT_TRUE(ready) << ready.error().message();
  EXPECT_EQ(ready->ways(0), FROM_SOURCE);
  EXPECT_EQ(folders(*ready), std::vector<std::string>{folder_ / "app"});
}

TEST_F(View, TheSameBuildOfALibraryServesAsWell) {
  const std::string here = make("lib/x.so", program("12345678", 'x'));
  uses(here, make("theirs/x.so", program("12345678", 'x')), true);
  const auto ready = plan();
  ASSERT_TRUE(ready) << ready.error().message();
  EXPECT_EQ(ready->ways(0), EQUAL_FILE);
  EXPECT_TRUE(folders(*ready).empty());
}

TEST_F(View, AnotherBuildOfTheSameSizeDoesNot) {
  const std::string here = make("lib/x.so", program("12345678", 'x'));
  uses(here, make("theirs/x.so", program("12345679", 'y')), true);
  const auto ready = plan();
  ASSERT_TRUE(ready) << ready.error().message();
  EXPECT_EQ(ready->ways(0), FROM_SOURCE);
}

TEST_F(View, EqualSizesWithoutABuildIdProveNothing) {
  const std::string here = make("lib/table", std::string(5000, 'x'));
  uses(here, make("theirs/table", std::string(5000, 'y')), true);
  const auto ready = plan();
  ASSERT_TRUE(ready) << ready.error().message();
  EXPECT_EQ(ready->ways(0), FROM_SOURCE);
}

TEST_F(View, ALibraryThatIsOpenAsDataIsNotReplaced) {
  const std::string here = make("lib/x.so", program("12345678", 'x'));
  uses(here, make("theirs/x.so", program("12345678", 'x')), false);
  const auto ready = plan();
  ASSERT_TRUE(ready) << ready.error().message();
  EXPECT_EQ(ready->ways(0), FROM_SOURCE);
}

TEST_F(View, TheNearestFolderThatIsHereCoversAndTakesItsNeighboursAlong) {
  const std::string lib = make("app/lib/x.so", program("12345678", 'x'));
  uses(lib, lib, true);
  uses(folder_ / "app/deep/er/data", make("theirs/data", "x"));
  const auto ready = plan();
  ASSERT_TRUE(ready) << ready.error().message();
  EXPECT_EQ(folders(*ready), std::vector<std::string>{folder_ / "app"});
  EXPECT_EQ(ready->ways(0), FROM_SOURCE);  // by itself it would be EQUAL_FILE
}

TEST_F(View, FilesOfTheMountGoOnInTheMountHere) {
  begin_.set_mount(folder_ / "gob");
  uses(folder_ / "gob/work/data", make("theirs/data", "x"));
  refused_because("make a folder");
  fs::create_directory(folder_ / "gob");
  const auto ready = plan();
  ASSERT_TRUE(ready) << ready.error().message();
  EXPECT_EQ(ready->ways(0), OWN_MOUNT);
}

TEST_F(View, TheMountIsAboveAFolderThatCoversIt) {
  begin_.set_mount(folder_ / "gob");
  here_.mount = begin_.mount();
  fs::create_directory(here_.mount);
  uses(here_.mount + "/work/data", make("theirs/data", "x"));
  uses(folder_ / "data", make("theirs/data", "x"));
  const auto ready = plan();
  ASSERT_TRUE(ready) << ready.error().message();
  EXPECT_EQ(folders(*ready), std::vector<std::string>{folder_});
  EXPECT_EQ(ready->ways(0), SAME_FILE);
  gob::migration::View view;
  Cover& mount = *view.add_covers();
  mount.set_path(here_.mount);
  EXPECT_TRUE(binds_of(view, here_).empty()) << "it is there";
  Cover& above = *view.add_covers();
  above.set_path(fs::path(here_.mount).parent_path());
  above.set_home("n3");
  above.set_name("x.0");
  EXPECT_EQ(binds_of(view, here_),
            (std::vector<Bind>{{here_.mount + "/x.0", above.path()}, {here_.mount, here_.mount}}));
}

TEST_F(View, WhereAProcessComesBackItsFolderIsJustThere) {
  const std::string path = make("app/data", "x");
  uses(path, path);
  Cover& cover = *begin_.add_covers();
  cover.set_path(folder_ / "app");
  cover.set_home("n2");
  const auto ready = plan();
  ASSERT_TRUE(ready) << ready.error().message();
  EXPECT_EQ(ready->ways(0), SAME_FILE);
  fs::remove(path);  // as the process does with a file that it needs for a moment only
  const auto later = plan();
  ASSERT_TRUE(later) << later.error().message();
  EXPECT_EQ(later->ways(0), SAME_FILE);
}

TEST_F(View, FoldersOfAThirdNodeStay) {
  Cover& cover = *begin_.add_covers();
  cover.set_path(folder_ / "app");
  cover.set_home("n3");
  uses(folder_ / "app/data", make("theirs/data", "x"));
  const auto ready = plan();
  ASSERT_TRUE(ready) << ready.error().message();
  EXPECT_EQ(ready->ways(0), FROM_HOME);
  EXPECT_TRUE(folders(*ready).empty());
}

TEST_F(View, AFileWithoutANameGoesAlongWhereItsFolderIs) {
  const std::string theirs = make("theirs/data", "x");
  uses(folder_ / "gone", theirs).set_copied(true);
  uses(folder_ / "not/here/gone", theirs).set_copied(true);
  const auto ready = plan();
  ASSERT_TRUE(ready) << ready.error().message();
  EXPECT_EQ(ready->ways(0), COPIED);
  EXPECT_EQ(ready->ways(1), FROM_SOURCE);
  EXPECT_EQ(folders(*ready), std::vector<std::string>{folder_});
}

TEST_F(View, RefusesWhatCannotBeReached) {
  const std::string theirs = make("theirs/data", "x");
  uses("/dev/shm/view_test/data", theirs);
  refused_because("each node has its own /dev");
  begin_.clear_files();
  uses("/no_such_folder_of_view_test/data", theirs);
  refused_because("make an empty folder /no_such_folder_of_view_test here");
  begin_.clear_files();
  uses(folder_ / "data", theirs).set_stored_into(true);
  refused_because("is mapped shared, for writing");
  begin_.clear_files();
  uses(folder_ / "hsperfdata_root/1", theirs).set_stored_into(true);
  refused_because("start it with -XX:-UsePerfData");
  begin_.clear_files();
  uses(folder_ / "data", theirs);
  here_.mount.clear();
  refused_because("start it with --mount");
}

}  // namespace
}  // namespace gob::migration
