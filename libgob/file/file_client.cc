#include "libgob/file/file_client.h"

#include <sys/prctl.h>

#include <cerrno>
#include <utility>

namespace gob::file {

namespace {

constexpr std::size_t kMaxPending = 65536;

// These take as long as they take: a lock that another has, a disk that is slow. That the home has
// died is heard otherwise.
bool waits_for_others(const peer::FileRequest& request) {
  const FileOp op = op_of(request);
  return op == FileOp::kSync || (op == FileOp::kSetLock && request.lock().wait());
}

}  // namespace

peer::FileReply failed_reply(int error) {
  peer::FileReply reply;
  reply.set_error(static_cast<std::uint32_t>(error));
  return reply;
}

FileClient::FileClient(std::chrono::milliseconds timeout, Send send)
    : timeout_(timeout), send_(std::move(send)), watcher_([this] { watch(); }) {}

FileClient::~FileClient() {
  {
    const std::lock_guard guard(mutex_);
    stopped_ = true;
  }
  wake_.notify_all();
  watcher_.join();
  std::map<std::uint64_t, Pending> rest;
  {
    const std::lock_guard guard(mutex_);
    rest.swap(pending_);
  }
  for (auto& [id, pending] : rest)
    if (pending.done) pending.done(failed_reply(EIO));
}

std::uint64_t FileClient::call(NodeId home, peer::FileRequest request, Callback done) {
  if (const int error = error_of_limits(request); error != 0) {
    done(failed_reply(error));
    return 0;
  }
  std::uint64_t id = 0;
  bool wake = false;
  bool reachable = false;
  bool stopped = false;
  Pending made{home,
               op_of(request),
               {home, request.incarnation(), request.file()},
               to_words(request),
               std::move(done),
               waits_for_others(request) ? Clock::time_point::max() : Clock::now() + timeout_};
  const bool answered = is_answered(made.op);
  request.set_id(1);  // any: it is the rest that is looked at
  if (const Status allowed = check_file_request(request); !allowed) {
    fail(made, "nonsense", allowed.error().message() + ", which is not sent; report this");
    made.done(failed_reply(EINVAL));
    return 0;
  }
  {
    const std::lock_guard guard(mutex_);
    const auto up = up_.find(home);
    reachable = up != up_.end() && up->second;
    stopped = stopped_;
    if (!stopped && reachable && pending_.size() < kMaxPending) {
      id = ++last_id_;
      // Every deadline is later than those before it: a watcher that has one need not hear of it.
      wake = answered && made.deadline != Clock::time_point::max() &&
             std::exchange(watcher_idle_, false);
      if (answered) pending_.emplace(id, std::move(made));
    }
  }
  if (id == 0) {
    if (!stopped && !reachable)
      fail(made, "down", "its home is not in the cluster now; start gobd there, or wait for it");
    else if (!stopped)
      fail(made, "full",
           std::to_string(kMaxPending) +
               " operations wait for answers already; look at the load of the homes");
    made.done(failed_reply(EIO));
    return 0;
  }
  if (wake) wake_.notify_one();
  peer::FileBody body;
  *body.mutable_request() = std::move(request);
  body.mutable_request()->set_id(id);
  const bool is_sent = send_(home, std::move(body));
  if (!answered) made.done(is_sent ? peer::FileReply() : failed_reply(EIO));
  if (!answered || is_sent) return id;
  Pending unsent;
  {
    const std::lock_guard guard(mutex_);
    const auto found = pending_.find(id);
    if (found == pending_.end()) return id;
    unsent = std::move(found->second);
    pending_.erase(found);
  }
  if (!unsent.done) return id;
  fail(unsent, "unsent", "this gobd has too much to do to send it; look at its load");
  unsent.done(failed_reply(EIO));
  return id;
}

void FileClient::later(std::chrono::milliseconds delay, std::function<void()> work) {
  {
    const std::lock_guard guard(mutex_);
    later_.emplace(Clock::now() + delay, std::move(work));
    watcher_idle_ = false;
  }
  wake_.notify_one();
}

void FileClient::set_names(Names names) {
  auto known = std::make_shared<const Names>(std::move(names));
  const std::lock_guard guard(mutex_);
  names_ = std::move(known);
}

void FileClient::log_failure(const std::string& kind, const RemoteFile& file,
                             const std::string& tried, const std::string& why) {
  std::shared_ptr<const Names> names;
  {
    const std::lock_guard guard(mutex_);
    names = names_;
  }
  const std::string number = std::to_string(file.home.value());
  log_.add(kind + " " + number, [&] {
    const std::string path = names->path ? names->path(file) : std::string();
    return "a program gets an I/O error: cannot " + tried + " of " +
           (path.empty() ? "file " : "'" + path + "', file ") + std::to_string(file.file) +
           " of node " + (names->node ? names->node(file.home) : number) + ": " + why;
  });
  // Should this have been left out, the watcher is to say so in time.
  bool wake = false;
  {
    const std::lock_guard guard(mutex_);
    failed_ = true;
    wake = std::exchange(watcher_idle_, false);
  }
  if (wake) wake_.notify_one();
}

void FileClient::fail(const Pending& pending, const char* kind, const std::string& why) {
  if (!is_answered(pending.op)) return;
  log_failure(kind, pending.file, pending.tried, why);
}

void FileClient::cancel(std::uint64_t id) {
  NodeId home;
  {
    const std::lock_guard guard(mutex_);
    const auto found = pending_.find(id);
    if (found == pending_.end()) return;
    home = found->second.home;
  }
  peer::FileBody body;
  body.mutable_cancel()->set_id(id);
  static_cast<void>(send_(home, std::move(body)));
}

void FileClient::forget(NodeId home, peer::FileForget forget) {
  peer::FileBody body;
  *body.mutable_forget() = std::move(forget);
  static_cast<void>(send_(home, std::move(body)));  // a home that is gone has forgotten
}

void FileClient::tell_revoked(const RemoteFile& file, std::uint64_t number) {
  peer::FileBody body;
  body.mutable_revoked()->set_incarnation(file.incarnation);
  body.mutable_revoked()->set_file(file.file);
  body.mutable_revoked()->set_number(number);
  static_cast<void>(send_(file.home, std::move(body)));
}

void FileClient::deliver(NodeId from, const peer::FileReply& reply) {
  Pending pending;
  {
    const std::lock_guard guard(mutex_);
    const auto found = pending_.find(reply.id());
    if (found == pending_.end() || found->second.home != from) return;
    pending = std::move(found->second);
    pending_.erase(found);
  }
  if (!pending.done) return give_back(from, pending.op, reply);
  if (reply.error() == EIO)
    fail(pending, "answered", "its home said so; its log or its disk says why");
  pending.done(reply);
}

void FileClient::give_back(NodeId home, FileOp op, const peer::FileReply& reply) {
  if (reply.handle() != 0) {
    peer::FileRequest release;
    const bool folder = op == FileOp::kOpenFolder;
    release.set_op(static_cast<std::uint32_t>(folder ? FileOp::kReleaseFolder : FileOp::kRelease));
    release.set_handle(reply.handle());
    call(home, std::move(release), [](const peer::FileReply&) {});
  }
  if (reply.file() != 0) {
    peer::FileForget forgotten;
    forgotten.set_incarnation(reply.incarnation());
    forgotten.add_files(reply.file());
    forgotten.add_counts(1);
    forget(home, std::move(forgotten));
  }
}

void FileClient::node_up(NodeId node) {
  const std::lock_guard guard(mutex_);
  up_[node] = true;
}

void FileClient::node_down(NodeId node) {
  std::vector<Pending> ended;
  {
    const std::lock_guard guard(mutex_);
    up_[node] = false;
    for (auto it = pending_.begin(); it != pending_.end();) {
      if (it->second.home != node) {
        ++it;
        continue;
      }
      if (it->second.done) ended.push_back(std::move(it->second));
      it = pending_.erase(it);
    }
  }
  for (const Pending& pending : ended) {
    fail(pending, "lost",
         "its home left the cluster before it answered; whether it was done is not known");
    pending.done(failed_reply(EIO));
  }
}

// Does what is due, says what the log has left out, and ends requests whose time is over. Those
// that are given up stay known until their home answers or goes down.
void FileClient::watch() {
  ::prctl(PR_SET_NAME, "gob-file-watch");
  std::unique_lock lock(mutex_);
  while (!stopped_) {
    failed_ = false;
    lock.unlock();
    Clock::time_point next = log_.flush();
    lock.lock();
    if (stopped_) return;
    std::vector<Pending> ended;
    const Clock::time_point now = Clock::now();
    if (const auto due = later_.begin(); due != later_.end()) {
      if (due->first <= now) {
        const std::function<void()> work = std::move(due->second);
        later_.erase(due);
        lock.unlock();
        work();
        lock.lock();
        continue;
      }
      next = std::min(next, due->first);
    }
    for (auto& [id, pending] : pending_) {
      if (!pending.done) continue;
      if (pending.deadline > now) {
        next = std::min(next, pending.deadline);
        continue;
      }
      ended.push_back(pending);
      pending.done = nullptr;
    }
    if (!ended.empty()) {
      lock.unlock();
      for (const Pending& late : ended) {
        fail(late, "timeout",
             "its home did not answer within " + std::to_string(timeout_.count()) +
                 " ms (file_timeout_ms); look at its log, load and disk. It may still be done");
        late.done(failed_reply(EIO));
      }
      lock.lock();
      continue;
    }
    if (failed_) continue;
    watcher_idle_ = next == Clock::time_point::max();
    if (watcher_idle_)
      wake_.wait(lock);
    else
      wake_.wait_until(lock, next);
  }
}

}  // namespace gob::file
