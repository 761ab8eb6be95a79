// The shape of the source tree: layers, purity of the protocol core, headers, length of files. Each
// rule is also shown a file that breaks it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "tests/layering/source_rules.h"

namespace gob::layering {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const char* const kFolders[] = {"libgob",   "gobd",     "gobctl", "gobmigrate",
                                "gobbench", "examples", "tests",  "scripts"};

// Every source file of the repository by its path from the root.
const std::map<std::string, std::string>& sources() {
  static const std::map<std::string, std::string> all = [] {
    std::map<std::string, std::string> texts;
    const fs::path root(GOB_SOURCE_ROOT);
    for (const char* folder : kFolders) {
      if (!fs::exists(root / folder)) continue;
      for (const auto& file : fs::recursive_directory_iterator(
               root / folder, fs::directory_options::follow_directory_symlink)) {
        if (!file.is_regular_file()) continue;
        const std::string type = file.path().extension();
        if (type != ".h" && type != ".hpp" && type != ".c" && type != ".cc" && type != ".proto" &&
            type != ".sh" && type != ".py")
          continue;
        std::ifstream stream(file.path());
        std::ostringstream text;
        text << stream.rdbuf();
        texts[file.path().lexically_relative(root).generic_string()] = text.str();
      }
    }
    return texts;
  }();
  return all;
}

bool is_header(const std::string& path) { return path.ends_with(".h") || path.ends_with(".hpp"); }

TEST(SourceTree, IsSeen) {
  EXPECT_GT(sources().size(), 50u);
  EXPECT_TRUE(sources().contains("libgob/protocol/core.h"));
  EXPECT_TRUE(sources().contains("libgob/base/ids.h"));
  EXPECT_TRUE(sources().contains("tests/layering/layering_test.cc"));
}

TEST(SourceTree, FoldersIncludeOnlyFoldersBelowThem) {
  for (const auto& [path, text] : sources()) EXPECT_THAT(check_layers(path, text), IsEmpty());
}

TEST(SourceTree, TheProtocolCoreReachesNothingOutsideTheProcess) {
  int files = 0;
  for (const auto& [path, text] : sources()) {
    if (layer_of(path) != "protocol") continue;
    ++files;
    EXPECT_THAT(check_pure(path, sources()), IsEmpty());
  }
  EXPECT_GT(files, 10);
}

TEST(SourceTree, HeadersBeginWithTheirRole) {
  for (const auto& [path, text] : sources()) {
    if (!is_header(path)) continue;
    EXPECT_THAT(check_header(path, text), IsEmpty());
  }
}

TEST(SourceTree, NoFileIsTooLong) {
  for (const auto& [path, text] : sources()) EXPECT_THAT(check_length(path, text), IsEmpty());
}

// --- the rules themselves

TEST(LayerRule, SeesALayerAboveAnotherProgramAndAnOddPath) {
  EXPECT_THAT(check_layers("libgob/protocol/x.cc", "#include \"libgob/wire/frame.h\"\n"),
              Contains(HasSubstr("a layer above its own")));
  EXPECT_THAT(check_layers("libgob/base/x.h", "  #  include \"libgob/gob.h\"\n"),
              Contains(HasSubstr("a layer above its own")));
  EXPECT_THAT(check_layers("gobctl/x.cc", "#include \"gobd/main.h\"\n"),
              Contains(HasSubstr("another program")));
  EXPECT_THAT(check_layers("libgob/runtime/x.cc", "#include \"gobd/main.h\"\n"),
              Contains(HasSubstr("another program")));
  EXPECT_THAT(check_layers("libgob/runtime/x.cc", "#include \"x.h\"\n"),
              Contains(HasSubstr("from the root")));
  EXPECT_THAT(check_layers("libgob/runtime/x.cc", "#include \"tests/sim/world.h\"\n"),
              Contains(HasSubstr("only tests")));
  EXPECT_THAT(check_layers("libgob/strange/x.cc", ""), Contains(HasSubstr("no place")));
}

TEST(LayerRule, LetsTheRestBe) {
  EXPECT_THAT(check_layers("libgob/wire/x.cc",
                           "#include <vector>\n#include \"libgob/base/ids.h\"\n"
                           "#include \"libgob/wire/frame.h\"\n"),
              IsEmpty());
  EXPECT_THAT(check_layers("gobctl/x.cc", "#include \"gobctl/y.h\"\n#include \"libgob/gob.h\"\n"),
              IsEmpty());
  EXPECT_THAT(check_layers("tests/wire/x.cc", "#include \"tests/sim/world.h\"\n"), IsEmpty());
}

TEST(PurityRule, SeesWhatComesByAnotherHeader) {
  const std::map<std::string, std::string> tree = {
      {"libgob/protocol/a.cc", "#include \"libgob/base/b.h\"\n#include <vector>\n"},
      {"libgob/base/b.h", "#include \"libgob/base/b.h\"\n#include <unistd.h>\n"}};
  EXPECT_THAT(check_pure("libgob/protocol/a.cc", tree),
              Contains(HasSubstr("<unistd.h> by libgob/base/b.h")));
  for (const char* header : {"thread", "mutex", "chrono", "iostream", "fstream", "random",
                             "spdlog/spdlog.h", "sys/socket.h", "atomic"})
    EXPECT_THAT(check_pure("a", {{"a", std::string("#include <") + header + ">\n"}}),
                Contains(HasSubstr(header)));
  EXPECT_THAT(check_pure("a", {{"a", "#include \"gone.h\"\n"}}),
              Contains(HasSubstr("does not exist")));
}

TEST(HeaderRule, SeesAHeaderWithoutRoleOrGuard) {
  EXPECT_THAT(check_header("a.h", "#pragma once\n"), Contains(HasSubstr("role")));
  EXPECT_THAT(check_header("a.h", "// Things.\n#pragma once\n"), Contains(HasSubstr("too short")));
  EXPECT_THAT(check_header("a.h", "// What this header is for, in a sentence.\n\nint x;\n"),
              Contains(HasSubstr("guard")));
  EXPECT_THAT(
      check_header("a.h", "// What this header is for, in a whole sentence.\n#pragma once\n"),
      IsEmpty());
}

TEST(LengthRule, CountsLines) {
  EXPECT_THAT(check_length("a", std::string(kMaxLines, '\n')), IsEmpty());
  EXPECT_THAT(check_length("a", std::string(kMaxLines + 1, '\n')),
              Contains(HasSubstr("501 lines")));
}

}  // namespace
}  // namespace gob::layering
