#include "libgob/migration/warden.h"

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "libgob/migration/inspect.h"
#include "libgob/migration/proc.h"
#include "libgob/migration/warden_process.h"

namespace gob::migration {

Result<Warden> Warden::start(const std::string& socket, const std::string& session,
                             const std::string& folder) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return system_error("creating a socket pair");
  UniqueFd mine(ends[0]);
  UniqueFd theirs(ends[1]);
  const long pid = ::syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0);
  if (pid < 0)
    return system_error("making namespaces for the process (gobmigrate serve runs as root?)");
  if (pid == 0) {
    mine.reset();
    WardenProcess(std::move(theirs), socket, session, folder).run();
  }
  return Warden(std::move(mine), static_cast<pid_t>(pid));
}

Warden::~Warden() { end(); }

void Warden::end() {
  if (!socket_) return;
  socket_.reset();
  ::waitpid(pid_, nullptr, 0);
}

Warden::News Warden::receive() {
  char bytes[4096] = {};
  const ssize_t got = ::recv(socket_.get(), bytes, sizeof bytes, 0);
  if (got < 5) return {};
  News news;
  news.what = bytes[0] == 'v'   ? News::What::kViewed
              : bytes[0] == 'n' ? News::What::kNetwork
              : bytes[0] == 'r' ? News::What::kRestored
                                : News::What::kEnded;
  std::memcpy(&news.status, bytes + 1, sizeof news.status);
  news.error.assign(bytes + 5, static_cast<std::size_t>(got - 5));
  return news;
}

Status Warden::say(const std::string& bytes, int fd) {
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  if (::sendmsg(socket_.get(), &message, MSG_NOSIGNAL) < 0)
    return system_error("speaking to the warden of the process");
  return {};
}

Status Warden::view(const std::vector<Bind>& binds, const std::string& criu) {
  std::string bytes = "V" + criu;
  for (const Bind& bind : binds) bytes += '\0' + bind.from + '\0' + bind.to;
  if (bytes.size() > kMaxWardenMessage)
    return make_error(ErrorCode::kInvalidArgument, "too many folders of other nodes are needed");
  return say(bytes);
}
Status Warden::hold_addresses(const std::string& name, const std::vector<Address>& addresses) {
  std::string bytes = "H" + name;
  for (const Address& each : addresses)
    bytes += '\0' + each.address + '\0' + each.device + '\0' + std::to_string(each.prefix);
  return say(bytes);
}
Status Warden::add_addresses() { return say("T"); }
Status Warden::restore(const std::vector<std::string>& argv, pid_t root) {
  std::string bytes = "R" + std::to_string(root);
  for (const std::string& argument : argv) bytes += '\0' + argument;
  return say(bytes);
}
Status Warden::stream(int fd) { return say("P", fd); }
Status Warden::control(int terminal) { return say("C", terminal); }
Status Warden::hold(int uffd) { return say("U", uffd); }
Status Warden::own(const std::string& session) { return say("S" + session); }
Status Warden::attached(const std::string& name) { return say("A" + name); }
Status Warden::go() { return say("G"); }
Status Warden::signal_all(int signal) { return say("K" + std::to_string(signal)); }
Status Warden::done() { return say("D"); }
Status Warden::cleaned() { return say("N"); }
Status Warden::moved_on() { return say("M"); }

std::optional<pid_t> Warden::migrant(pid_t root) const {
  for (const pid_t pid : tree_of(pid_)) {
    std::ifstream status(proc(pid, "status"));
    for (std::string line; std::getline(status, line);)
      if (line.starts_with("NSpid:") && line.ends_with("\t" + std::to_string(root))) return pid;
  }
  return std::nullopt;
}

}  // namespace gob::migration
