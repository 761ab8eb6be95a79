#include "libgob/container/container_record.h"

#include <algorithm>
#include <cstdio>

namespace gob {

namespace {

constexpr std::uint64_t kMaxBytes = kMaxPages * kPageSize;

// Decodes one code point of strict UTF-8 at `text`, or 0 if there is none. `length` is its bytes.
std::uint32_t code_point(std::string_view text, std::size_t& length) {
  const auto byte = [&](std::size_t i) -> std::uint32_t {
    return static_cast<unsigned char>(text[i]);
  };
  const std::uint32_t first = byte(0);
  if (first < 0x80) {
    length = 1;
    return first;
  }
  length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  std::uint32_t point = first & (0x7fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    point = (point << 6) | (byte(i) & 0x3f);
  }
  constexpr std::uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (point < kSmallest[length] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
    return 0;
  return point;
}

// Controls, line and paragraph separators, direction marks, the byte order mark, and
// non-characters.
bool printable(std::uint32_t point) {
  if (point < 0x20 || (point >= 0x7f && point < 0xa0)) return false;
  if (point == 0x2028 || point == 0x2029 || point == 0xfeff || (point & 0xfffe) == 0xfffe)
    return false;
  const bool direction = (point >= 0x200e && point <= 0x200f) ||
                         (point >= 0x202a && point <= 0x202e) ||
                         (point >= 0x2066 && point <= 0x2069);
  return !direction;
}

Status bad_name(std::string_view name, const char* why) {
  return make_error(ErrorCode::kInvalidArgument,
                    "container name " + quoted(name) + " " + why +
                        "; use 1 to 128 bytes of printable UTF-8 without '/' or a leading dot",
                    EINVAL);
}

}  // namespace

bool may(const ContainerRecord& record, const Credentials& who, Right right) {
  if (who.uid == 0) return true;
  if (right == Right::kAdmin) return who.uid == record.uid;
  // The first class that fits decides, as for files and segments: an owner without the bit has not
  // the right even if everybody else has.
  unsigned shift = 0;
  if (who.uid == record.uid)
    shift = 6;
  else if (who.gid == record.gid || std::ranges::count(who.groups, record.gid) != 0)
    shift = 3;
  return ((record.mode >> shift) & (right == Right::kRead ? 4u : 2u)) != 0;
}

Status check_name(std::string_view name) {
  if (name.empty()) return bad_name(name, "is empty");
  if (name.size() > kMaxNameBytes)
    return bad_name(name.substr(0, 32), "(its beginning) is too long");
  if (name.front() == '.') return bad_name(name, "begins with a dot");
  for (std::size_t at = 0; at < name.size();) {
    std::size_t length = 1;
    const std::uint32_t point = code_point(name.substr(at), length);
    if (point == 0 && name[at] != '\0') return bad_name(name, "is not UTF-8");
    if (point == '/') return bad_name(name, "contains a '/'");
    if (!printable(point)) return bad_name(name, "contains a character that cannot be printed");
    at += length;
  }
  return {};
}

Status check_size(std::uint64_t size_bytes) {
  if (size_bytes >= 1 && size_bytes <= kMaxBytes) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "a container of " + std::to_string(size_bytes) +
                        " bytes cannot be made; its size must be 1 to " +
                        std::to_string(kMaxBytes) + " bytes",
                    EINVAL);
}

Status check_mode(std::uint32_t mode) {
  if (mode <= 0777) return {};
  char text[16];
  std::snprintf(text, sizeof text, "0%o", mode);
  return make_error(ErrorCode::kInvalidArgument,
                    std::string("mode ") + text + " is not a set of permissions; use 0 to 0777",
                    EINVAL);
}

Status check_kind(const ContainerRecord& record) {
  const bool memory = record.kind == ContainerKind::kMemory;
  const bool tree = record.kind == ContainerKind::kTree;
  const bool fits = record.kind <= kLastContainerKind && memory == (record.info.home == kNoNode) &&
                    memory == record.source.empty() && record.source.size() <= kMaxSourceBytes &&
                    (!tree || record.size_bytes == 0);
  if (!fits)
    return make_error(
        ErrorCode::kInvalidArgument,
        "container " + quoted(record.name) + ": kind, home, source and size do not belong together",
        EINVAL);
  return tree ? Status{} : check_size(record.size_bytes);
}

Status check_record(const ContainerRecord& record) {
  if (Status s = check_name(record.name); !s) return s;
  if (Status s = check_kind(record); !s) return s;
  if (Status s = check_mode(record.mode); !s) return s;
  const std::uint32_t id = record.info.id.value();
  if (id == 0 || id > kMaxContainerId || record.info.pages != pages_of(record.size_bytes))
    return make_error(ErrorCode::kProtocol,
                      "the record of container " + quoted(record.name) + " contradicts itself");
  return {};
}

std::string quoted(std::string_view name) {
  std::string text = "'";
  for (std::size_t at = 0; at < name.size();) {
    std::size_t length = 1;
    const std::uint32_t point = code_point(name.substr(at), length);
    if (point != 0 && printable(point)) {
      text += name.substr(at, length);
      at += length;
      continue;
    }
    char hex[8];
    std::snprintf(hex, sizeof hex, "\\x%02x", static_cast<unsigned char>(name[at]));
    text += hex;
    ++at;
  }
  return text + "'";
}

}  // namespace gob
