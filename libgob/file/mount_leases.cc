// Leases on the sizes of files: under which reads are answered and attributes given to the kernel.
#include <cerrno>
#include <chrono>
#include <utility>

#include "libgob/file/mount.h"

namespace gob::file {

namespace {

constexpr unsigned kMostTries = 64;                    // to give attributes while they are true
constexpr std::chrono::milliseconds kLongestHold{20};  // of a lease that a home wants back
constexpr unsigned kMostAskings = 1000;                // of a kernel, to forget attributes
constexpr std::chrono::milliseconds kBetweenAskings{1};

}  // namespace

void Mount::take_lease(const RemoteFile& remote, ContainerId container, const Reply& reply) {
  if (reply.lease() == 0) return;
  leases_.grant(remote, {reply.lease(), reply.attributes().size()});
  // Nothing is read ahead beyond; the home knows it by itself.
  if (container != ContainerId{} && remote.home != config_.self)
    data_.set_size(container, reply.attributes().size());
}

void Mount::take_awaited_lease(Reading& reading, const Reply& reply) {
  const SizeLeases::Lease lease{reply.lease(), reply.attributes().size()};
  if (lease.serial != 0 && leases_.grant_and_hold(reading.file.remote, lease)) reading.held = lease;
}

void Mount::let_go_of_lease(Reading& reading) {
  if (std::exchange(reading.held, {}).serial == 0) return;
  if (const std::uint64_t ended = leases_.let_go(reading.file.remote); ended != 0)
    tell_revoked(reading.file.remote, ended);
}

void Mount::give_attributes(fuse_req_t req, const RemoteFile& remote, const Reply& reply, Done give,
                            unsigned tries) {
  const SizeLeases::Lease lease{reply.lease(), reply.attributes().size()};
  // No node has pages of a file without one.
  if (reply.error() != 0 || lease.serial == 0) return give(reply);
  const bool held = tries != 0 && leases_.grant_and_hold(remote, lease);
  if (!held) leases_.grant(remote, lease);
  const bool given = leases_.answer_under(remote, lease.serial, [&] { give(reply); });
  if (const std::uint64_t ended = held ? leases_.let_go(remote) : 0; ended != 0)
    tell_revoked(remote, ended);
  if (given) return;
  if (tries == kMostTries) {
    // They take turns at the home, so it hardly ever comes to this.
    give(reply);
    return post_drop([this, remote] {
      if (const std::uint64_t inode = inodes_.number_of(remote); inode != 0)
        static_cast<void>(fuse_lowlevel_notify_inval_inode(session_, inode, 0, 0));
    });
  }
  Request request;
  request.set_op(static_cast<std::uint32_t>(FileOp::kGetAttributes));
  request.set_incarnation(remote.incarnation);
  request.set_file(remote.file);
  request.set_flags(kWithLease);
  put_caller(req, request, false);
  client_.call(remote.home, std::move(request),
               [this, req, remote, give = std::move(give), tries](const Reply& newer) {
                 give_attributes(req, remote, newer, give, tries + 1);
               });
}

// Attributes that the kernel was given under the lease, and has not looked at yet, would cut pages
// that come after it: it leaves them aside if it hears of a change. This does not wait for pages.
void Mount::tell_revoked(const RemoteFile& file, std::uint64_t number) {
  forget_attributes(file, [this, file, number] { client_.tell_revoked(file, number); });
}

// A kernel that says that it does not know a file may have the answer that tells it of the file,
// and go on to keep attributes out of that.
void Mount::forget_attributes(const RemoteFile& file, const std::function<void()>& then,
                              unsigned tries) {
  const std::uint64_t inode = inodes_.number_of(file);
  if (inode == 0 || fuse_lowlevel_notify_inval_inode(session_, inode, -1, 0) != -ENOENT ||
      tries == kMostAskings)
    return then();
  client_.later(kBetweenAskings,
                [this, file, then, tries] { forget_attributes(file, then, tries + 1); });
}

void Mount::home_up(NodeId home) { leases_.end_all_of(home); }

void Mount::home_down(NodeId home) {
  names_.forget(home);
  post_drop([this, home] {
    for (const RemoteFile& file : inodes_.of(home)) forget_attributes(file, [] {});
  });
}

void Mount::revoke(NodeId home, const peer::FileRevoke& revoke) {
  const RemoteFile file{home, revoke.incarnation(), revoke.file()};
  const auto tell = [this, file, number = revoke.number()] { tell_revoked(file, number); };
  if (leases_.revoke(file, revoke.number())) return tell();
  // A read that has waited for the lease is about to be answered under it. Not for long, since what
  // it waits for now may wait for the change.
  client_.later(kLongestHold, [this, file, tell, number = revoke.number()] {
    if (leases_.end(file, number)) tell();
  });
}

}  // namespace gob::file
