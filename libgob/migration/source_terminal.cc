#include "libgob/migration/source_terminal.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <chrono>
#include <thread>

namespace gob::migration {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kLookMs = 500;  // for a change of the window's size, of which only its session hears
constexpr std::size_t kChunk = std::size_t{16} << 10;
// For the rest of a line's end, which is on its way.
constexpr std::chrono::milliseconds kRestOfEnd{100};
constexpr std::uint64_t kKnown = std::uint64_t{1} << 63;

}  // namespace

std::uint64_t window_of(int terminal) {
  winsize size{};
  if (::ioctl(terminal, TIOCGWINSZ, &size) != 0) return 0;
  return kKnown | std::uint64_t{size.ws_row} | std::uint64_t{size.ws_col} << 16 |
         std::uint64_t{size.ws_xpixel} << 32 | std::uint64_t{size.ws_ypixel & 0x7fffU} << 48;
}

void set_window(int terminal, std::uint64_t window) {
  if (window == 0 || window == window_of(terminal)) return;
  winsize size{};
  size.ws_row = static_cast<unsigned short>(window);
  size.ws_col = static_cast<unsigned short>(window >> 16);
  size.ws_xpixel = static_cast<unsigned short>(window >> 32);
  size.ws_ypixel = static_cast<unsigned short>(window >> 48 & 0x7fff);
  ::ioctl(terminal, TIOCSWINSZ, &size);
}

void SourceTerminal::run() {
  std::thread watcher([this] { watch(); });
  // An error says that the container is lost, and the process with its relay.
  static_cast<void>(pass());
  over_ = true;
  watcher.join();
}

// Does the terminal put a carriage return before each end of line?
bool SourceTerminal::ends_lines() const {
  termios settings{};
  return ::tcgetattr(terminal_.get(), &settings) == 0 && (settings.c_oflag & OPOST) != 0 &&
         (settings.c_oflag & ONLCR) != 0;
}

// False: it is gone.
bool SourceTerminal::put(const std::string& bytes) {
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t step = ::write(terminal_.get(), bytes.data() + done, bytes.size() - done);
    if (step >= 0) {
      done += static_cast<std::size_t>(step);
    } else if (errno == EAGAIN) {
      pollfd waiting{terminal_.get(), POLLOUT, 0};
      if (::poll(&waiting, 1, -1) == 1 && (waiting.revents & POLLHUP) != 0) return false;
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

// The process's own terminal has put the carriage returns already that this one will put again.
Status SourceTerminal::pass() {
  std::string bytes(kChunk, '\0');
  for (std::uint64_t at = 0;;) {
    auto got =
        output_.look(at, bytes.data(), bytes.size(), [&] { return !over_ && process_lives_(); });
    if (!got) return got.error();
    if (*got == 0) return {};
    const bool ends = ends_lines();
    if (ends && bytes[*got - 1] == '\r' && *got > 1) {
      --*got;  // what follows it tells what it is
    } else if (ends && *got == 1 && bytes[0] == '\r') {
      const auto limit = Clock::now() + kRestOfEnd;
      const auto more =
          output_.look(at + 1, bytes.data() + 1, 1, [&] { return Clock::now() < limit; });
      if (!more) return more.error();
      *got += *more;
    }
    std::string out;
    for (std::size_t i = 0; i < *got; ++i)
      if (!ends || bytes[i] != '\r' || i + 1 == *got || bytes[i + 1] != '\n') out += bytes[i];
    if (!put(out)) return output_.close_reader();
    at += *got;
    if (Status taken = output_.take(at); !taken) return taken;
  }
}

void SourceTerminal::watch() {
  std::uint64_t window = 0;
  while (!over_) {
    if (const std::uint64_t now = window_of(terminal_.get()); now != window) {
      window = now;
      if (!keys_.put_note(now)) return;
    }
    pollfd hung_up{terminal_.get(), 0, 0};
    if (::poll(&hung_up, 1, kLookMs) != 1) continue;
    over_ = true;
    static_cast<void>(output_.close_reader());
    static_cast<void>(keys_.close_writer());
  }
}

}  // namespace gob::migration
