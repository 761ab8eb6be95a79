// A migrant's life at its target: its memory comes, it may move on, and it ends.
#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "libgob/migration/inspect.h"
#include "libgob/migration/session.h"
#include "libgob/migration/target_run.h"

namespace gob::migration {
namespace {
constexpr std::chrono::seconds kEndOfSource{60};
constexpr int kLookMs = 200;
}  // namespace

Status TargetRun::stay() {
  auto port = ResidentPort::open(warden_.pid());
  if (port)
    port_.emplace(std::move(*port));
  else
    spdlog::warn("{}: it cannot move on: {}", options_.session, port.error().message());
  if (!server_) all_is_here();
  while (true) {
    if (server_ && !moving_on_ && server_->finished() && stores_->complete()) all_is_here();
    if (server_ && moved_on_.empty()) keeper_->out_pages(server_->pages_out());
    TargetTerminal* const terminal = streams_ ? streams_->terminal() : nullptr;
    pollfd waiting[5] = {{warden_.fd(), POLLIN, 0},
                         {server_ ? server_->fd() : -1, POLLIN, 0},
                         {port_ ? port_->fd() : -1, POLLIN, 0},
                         {moving_on_ ? -1 : keeper_->fd(), POLLIN, 0},
                         {terminal != nullptr && !moving_on_ ? terminal->fd() : -1, POLLIN, 0}};
    if (::poll(waiting, 5, server_ ? kLookMs : -1) < 0 && errno != EINTR)
      return system_error("waiting for the process");
    if (waiting[1].revents != 0) server_->clear_fd();
    if (server_)
      if (const auto lost = server_->failure())
        return make_error(lost->code, "the process is killed, since part of its memory is lost: " +
                                          lost->message());
    if (waiting[2].revents != 0) hear_resident();
    if (waiting[3].revents != 0 && !moving_on_) hear_order();
    if (waiting[4].revents != 0 && !moving_on_) hang_up();
    if (waiting[0].revents == 0) continue;
    const Warden::News news = warden_.receive();
    if (news.what != Warden::News::What::kEnded)
      return make_error(ErrorCode::kLost, "the warden of the process was killed, and it with it");
    return ended(news.status);
  }
}

// The migrant needs no other node from here on.
void TargetRun::all_is_here() {
  if (const Status freed = warden_.done(); !freed)
    spdlog::warn("{}: {}", options_.session, freed.error().message());
  tell_arrival("");
  keeper_->out_pages(0);
  server_.reset();
  stores_.reset();
  clean_up(kEndOfSource);
}

// To the log, and to a source that waits for it.
void TargetRun::tell_arrival(const std::string& instead) {
  Message message;
  Arrived& arrived = *message.mutable_arrived();
  arrived.set_instead(instead);
  if (server_) {
    const LazyServer::Counts counts = server_->counts();
    arrived.set_faults(counts.faults);
    arrived.set_fault_ns(counts.fault_ns);
    arrived.set_streamed(counts.streamed);
    for (const std::uint64_t count : counts.slots) arrived.add_slots(count);
    if (instead.empty())
      spdlog::info("{}: all memory is here: {} faults, {} µs each on average, {} pages streamed",
                   options_.session, counts.faults,
                   counts.faults == 0 ? 0 : counts.fault_ns / counts.faults / 1000,
                   counts.streamed);
  }
  if (talk_) static_cast<void>(talk_->send(message, std::chrono::seconds(2)));
}

Status TargetRun::ended(int status) {
  const std::string how =
      !moved_on_.empty() ? "moved on to node " + moved_on_
      : WIFEXITED(status)
          ? "ended with status " + std::to_string(WEXITSTATUS(status))
          : "ended with signal " + std::to_string(WTERMSIG(status));
  spdlog::info("{}: process {} {}", options_.session, migrant_, how);
  if (moved_on_.empty()) keeper_->ended(status, "");
  if (talk_) tell_arrival("the process " + how);
  server_.reset();
  stores_.reset();
  clean_up(kEndOfSource);
  if (streams_) streams_->finish();
  forget_old_migrants(options_.socket);
  return {};
}

// A signal that somebody in the cluster wants sent. While the process is moving on, it waits for
// whoever looks after it afterwards.
void TargetRun::hear_order() {
  const auto order = keeper_->next();
  if (!order) return;
  const Status delivered = deliver(*order);
  keeper_->answer(*order, delivered ? "" : delivered.error().message());
}

Status TargetRun::deliver(const Order& order) {
  spdlog::info("{}: signal {} for {}", options_.session, order.signal,
               order.all != 0 ? "all its processes" : "process " + std::to_string(migrant_));
  if (order.all != 0) return warden_.signal_all(order.signal);
  if (::syscall(SYS_pidfd_send_signal, migrant_fd_.get(), order.signal, nullptr, 0) == 0) return {};
  return system_error(errno == ESRCH ? "the process has ended, but processes that it started go on (--all)"
                                     : "sending signal " + std::to_string(order.signal));
}

// The terminal at which the process was started is gone, or its relay: as the shell would do, and then the
// kernel.
void TargetRun::hang_up() {
  spdlog::info("{}: the terminal {} has hung up", options_.session, view_.terminal().path());
  if (view_.terminal().controls())
    for (const pid_t pid : tree_of(warden_.pid()))
      if (pid != warden_.pid()) {
        ::kill(pid, SIGHUP);
        ::kill(pid, SIGCONT);
      }
  streams_->terminal()->hang_up();
}

void TargetRun::hear_resident() {
  const bool had_client = port_->has_client();
  if (const auto request = port_->next()) return port_->reply(answer(*request));
  // Whoever wanted to move it is gone, and the source's guard lets the process go on.
  if (had_client && !port_->has_client() && moved_on_.empty()) {
    if (std::exchange(moving_on_, false)) keeper_->does_not_move();
    if (std::exchange(still_, false)) streams_->start(rests_);
    if (server_) server_->resume(begin_.stream());
  }
}

ResidentReply TargetRun::answer(const ResidentRequest& request) {
  ResidentReply reply;
  Status status;
  std::error_code ignored;
  switch (request.body_case()) {
    case ResidentRequest::kHello:
      reply.set_node(node_);
      reply.set_root(root_);
      if (server_) reply.set_out_pages(server_->pages_out());
      *reply.mutable_covers() = view_.covers();
      reply.set_record(keeper_->record());
      if (streams_) *reply.mutable_streams() = streams_->here();
      if (streams_ && streams_->terminal() != nullptr)
        *reply.mutable_terminal() = streams_->terminal()->here();
      break;
    case ResidentRequest::kHold:
      moving_on_ = true;
      keeper_->moves_to(request.hold().to());
      if (server_) status = server_->hold(request.hold().processes());
      break;
    case ResidentRequest::kFrozen:
      if (server_) status = server_->collect(request.frozen().processes(), *reply.mutable_out());
      for (const std::string& session : sessions_) reply.mutable_out()->add_inherited(session);
      break;
    case ResidentRequest::kStill:
      if (streams_ && !std::exchange(still_, true)) rests_ = streams_->stop();
      *reply.mutable_rests() = rests_;
      break;
    case ResidentRequest::kMovedOn:
      streams_.reset();
      moved_on_ = request.moved_on();
      keeper_->gives_up();
      sessions_.clear();
      attached_.clear();
      status = warden_.moved_on();
      std::filesystem::remove_all(folder_, ignored);
      break;
    case ResidentRequest::BODY_NOT_SET:
      status = make_error(ErrorCode::kProtocol, "gobmigrate asks oddly");
  }
  if (!status) reply.set_error(status.error().message());
  return reply;
}

void TargetRun::clean_up(std::chrono::milliseconds patience) {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
  // The source still hears that the process runs here, and may still be filling its containers.
  if (talk_ && !sessions_.empty()) {
    for (const std::string& session : sessions_)
      await_end(*gob_, Talk::life_of(session, End::kSource), patience);
  }
  talk_.reset();
  gob_.reset();
  for (const std::string& session : std::exchange(sessions_, {}))
    if (const Status removed = remove_session(options_.socket, session); !removed)
      spdlog::warn("{}: containers may be left over: {}", session, removed.error().message());
  stay_.reset();
  static_cast<void>(warden_.cleaned());  // it may have ended
}

}  // namespace gob::migration
