// Hostile bytes and descriptors on a control connection: whatever comes, and however it is cut,
// ends in requests or in an error; no descriptor leaks, and the buffer stays within its bounds.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "libgob/runtime/control_connection.h"
#include "libgob/runtime/control_socket.h"
#include "libgob/runtime/control_wire.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

// What the parser took must be a request that says the same when it is sent again.
void check_request(const gob::control::Request& request) {
  require(request.id() != 0 && request.fds() <= gob::kMaxControlFds);
  require(!gob::name_of(request.body_case()).empty());
  std::string bytes;
  if (!gob::append_frame(request, gob::kMaxControlRequestBytes, bytes).ok()) return;
  gob::FrameReader reader(gob::kMaxControlRequestBytes);
  reader.append(bytes);
  auto whole = reader.next();
  require(whole.ok() && whole->has_value());
  auto again = gob::parse_request(**whole);
  require(again.ok() && again->SerializeAsString() == request.SerializeAsString());
}

int lowest_free_descriptor() {
  const int fd = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
  ::close(fd);
  return fd;
}

// The first byte of each piece says how long it is and how many descriptors come with it.
void feed(gob::ControlConnection& connection, int peer, std::string_view input) {
  static std::vector<char> scratch(64 << 10);
  while (!input.empty()) {
    const auto control = static_cast<unsigned char>(input.front());
    input.remove_prefix(1);
    const std::size_t wanted = (control & 0x1f) == 0x1f ? 4096 : (control & 0x1f) + 1u;
    const std::string_view piece = input.substr(0, wanted);
    input.remove_prefix(piece.size());
    if (piece.empty()) return;
    const std::array<int, gob::kMaxControlFds> fds{STDERR_FILENO, peer, STDERR_FILENO, peer};
    const std::size_t count = (control >> 5) > 3 ? (control >> 5) - 3u : 0u;
    auto sent = gob::send_some(peer, piece, std::span(fds).first(count), /*wait=*/false);
    require(sent.ok());
    while (true) {
      auto read = connection.read(scratch);
      if (!read.ok()) return;
      if (!*read) break;
    }
    while (true) {
      auto incoming = connection.next_request();
      if (!incoming.ok()) return;
      if (!incoming->has_value()) break;
      check_request((*incoming)->request);
      require((*incoming)->fds.size() == (*incoming)->request.fds());
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const int before = lowest_free_descriptor();
  {
    int ends[2] = {-1, -1};
    require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    gob::ControlConnection connection(gob::ClientId{1}, gob::UniqueFd(ends[0]), {});
    const gob::UniqueFd peer(ends[1]);
    feed(connection, peer.get(), {reinterpret_cast<const char*>(data), size});
  }
  require(lowest_free_descriptor() == before);
  return 0;
}
