#include "gobctl/terminal.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <optional>

namespace gob::ctl {
namespace {

// Length of the valid UTF-8 character that `text` begins with, which is no control character.
std::size_t shown_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x20 || first == 0x7f) return 0;
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xf0 && first <= 0xf4  ? 4
                             : first >= 0xe0 && first < 0xf0 ? 3
                             : first >= 0xc2 && first < 0xe0 ? 2
                                                             : 0;
  if (length == 0 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  if (first == 0xc2 && byte(1) < 0xa0) return 0;   // C1 controls
  if (first == 0xe0 && byte(1) < 0xa0) return 0;   // overlong
  if (first == 0xed && byte(1) >= 0xa0) return 0;  // surrogates
  if (first == 0xf0 && byte(1) < 0x90) return 0;   // overlong
  if (first == 0xf4 && byte(1) >= 0x90) return 0;  // beyond Unicode
  if (first == 0xe2 && byte(1) == 0x80 && byte(2) >= 0xa8 && byte(2) <= 0xae) return 0;  // bidi
  return length;
}

std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

std::string with_unit(double value, const char* unit) {
  std::array<char, 48> text{};
  const int decimals = value < 10 ? 2 : value < 100 ? 1 : 0;
  std::snprintf(text.data(), text.size(), "%.*f %s", decimals, value, unit);
  return text.data();
}

// getpwuid_r and getgrgid_r alike.
template <class Entry, class Lookup>
std::optional<std::string> name_by_id(Lookup lookup, std::uint32_t id, char* Entry::*name) {
  std::array<char, 4096> buffer{};
  Entry entry{};
  Entry* found = nullptr;
  if (lookup(id, &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr)
    return std::nullopt;
  return std::string(found->*name);
}

}  // namespace

bool colours_wanted(int fd) {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  return ::isatty(fd) == 1 && (no_color == nullptr || *no_color == '\0') && term != nullptr &&
         std::string_view(term) != "dumb";
}

std::string Paint::wrap(const char* code, std::string_view text) const {
  if (!on_) return std::string(text);
  return "\x1b[" + std::string(code) + "m" + std::string(text) + "\x1b[0m";
}

std::string printable(std::string_view bytes) {
  std::string out;
  while (!bytes.empty()) {
    if (const std::size_t length = shown_character(bytes); length != 0) {
      out.append(bytes.substr(0, length));
      bytes.remove_prefix(length);
      continue;
    }
    std::array<char, 8> text{};
    std::snprintf(text.data(), text.size(), "\\x%02x",
                  static_cast<unsigned>(static_cast<unsigned char>(bytes.front())));
    out += text.data();
    bytes.remove_prefix(1);
  }
  return out;
}

void Table::print(std::ostream& out, const Paint& paint, std::string_view indent) const {
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    std::size_t widest = width(columns_[i].title);
    for (const auto& row : rows_) widest = std::max(widest, width(row[i]));
    widths.push_back(widest);
  }
  const auto line = [&](const auto& cell_of) {
    std::string text;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      const std::string& cell = cell_of(i);
      const std::string pad(widths[i] - width(cell), ' ');
      if (i != 0) text += "  ";
      text += columns_[i].align == Align::kRight ? pad + cell : cell + pad;
    }
    text.erase(text.find_last_not_of(' ') + 1);
    return text;
  };
  out << indent
      << paint.bold(line([&](std::size_t i) -> const std::string& { return columns_[i].title; }))
      << '\n';
  for (std::size_t at = 0; at < rows_.size(); ++at) {
    const std::string text = line([&](std::size_t i) -> const std::string& { return rows_[at][i]; });
    switch (tones_[at]) {
      case Tone::kPlain:
        out << indent << text << '\n';
        break;
      case Tone::kDim:
        out << indent << paint.dim(text) << '\n';
        break;
      case Tone::kGood:
        out << indent << paint.good(text) << '\n';
        break;
      case Tone::kBad:
        out << indent << paint.bad(text) << '\n';
        break;
    }
  }
}

std::string format_duration(std::uint64_t ns) {
  const auto value = static_cast<double>(ns);
  if (ns < 1'000) return std::to_string(ns) + " ns";
  if (value < 999.5e3) return with_unit(value / 1e3, "us");
  if (value < 999.5e6) return with_unit(value / 1e6, "ms");
  return with_unit(value / 1e9, "s");
}

std::string format_age(std::uint64_t ms) {
  const std::uint64_t seconds = ms / 1000;
  if (seconds < 120) return std::to_string(seconds) + " s";
  if (seconds < 120 * 60) return std::to_string(seconds / 60) + " min";
  if (seconds < 48 * 3600) return std::to_string(seconds / 3600) + " h";
  return std::to_string(seconds / 86400) + " days";
}

std::string format_mode(std::uint32_t mode) {
  std::string text;
  for (int shift = 6; shift >= 0; shift -= 3) {
    const std::uint32_t bits = (mode >> shift) & 7;
    text += (bits & 4) != 0 ? 'r' : '-';
    text += (bits & 2) != 0 ? 'w' : '-';
    text += (bits & 1) != 0 ? 'x' : '-';
  }
  return text;
}

std::string format_owner(std::uint32_t uid, std::uint32_t gid) {
  const auto user = name_by_id<passwd>(::getpwuid_r, uid, &passwd::pw_name);
  const auto group = name_by_id<::group>(::getgrgid_r, gid, &::group::gr_name);
  return printable(user.value_or(std::to_string(uid)) + ":" + group.value_or(std::to_string(gid)));
}

}  // namespace gob::ctl
