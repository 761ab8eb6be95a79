#include "libgob/migration/smaps.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "libgob/base/unique_fd.h"
#include "libgob/migration/proc.h"

namespace gob::migration {
namespace {

constexpr std::string_view kFlags = "VmFlags:";
constexpr std::string_view kWritten = " sd";
constexpr std::size_t kStep = std::size_t{64} << 10;

std::string_view line_at(std::string_view text, std::size_t at) {
  return text.substr(at, std::min(text.find('\n', at), text.size()) - at);
}

// Is it the first line of an area: "START-END RIGHTS …"?
bool reads_range(std::string_view line, SmapsArea& area) {
  const char* const end = line.data() + line.size();
  const auto start = std::from_chars(line.data(), end, area.start, 16);
  if (start.ec != std::errc() || start.ptr == end || *start.ptr != '-') return false;
  const auto stop = std::from_chars(start.ptr + 1, end, area.end, 16);
  return stop.ec == std::errc() && stop.ptr != end && *stop.ptr == ' ';
}

std::string without_written(std::string_view flags) {
  std::string others(flags);
  if (const std::size_t at = others.find(kWritten); at != std::string::npos)
    others.erase(at, kWritten.size());
  return others;
}

}  // namespace

std::vector<SmapsArea> areas_of_smaps(std::string_view smaps) {
  std::vector<SmapsArea> areas;
  for (std::size_t at = 0; at < smaps.size();) {
    const std::string_view line = line_at(smaps, at);
    SmapsArea area;
    if (reads_range(line, area)) {
      area.head = line;
      area.text = smaps.substr(at, 0);
      areas.push_back(area);
    }
    at = std::min(at + line.size() + 1, smaps.size());
    if (areas.empty()) continue;
    SmapsArea& last = areas.back();
    last.text = std::string_view(last.text.data(),
                                 static_cast<std::size_t>(smaps.data() + at - last.text.data()));
    if (line.starts_with(kFlags)) last.flags = line.substr(kFlags.size());
  }
  return areas;
}

std::string read_process_file(pid_t pid, const char* name) {
  const std::string path = proc(pid, name);
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  ssize_t got = file ? 1 : -1;
  while (got > 0) {
    const std::size_t size = text.size();
    text.resize(size + kStep);
    do {
      got = ::read(file.get(), text.data() + size, kStep);
    } while (got < 0 && errno == EINTR);
    text.resize(size + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  }
  return got < 0 ? std::string() : text;
}

bool is_of_maps(const std::vector<SmapsArea>& smaps, std::string_view maps) {
  std::size_t at = 0;
  for (const SmapsArea& area : smaps) {
    if (at >= maps.size() || line_at(maps, at) != area.head) return false;
    at += area.head.size() + 1;
  }
  return at >= maps.size();
}

bool has_same_flags(const std::vector<SmapsArea>& some, const std::vector<SmapsArea>& others) {
  return std::ranges::equal(some, others, [](const SmapsArea& one, const SmapsArea& other) {
    return one.head == other.head && without_written(one.flags) == without_written(other.flags);
  });
}

}  // namespace gob::migration
