#include "libgob/migration/context_dump.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <fstream>
#include <vector>

#include "libgob/base/pipe.h"
#include "libgob/migration/inspect.h"

namespace gob::migration {
namespace {

constexpr std::chrono::seconds kDump{60};
// CRIU's page server: we want none of its pages, only its end.
constexpr std::uint32_t kPageServerClose = 0x1023;

// Of its scripts CRIU waits for the end: the one before the freeze says that it is there, and ends
// when it may. It fails, and CRIU with it, if nobody is left to say so. The descriptors are CRIU's:
// its scripts get none.
Status write_gate(const std::string& path, int says, int hears) {
  std::ofstream script(path);
  script << "#!/bin/sh\n[ \"$CRTOOLS_SCRIPT_ACTION\" = pre-dump ] || exit 0\n"
         << "echo >/proc/$PPID/fd/" << says << "\nread -r word </proc/$PPID/fd/" << hears << "\n";
  script.close();
  if (!script || ::chmod(path.c_str(), 0700) != 0) return system_error("writing " + path);
  return {};
}

// Where no script can run, the freeze begins earlier.
bool can_execute(const std::string& folder) {
  struct statvfs about {};
  return ::statvfs(folder.c_str(), &about) == 0 && (about.f_flag & ST_NOEXEC) == 0;
}

// Is there something to read from `fd` before the child ends?
bool heard(int fd, const Child& child) {
  pollfd waiting[2] = {{fd, POLLIN, 0}, {child.fd(), POLLIN, 0}};
  const int limit = static_cast<int>(std::chrono::milliseconds(kDump).count());
  while (::poll(waiting, 2, limit) < 0 && errno == EINTR) continue;
  char byte = 0;
  return (waiting[0].revents & POLLIN) != 0 && ::read(fd, &byte, 1) == 1;
}

}  // namespace

Result<ContextDump> ContextDump::start(const DumpOptions& options) {
  std::vector<std::string> argv{options.criu,
                                "dump",
                                "--tree",
                                std::to_string(options.inside),
                                "--images-dir",
                                options.folder,
                                "--leave-stopped",
                                "--shell-job",
                                "--log-file",
                                "dump.log",
                                "-v2",
                                "--ghost-limit",
                                std::to_string(kMaxCopiedFile),
                                "--timeout",
                                "20"};
  if (options.connections)
    argv.insert(argv.end(), {"--tcp-established", "--network-lock", "nftables"});
  std::vector<int> keep{options.keep};
  auto ready = make_pipe();
  if (!ready) return ready.error();
  auto go = make_pipe();
  if (!go) return go.error();
  const bool gated = can_execute(options.folder);
  if (gated) {
    const std::string script = options.folder + "/gate.sh";
    if (Status s = write_gate(script, ready->in.get(), go->out.get()); !s) return s.error();
    argv.insert(argv.end(), {"--action-script", script});
    keep.push_back(ready->in.get());
    keep.push_back(go->out.get());
  }
  UniqueFd ours;
  UniqueFd theirs;
  auto written = make_pipe();
  if (!written) return written.error();
  if (options.lazy) {
    int pages[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pages) != 0)
      return system_error("creating a socket pair");
    ours.reset(pages[0]);
    theirs.reset(pages[1]);
    argv.insert(argv.end(), {"--lazy-pages", "--ps-socket", std::to_string(theirs.get()),
                             "--status-fd", std::to_string(written->in.get())});
    keep.push_back(theirs.get());
    keep.push_back(written->in.get());
  }
  auto child = Child::start(argv, keep, -1, options.beside);
  if (!child) return child.error();
  ContextDump dump(options.folder, std::move(*child));
  dump.gate_ = std::move(go->in);
  dump.pages_ = std::move(ours);
  if (options.lazy) dump.written_ = std::move(written->out);
  ready->in.reset();
  if (!gated || heard(ready->out.get(), dump.child_)) return dump;
  const auto status = dump.child_.wait(std::chrono::seconds(1));
  return status ? dump.failed(*status) : status.error();
}

Status ContextDump::finish() {
  // A script that waits takes it; otherwise nobody does.
  if (::write(gate_.get(), "\n", 1) < 0 && errno != EPIPE) return system_error("letting CRIU go on");
  // If nothing is heard, CRIU has ended, or is late and will be killed: its status tells.
  if (written_ && heard(written_.get(), child_)) {
    std::array<char, 32> close{};
    std::memcpy(close.data(), &kPageServerClose, sizeof kPageServerClose);
    static_cast<void>(!::send(pages_.get(), close.data(), close.size(), MSG_NOSIGNAL));
  }
  const auto status = child_.wait(kDump);
  if (!status || *status >= 128)
    return make_error(ErrorCode::kLost,
                      "CRIU was killed while it worked on the process" +
                          (status ? " (signal " + std::to_string(*status - 128) + ")"
                                  : ", after " + std::to_string(kDump.count()) + " s") +
                          "; nobody can tell in which state that was left, so it was ended");
  return *status == 0 ? Status() : failed(*status);
}

Error ContextDump::failed(int status) const {
  return make_error(ErrorCode::kSystem,
                    "CRIU could not take the context of the process (status " +
                        std::to_string(status) + "): " + errors_of_log(folder_ + "/dump.log"));
}

}  // namespace gob::migration
