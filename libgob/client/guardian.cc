#include "libgob/client/guardian.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <system_error>
#include <vector>

#include "libgob/client/connection.h"

namespace gob::client {
namespace {

// Nobody who began a move leaves a program waiting for longer, whatever became of him.
constexpr int kPreparedMs = 60'000;

// With write(2): the lock of stdio may be held by a thread that waits for a page.
void tell(const std::string& node, const std::vector<std::string>& containers) {
  std::string line = "gob: the gobd of node " + node + " ended or dropped this program; " +
                     "accesses to what is mapped of ";
  for (std::size_t i = 0; i < containers.size(); ++i) {
    line += (i == 0 ? "\"" : ", \"") + containers[i] + "\"";
  }
  line += " raise SIGBUS\n";
  (void)!::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace

Result<Guardian::Ends> Guardian::Ends::make() {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
    return system_error("creating a socket pair");
  Ends ends{UniqueFd(pair[0]), UniqueFd(pair[1]), UniqueFd(::eventfd(0, EFD_CLOEXEC))};
  if (!ends.stop) return system_error("creating an eventfd");
  return ends;
}

Result<std::unique_ptr<Guardian>> Guardian::start(gob_connection& connection, Ends ends) {
  std::unique_ptr<Guardian> guardian(new Guardian(connection, std::move(ends)));
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);  // inherited by the thread
  Status started;
  try {
    guardian->thread_ = std::thread([raw = guardian.get()] { raw->run(); });
    ::pthread_setname_np(guardian->thread_.native_handle(), kGuardianName);
  } catch (const std::system_error& error) {
    started = make_error(ErrorCode::kSystem, "starting the thread that watches gobd",
                         error.code().value());
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!started.ok()) return started.error();
  return guardian;
}

Guardian::~Guardian() {
  if (!thread_.joinable()) return;
  ::eventfd_write(ends_.stop.get(), 1);
  thread_.join();
}

void Guardian::close_in_child() { ends_ = Ends(); }

void Guardian::run() {
  while (true) {
    const int socket = state_ == State::kAway ? -1 : connection_.socket();
    pollfd watched[3] = {{socket, POLLRDHUP, 0},
                         {ends_.stop.get(), POLLIN, 0},
                         {ends_.inside.get(), POLLIN, 0}};
    const int ready = ::poll(watched, 3, state_ == State::kPrepared ? kPreparedMs : -1);
    if (ready < 0 && errno == EINTR) continue;
    if (watched[1].revents != 0) return end_move();
    if (watched[2].revents != 0) {
      if (auto letter = receive_letter(ends_.inside.get())) answer(*letter);
      continue;
    }
    if (ready == 0) {
      end_move();
      continue;
    }
    // If even poll fails nobody would notice gobd's end later: take it as the end now.
    if (ready < 0 || watched[0].revents != 0) break;
  }
  end_move();
  lose();
}

void Guardian::lose() {
  const std::string node = connection_.hello().node_name();
  const std::vector<std::string> containers = connection_.poison();
  if (!containers.empty() && !quiet_) tell(node, containers);
}

void Guardian::end_move() {
  if (state_ != State::kIdle) connection_.end_move();
  state_ = State::kIdle;
}

void Guardian::answer(const MoveLetter& letter) {
  const Status done = obey(letter);
  MoveLetter reply{done.ok() ? kDone : kRefused, letter.number, "", UniqueFd()};
  // kLeave has been promised to need no memory.
  if (!done.ok()) reply.text = done.error().message();
  if (static_cast<MoveAsk>(letter.what) == MoveAsk::kDescriptors)
    reply.text = connection_.descriptors();
  // Who asked and does not listen any more has given up.
  static_cast<void>(send_letter(ends_.inside.get(), reply, /*wait=*/false).ok());
}

Status Guardian::obey(const MoveLetter& letter) {
  const std::string socket = "/proc/self/fd/" + std::to_string(letter.fd.get());
  Status done;
  switch (static_cast<MoveAsk>(letter.what)) {
    case MoveAsk::kDescriptors:
      return {};
    case MoveAsk::kPrepare:
      if (state_ != State::kIdle) return {};
      done = connection_.prepare_move();
      if (done.ok()) state_ = State::kPrepared;
      return done;
    case MoveAsk::kTry:
      if (state_ != State::kPrepared) break;
      return connection_.try_join(socket);
    case MoveAsk::kLeave:
      if (state_ != State::kPrepared) break;
      state_ = State::kAway;
      return connection_.leave();
    case MoveAsk::kJoin:
      if (state_ == State::kAway) done = connection_.join(socket);
      if (done.ok()) end_move();
      return done;
    case MoveAsk::kLose:
      if (state_ != State::kAway) return {};
      end_move();
      lose();
      return {};
  }
  return make_error(ErrorCode::kProtocol, "this connection is not prepared for that", EPROTO);
}

}  // namespace gob::client
