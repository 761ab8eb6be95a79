#include "libgob/migration/target_terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <cstdlib>

#include "libgob/migration/source_terminal.h"

namespace gob::migration {
namespace {

constexpr int kLookMs = 500;
constexpr std::size_t kChunk = std::size_t{16} << 10;

void say(const UniqueFd& event) { static_cast<void>(::eventfd_write(event.get(), 1)); }
void unsay(const UniqueFd& event) {
  eventfd_t ignored = 0;
  static_cast<void>(::eventfd_read(event.get(), &ignored));
}

// The other end of the terminal; no path is looked for, which may be hidden.
UniqueFd peer_of(const UniqueFd& master, int flags) {
  return UniqueFd(::ioctl(master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC | flags));
}

// As a shell leaves it for a program. At the source it had its own settings while it waited for a
// command.
void make_usual(int terminal) {
  termios settings{};
  if (::tcgetattr(terminal, &settings) != 0) return;
  settings.c_iflag |= ICRNL | IXON | BRKINT;
  settings.c_iflag &= ~static_cast<tcflag_t>(INLCR | IGNCR);
  settings.c_oflag |= OPOST | ONLCR;
  settings.c_lflag |= ICANON | ECHO | ECHOE | ECHOK | ISIG | IEXTEN;
  ::tcsetattr(terminal, TCSANOW, &settings);
}

}  // namespace

Result<std::unique_ptr<TargetTerminal>> TargetTerminal::open(const gobelins::Connection& gob,
                                                             const std::string& record,
                                                             const Terminal& terminal,
                                                             std::function<bool()> goes_on) {
  auto output = StreamRing::open(gob, record, terminal.index());
  if (!output) return output.error();
  auto keys = StreamRing::open(gob, record, terminal.index() + 1);
  if (!keys) return keys.error();
  std::unique_ptr<TargetTerminal> made(
      new TargetTerminal(std::move(*output), std::move(*keys), std::move(goes_on)));
  made->stop_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  made->gone_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!made->stop_ || !made->gone_) return system_error("making an eventfd");
  made->master_.reset(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
  if (!made->master_ || ::unlockpt(made->master_.get()) != 0)
    return system_error("making a terminal for the process");
  made->slave_ = peer_of(made->master_, O_NONBLOCK);
  UniqueFd theirs = peer_of(made->master_, static_cast<int>(terminal.flags()) & O_NONBLOCK);
  struct stat info {};
  if (!made->slave_ || !theirs || ::fstat(theirs.get(), &info) != 0)
    return system_error("opening the terminal for the process");
  made->here_ = terminal;
  made->was_in_foreground_ = terminal.foreground();
  made->here_.set_foreground(true);  // its settings are the process's own from here on
  made->here_.clear_devices();
  Terminal::Device& device = *made->here_.add_devices();
  device.set_rdev(info.st_rdev);
  device.set_dev(info.st_dev);
  made->theirs_.push_back(std::move(theirs));
  for (int i = 1; i < terminal.devices_size(); ++i) {
    UniqueFd other(::fcntl(made->theirs_[0].get(), F_DUPFD_CLOEXEC, 3));
    if (!other) return system_error("opening the terminal for the process");
    made->theirs_.push_back(std::move(other));
  }
  return made;
}

TargetTerminal::~TargetTerminal() {
  stopping_ = true;
  say(stop_);
  keys_.wake();
  join();
}

std::vector<UniqueFd> TargetTerminal::ends() { return std::exchange(theirs_, {}); }

void TargetTerminal::join() {
  if (passes_.joinable()) passes_.join();
  if (gives_.joinable()) gives_.join();
}

// Without an echo, which it had when it was typed first.
void TargetTerminal::type(const std::string& bytes) {
  termios settings{};
  if (bytes.empty() || ::tcgetattr(slave_.get(), &settings) != 0) return;
  termios quiet = settings;
  quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHONL | ISIG);
  quiet.c_iflag &= ~static_cast<tcflag_t>(ICRNL | INLCR | IGNCR | ISTRIP | IXON);
  ::tcsetattr(slave_.get(), TCSANOW, &quiet);
  if (::write(master_.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
    spdlog::warn("what was typed for {} and not read is lost in part", here_.path());
  ::tcsetattr(slave_.get(), TCSANOW, &settings);
}

// Lines first, each with what ended it, then what is no line yet.
std::string TargetTerminal::typed() {
  std::string all, bytes(kChunk, '\0');
  termios settings{};
  if (::tcgetattr(slave_.get(), &settings) != 0) return all;
  if ((settings.c_lflag & ICANON) != 0) {
    while (true) {
      const ssize_t got = ::read(slave_.get(), bytes.data(), bytes.size());
      if (got < 0) break;
      all.append(bytes, 0, static_cast<std::size_t>(got));
      // The end of a file, as it was typed.
      if (got == 0 || bytes[static_cast<std::size_t>(got) - 1] != '\n')
        all += static_cast<char>(settings.c_cc[VEOF]);
    }
    termios at_once = settings;
    at_once.c_lflag &= ~static_cast<tcflag_t>(ICANON);
    at_once.c_cc[VMIN] = 1;
    at_once.c_cc[VTIME] = 0;
    ::tcsetattr(slave_.get(), TCSANOW, &at_once);
  }
  for (ssize_t got = 0; (got = ::read(slave_.get(), bytes.data(), bytes.size())) > 0;)
    all.append(bytes, 0, static_cast<std::size_t>(got));
  ::tcsetattr(slave_.get(), TCSANOW, &settings);
  return all;
}

void TargetTerminal::fill(const Rests& rests) {
  if (!was_in_foreground_) make_usual(slave_.get());
  for (const Rest& rest : rests)
    if (rest.index() == here_.index() + 1) type(rest.data());
}

void TargetTerminal::start(const Rests& rests) {
  if (!master_) return;
  unsay(stop_);
  stopping_ = false;
  for (const Rest& rest : rests)
    if (rest.index() == here_.index()) rest_ = rest.data();
  type(std::exchange(unread_, {}));  // it did not move after all
  const auto run = [this](Status (TargetTerminal::*what)()) {
    if (const Status status = (this->*what)(); !status) {
      spdlog::warn("the terminal {} is out of reach: {}", here_.path(), status.error().message());
      tell_gone();
    }
  };
  passes_ = std::thread(run, &TargetTerminal::pass);
  gives_ = std::thread(run, &TargetTerminal::give);
}

// What the process writes, and the echo of what is typed.
Status TargetTerminal::pass() {
  while (true) {
    if (!rest_.empty()) {
      const auto put =
          output_.put(rest_.data(), rest_.size(), [this] { return !stopping_ && goes_on_(); });
      if (!put) return put.error();
      rest_.erase(0, *put);
      if (stopping_) return {};
      if (!rest_.empty()) {
        tell_gone();
        return {};
      }
    }
    pollfd waiting[2] = {{master_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
    if (::poll(waiting, 2, kLookMs) < 0 && errno != EINTR)
      return system_error("waiting for the process");
    if (stopping_) return {};
    const auto closed = output_.is_closed(false);
    if (!closed) return closed.error();
    if (*closed || !goes_on_()) {
      if (!stopping_) tell_gone();
      return {};
    }
    if (waiting[0].revents == 0) continue;
    rest_.resize(kChunk);
    const ssize_t got = ::read(master_.get(), rest_.data(), rest_.size());
    const int error = errno;
    rest_.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    // As long as we have the other end open, too, there is no end.
    if (got < 0 && error == EIO && finishing_) return output_.close_writer();
  }
}

// What is typed, and the size of the window.
Status TargetTerminal::give() {
  auto position = keys_.taken();
  std::string bytes(kChunk, '\0');
  while (position) {
    const auto got = keys_.look(*position, bytes.data(), bytes.size(), [this] {
      if (const auto window = keys_.note(); window) set_window(master_.get(), *window);
      return !stopping_ && !finishing_ && goes_on_();
    });
    if (!got) return got.error();
    if (stopping_ || finishing_) return {};
    if (*got == 0) {
      tell_gone();
      return {};
    }
    for (std::size_t done = 0; done < *got && !stopping_ && !finishing_;) {
      const ssize_t step = ::write(master_.get(), bytes.data() + done, *got - done);
      if (step > 0) {
        done += static_cast<std::size_t>(step);
        *position += static_cast<std::uint64_t>(step);
      } else {
        // Nobody reads it: as at any terminal, what is typed waits.
        pollfd waiting[2] = {{master_.get(), POLLOUT, 0}, {stop_.get(), POLLIN, 0}};
        ::poll(waiting, 2, kLookMs);
      }
    }
    if (Status taken = keys_.take(*position); !taken) return taken;
  }
  return position.error();
}

void TargetTerminal::tell_gone() { say(gone_); }

void TargetTerminal::stop(Rests& rests) {
  stopping_ = true;
  say(stop_);
  keys_.wake();
  join();
  if (!master_) return;
  unread_ = typed();
  std::string bytes(kChunk, '\0');
  for (ssize_t got = 0; (got = ::read(master_.get(), bytes.data(), bytes.size())) > 0;)
    rest_.append(bytes, 0, static_cast<std::size_t>(got));
  Rest& written = *rests.Add();
  written.set_index(here_.index());
  written.set_data(rest_);
  Rest& keys = *rests.Add();
  keys.set_index(here_.index() + 1);
  keys.set_data(unread_);
}

void TargetTerminal::finish() {
  finishing_ = true;
  slave_.reset();
  keys_.wake();
  join();
}

void TargetTerminal::hang_up() {
  stopping_ = true;
  say(stop_);
  keys_.wake();
  join();
  unsay(gone_);
  slave_.reset();
  master_.reset();
}

}  // namespace gob::migration
