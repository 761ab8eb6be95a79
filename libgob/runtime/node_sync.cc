// Barriers, locks and condition variables: from requests to the sync service and back.
#include <spdlog/fmt/fmt.h>

#include "libgob/runtime/node.h"

namespace gob {

namespace {

constexpr std::size_t kMaxSyncName = 128;
// As long as a program holds a lock of such a name, its node does not begin to leave.
constexpr std::string_view kStay = "gob-stay.";

// What a result means to the program that asked.
Error sync_error(SyncResult result, const std::string& what) {
  const auto make = [&](ErrorCode code, int number, const char* why) {
    return make_error(code, what + ": " + why, number);
  };
  switch (result) {
    case SyncResult::kTimedOut:
      return make(ErrorCode::kTimedOut, ETIMEDOUT, "the others did not come in time");
    case SyncResult::kBusy:
      return make(ErrorCode::kUnavailable, EBUSY, "it is held by another");
    case SyncResult::kNotHeld:
      return make(ErrorCode::kInvalidArgument, EPERM, "this thread does not hold the lock");
    case SyncResult::kMismatch:
      return make(ErrorCode::kInvalidArgument, EINVAL, "others wait with another count");
    case SyncResult::kBroken:
      return make(ErrorCode::kLost, EOWNERDEAD, "a participant or its node died");
    case SyncResult::kDeadlock:
      return make(ErrorCode::kInvalidArgument, EDEADLK, "this thread holds it already");
    case SyncResult::kOverload:
      return make(ErrorCode::kNoSpace, EAGAIN, "too many objects or waiters at its home node");
    case SyncResult::kOk:
    case SyncResult::kOkLast:
    case SyncResult::kOkOwnerDied:
      break;
  }
  return make(ErrorCode::kSystem, 0, "unexpected result");
}

}  // namespace

void Node::synchronise(ClientId client, const control::Request& request, Responder responder) {
  SyncService::Request wish;
  wish.client = client.value();
  std::int64_t timeout_ms = -1;
  std::string what;
  switch (request.body_case()) {
    case control::Request::kBarrier:
      wish.kind = SyncKind::kBarrier;
      wish.name = request.barrier().name();
      wish.count = request.barrier().count();
      timeout_ms = request.barrier().timeout_ms();
      what = "barrier '" + wish.name + "'";
      break;
    case control::Request::kLock:
      timeout_ms = request.lock().timeout_ms();
      wish.kind = timeout_ms == 0 ? SyncKind::kTryLock : SyncKind::kLock;
      wish.name = request.lock().name();
      wish.holder = request.lock().holder();
      what = "lock '" + wish.name + "'";
      break;
    case control::Request::kUnlock:
      wish.kind = SyncKind::kUnlock;
      wish.name = request.unlock().name();
      wish.holder = request.unlock().holder();
      what = "unlock '" + wish.name + "'";
      break;
    case control::Request::kCondWait:
      wish.kind = SyncKind::kCondWait;
      wish.name = request.cond_wait().cond();
      wish.lock = request.cond_wait().lock();
      wish.holder = request.cond_wait().holder();
      timeout_ms = request.cond_wait().timeout_ms();
      what = "condition '" + wish.name + "'";
      break;
    case control::Request::kCondNotify:
      wish.kind = request.cond_notify().all() ? SyncKind::kCondBroadcast : SyncKind::kCondSignal;
      wish.name = request.cond_notify().cond();
      wish.lock = request.cond_notify().lock();
      wish.holder = request.cond_notify().holder();
      what = "condition '" + wish.name + "'";
      break;
    default:
      return responder.fail(
          make_error(ErrorCode::kUnsupported, "this gobd does not know the request", EOPNOTSUPP));
  }
  const bool needs_lock_name = request.body_case() == control::Request::kCondWait ||
                               request.body_case() == control::Request::kCondNotify;
  if (wish.name.empty() || wish.name.size() > kMaxSyncName ||
      (needs_lock_name && (wish.lock.empty() || wish.lock.size() > kMaxSyncName)))
    return responder.fail(
        make_error(ErrorCode::kInvalidArgument,
                   fmt::format("names of barriers, locks and conditions have 1 to "
                               "{} bytes",
                               kMaxSyncName),
                   EINVAL));
  if (wish.kind == SyncKind::kBarrier && wish.count == 0)
    return responder.fail(
        make_error(ErrorCode::kInvalidArgument, what + ": a count of 0 opens for nobody", EINVAL));
  std::string stay;
  if (request.body_case() == control::Request::kLock && wish.name.starts_with(kStay)) {
    if (!leave_wanted_.empty())
      return responder.fail(make_error(ErrorCode::kUnavailable,
                                       what + ": this node is leaving the cluster", ESHUTDOWN));
    stay = wish.name;
  }
  if (request.body_case() == control::Request::kUnlock) clients_[client].stays.erase(wish.name);
  if (timeout_ms >= 0) wish.deadline_ms = now_ms() + static_cast<std::uint64_t>(timeout_ms);
  SyncService::Out out;
  const std::uint64_t id = sync_.request(wish, out);
  sync_requests_.emplace(id, SyncRequest{std::move(responder), request.body_case(), what, client, stay});
  perform_sync(out);
}

void Node::answer_sync(const SyncService::Answer& answer) {
  const auto found = sync_requests_.find(answer.request);
  if (found == sync_requests_.end()) return;
  SyncRequest asked = std::move(found->second);
  sync_requests_.erase(found);
  const bool granted = answer.result == SyncResult::kOk || answer.result == SyncResult::kOkLast ||
                       answer.result == SyncResult::kOkOwnerDied;
  if (!granted) return asked.responder.fail(sync_error(answer.result, asked.what));
  if (const auto client = clients_.find(asked.client);
      !asked.stay.empty() && client != clients_.end())
    client->second.stays.insert(asked.stay);
  control::Reply reply;
  if (asked.body == control::Request::kBarrier)
    reply.mutable_barrier()->set_last(answer.result == SyncResult::kOkLast);
  if (asked.body == control::Request::kLock || asked.body == control::Request::kCondWait)
    reply.mutable_lock()->set_owner_died(answer.result == SyncResult::kOkOwnerDied);
  asked.responder.reply(std::move(reply));
}

}  // namespace gob
