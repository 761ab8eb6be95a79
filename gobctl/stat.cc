// stat: once, or every so often until interrupted.
#include <poll.h>

#include <chrono>
#include <cmath>
#include <optional>

#include "gobctl/commands.h"
#include "gobctl/connection.h"
#include "gobctl/stat_json.h"
#include "gobctl/stat_text.h"

namespace gob::ctl {
namespace {

using Clock = std::chrono::steady_clock;

// Waits out the interval, or less if gobd ends meanwhile.
void pause(const ControlClient& client, Clock::time_point until) {
  pollfd hang_up{client.fd(), POLLRDHUP, 0};
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    if (left <= 0) return;
    if (::poll(&hang_up, 1, static_cast<int>(left)) >= 0 || errno != EINTR) return;
  }
}

}  // namespace

Status run_stat(const Arguments& arguments, Io& io) {
  const auto client = connect(arguments);
  if (!client) return client.error();
  const bool watch = arguments.watch_seconds > 0;
  const auto period = std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double>(arguments.watch_seconds));
  std::optional<control::StatReply> before;
  Clock::time_point before_at;
  for (std::uint32_t round = 1;; ++round) {
    control::Request request;
    request.mutable_stat()->set_name(arguments.name);
    request.mutable_stat()->set_top_pages(arguments.top_pages);
    const auto now = Clock::now();
    auto reply = ask(**client, std::move(request));
    if (!reply) return reply.error();
    if (arguments.json) {
      // A watch is a stream of lines, each one JSON value.
      print_json(io.out, to_json(reply->stat(), (*client)->hello()), watch ? -1 : 2);
    } else {
      if (watch && io.paint.on()) io.out << "\x1b[H\x1b[2J";
      Interval interval;
      if (before) interval = {&*before, std::chrono::duration<double>(now - before_at).count()};
      const auto print = arguments.transport      ? print_transport
                         : arguments.name.empty() ? print_node
                                                  : print_container;
      print(reply->stat(), (*client)->hello(), interval, io);
      if (watch) io.out << '\n';
    }
    io.out.flush();
    if (!io.out) return make_error(ErrorCode::kSystem, "writing to standard output", EIO);
    if (!watch || round == arguments.rounds) return {};
    before = std::move(*reply->mutable_stat());
    before_at = now;
    pause(**client, now + period);
  }
}

}  // namespace gob::ctl
