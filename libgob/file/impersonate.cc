#include "libgob/file/impersonate.h"

#include <sched.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

namespace gob::file {

namespace {

// The C library's calls would change all threads; the kernel's change this one.
int set_groups(const std::vector<gid_t>& groups) {
  return ::syscall(SYS_setgroups, groups.size(), groups.data()) == 0 ? 0 : errno;
}

struct Identity {
  bool own = true;
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
};

Identity& present() {
  thread_local Identity identity;
  return identity;
}

}  // namespace

void prepare_to_impersonate() {
  if (::unshare(CLONE_FS) == 0) ::umask(0);
}

int impersonate(const peer::FileCaller& caller) {
  Identity& now = present();
  if (::geteuid() != 0) return caller.uid() == ::geteuid() ? 0 : EPERM;
  std::vector<gid_t> groups(caller.groups().begin(), caller.groups().end());
  if (!now.own && now.uid == caller.uid() && now.gid == caller.gid() && now.groups == groups)
    return 0;
  be_gobd();
  if (const int error = set_groups(groups); error != 0) return error;
  now = {false, caller.uid(), caller.gid(), std::move(groups)};
  ::setfsgid(now.gid);
  ::setfsuid(now.uid);
  // The calls do not report failure; asking with an impossible id tells what is set.
  const bool right = static_cast<uid_t>(::setfsuid(static_cast<uid_t>(-1))) == now.uid &&
                     static_cast<gid_t>(::setfsgid(static_cast<gid_t>(-1))) == now.gid;
  if (right) return 0;
  be_gobd();
  return EPERM;
}

void be_gobd() {
  Identity& now = present();
  if (now.own) return;
  ::setfsuid(::geteuid());
  ::setfsgid(::getegid());
  static_cast<void>(set_groups({}));
  now = {};
}

}  // namespace gob::file
