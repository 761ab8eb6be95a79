#include "gobbench/migration/log_watch.h"

#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <optional>

namespace gob::bench {
namespace {

using Clock = std::chrono::steady_clock;

std::optional<std::string> find_line(const std::string& path, const std::string& text) {
  std::ifstream file(path, std::ios::binary);
  for (std::string line; std::getline(file, line) && !file.eof();)
    if (line.find(text) != std::string::npos) return line;
  return std::nullopt;
}

int left_ms(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::max<std::int64_t>(left, 0));
}

}  // namespace

std::string end_of(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  return text.size() <= 1000 ? text : "..." + text.substr(text.size() - 1000);
}

Result<std::string> await_line(const std::string& file, const std::string& text,
                               std::chrono::milliseconds limit) {
  const auto deadline = Clock::now() + limit;
  const UniqueFd changes(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  // The file is made before anybody waits for it.
  if (!changes || ::inotify_add_watch(changes.get(), file.c_str(), IN_MODIFY) < 0)
    return system_error("cannot watch " + file);
  while (true) {
    if (auto line = find_line(file, text)) return *line;
    pollfd changed{changes.get(), POLLIN, 0};
    if (::poll(&changed, 1, left_ms(deadline)) == 0)
      return make_error(ErrorCode::kTimedOut, "\"" + text + "\" did not appear in " + file +
                                                  " in time; it ends:\n" + end_of(file));
    std::array<char, 4096> events;
    while (::read(changes.get(), events.data(), events.size()) > 0) continue;
  }
}

Status await_word(int fd, Process& process, const std::string& what,
                  std::chrono::milliseconds limit) {
  std::array<pollfd, 2> waiting{{{fd, POLLIN, 0}, {process.pidfd(), POLLIN, 0}}};
  const auto deadline = Clock::now() + limit;
  while (::poll(waiting.data(), waiting.size(), left_ms(deadline)) < 0 && errno == EINTR) continue;
  char word[64];
  if ((waiting[0].revents & POLLIN) != 0 && ::read(fd, word, sizeof word) > 0) return {};
  if (waiting[1].revents == 0 && waiting[0].revents == 0)
    return make_error(ErrorCode::kTimedOut, what + ": it did not come so far in time");
  if (Status ended = process.wait(std::chrono::seconds(10)); !ended)
    return make_error(ended.error().code, what + ": " + ended.error().message());
  return make_error(ErrorCode::kUnavailable, what + ": it ended without a word");
}

}  // namespace gob::bench
