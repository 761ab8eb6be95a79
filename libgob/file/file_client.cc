#include "libgob/file/file_client.h"

#include <sys/prctl.h>

#include <cerrno>
#include <utility>

namespace gob::file {

namespace {

constexpr std::size_t kMaxPending = 65536;

bool waits_for_others(const peer::FileRequest& request) {
  return op_of(request) == FileOp::kSetLock && request.lock().wait();
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
  std::uint64_t id = 0;
  bool wake = false;
  {
    const std::lock_guard guard(mutex_);
    const auto up = up_.find(home);
    if (!stopped_ && up != up_.end() && up->second && pending_.size() < kMaxPending) {
      id = ++last_id_;
      const bool endless = waits_for_others(request);
      pending_[id] = {home, op_of(request), std::move(done),
                      endless ? Clock::time_point::max() : Clock::now() + timeout_};
      // Every deadline is later than those before it: a watcher that has one need not hear of it.
      wake = !endless && std::exchange(watcher_idle_, false);
    }
  }
  if (id == 0) {
    done(failed_reply(EIO));
    return 0;
  }
  if (wake) wake_.notify_one();
  peer::FileBody body;
  *body.mutable_request() = std::move(request);
  body.mutable_request()->set_id(id);
  if (!send_(home, std::move(body))) {
    peer::FileReply reply = failed_reply(EIO);
    reply.set_id(id);
    deliver(home, reply);
  }
  return id;
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
  if (pending.done)
    pending.done(reply);
  else
    give_back(from, pending.op, reply);
}

// The answer came when nobody waited for it any more.
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
  std::vector<Callback> ended;
  {
    const std::lock_guard guard(mutex_);
    up_[node] = false;
    for (auto it = pending_.begin(); it != pending_.end();) {
      if (it->second.home != node) {
        ++it;
        continue;
      }
      if (it->second.done) ended.push_back(std::move(it->second.done));
      it = pending_.erase(it);
    }
  }
  for (const Callback& done : ended) done(failed_reply(EIO));
}

// Ends requests whose time is over. Those that are given up stay known until their home answers or
// goes down.
void FileClient::watch() {
  ::prctl(PR_SET_NAME, "gob-file-watch");
  std::unique_lock lock(mutex_);
  while (!stopped_) {
    Clock::time_point next = Clock::time_point::max();
    std::vector<Callback> ended;
    const Clock::time_point now = Clock::now();
    for (auto& [id, pending] : pending_) {
      if (!pending.done) continue;
      if (pending.deadline > now) {
        next = std::min(next, pending.deadline);
        continue;
      }
      ended.push_back(std::move(pending.done));
      pending.done = nullptr;
    }
    if (!ended.empty()) {
      lock.unlock();
      for (const Callback& done : ended) done(failed_reply(EIO));
      lock.lock();
      continue;
    }
    watcher_idle_ = next == Clock::time_point::max();
    if (watcher_idle_)
      wake_.wait(lock);
    else
      wake_.wait_until(lock, next);
  }
}

}  // namespace gob::file
