// Text for terminals: what it looks like, and that bytes of others cannot steer them.
#include "gobctl/terminal.h"

#include <gtest/gtest.h>

#include <sstream>

namespace gob::ctl {
namespace {

TEST(Printable, LeavesTextAlone) {
  EXPECT_EQ(printable("matrix-1"), "matrix-1");
  EXPECT_EQ(printable("Gobelin·€·𝄞"), "Gobelin·€·𝄞");
  EXPECT_EQ(printable(""), "");
}

TEST(Printable, ShowsControlsAndBrokenUtf8AsBytes) {
  EXPECT_EQ(printable("a\x1b[31mb"), "a\\x1b[31mb");
  EXPECT_EQ(printable(std::string("a\0b", 3)), "a\\x00b");
  EXPECT_EQ(printable("a\nb\x7f"), "a\\x0ab\\x7f");
  EXPECT_EQ(printable("\xc2\x9b"), "\\xc2\\x9b");           // a one-character CSI
  EXPECT_EQ(printable("\xe2\x80\xae"), "\\xe2\\x80\\xae");  // right-to-left override
  EXPECT_EQ(printable("\xc0\xaf"), "\\xc0\\xaf");           // overlong
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");  // a surrogate
  EXPECT_EQ(printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");
  EXPECT_EQ(printable("\xe2\x82"), "\\xe2\\x82");  // cut short
}

TEST(Table, LinesColumnsUp) {
  Table table({{"NAME"}, {"SIZE", Table::Align::kRight}, {"NOTE"}});
  table.add({"a", "1", "x"});
  table.add({"größer", "1000", ""});
  std::ostringstream out;
  table.print(out, Paint(false));
  EXPECT_EQ(out.str(),
            "NAME    SIZE  NOTE\n"
            "a          1  x\n"
            "größer  1000\n");
}

TEST(Paint, ColoursOnlyWhenOn) {
  EXPECT_EQ(Paint(false).bad("x"), "x");
  EXPECT_EQ(Paint(true).bad("x"), "\x1b[31mx\x1b[0m");
}

TEST(Format, Durations) {
  EXPECT_EQ(format_duration(0), "0 ns");
  EXPECT_EQ(format_duration(999), "999 ns");
  EXPECT_EQ(format_duration(1'000), "1.00 us");
  EXPECT_EQ(format_duration(45'100), "45.1 us");
  EXPECT_EQ(format_duration(999'400), "999 us");
  EXPECT_EQ(format_duration(999'600), "1.00 ms");
  EXPECT_EQ(format_duration(12'345'678'901), "12.3 s");
}

TEST(Format, AgesAndModes) {
  EXPECT_EQ(format_age(0), "0 s");
  EXPECT_EQ(format_age(119'999), "119 s");
  EXPECT_EQ(format_age(120'000), "2 min");
  EXPECT_EQ(format_age(3 * 3'600'000), "3 h");
  EXPECT_EQ(format_age(std::uint64_t{50} * 3'600'000), "2 days");
  EXPECT_EQ(format_mode(0640), "rw-r-----");
  EXPECT_EQ(format_mode(0777), "rwxrwxrwx");
}

TEST(Format, UnknownOwnersAreNumbers) {
  EXPECT_EQ(format_owner(3'999'999'999u, 3'999'999'998u), "3999999999:3999999998");
}

}  // namespace
}  // namespace gob::ctl
