#include "libgob/migration/context_dump.h"

#include <poll.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <vector>

#include "libgob/base/pipe.h"
#include "libgob/migration/hurry.h"
#include "libgob/migration/inspect.h"

namespace gob::migration {
namespace {

constexpr std::chrono::seconds kDump{60};
// CRIU's page server: we want none of its pages, only its end.
constexpr std::uint32_t kPageServerClose = 0x1023;
// The last thing that CRIU does before it looks for the process is to read what an earlier dump may
// have left in this file; it may be empty but for its magic numbers.
constexpr const char* kGate = "irmap-cache";
constexpr std::array<std::uint32_t, 2> kGateMagic{0x55105940, 0x57004059};
// And just before that it looks for plugins.
constexpr const char* kPlugins = "plugins";
constexpr const char* kLog = "dump.log";

// Tells when CRIU looks for plugins in `folder`, which has none.
Result<UniqueFd> watch_plugins(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directory(folder, error);
  UniqueFd watch(::inotify_init1(IN_CLOEXEC));
  if (error || !watch || ::inotify_add_watch(watch.get(), folder.c_str(), IN_OPEN) < 0)
    return system_error("making and watching " + folder);
  return watch;
}

// Waits until one of `fds` is readable, or the child ends.
void await(std::initializer_list<int> fds, const Child& child) {
  std::vector<pollfd> waiting{{child.fd(), POLLIN, 0}};
  for (const int fd : fds) waiting.push_back({fd, POLLIN, 0});
  const int limit = static_cast<int>(std::chrono::milliseconds(kDump).count());
  while (::poll(waiting.data(), waiting.size(), limit) < 0 && errno == EINTR) continue;
}

bool readable(int fd) {
  pollfd waiting{fd, POLLIN, 0};
  return ::poll(&waiting, 1, 0) == 1 && (waiting.revents & POLLIN) != 0;
}

}  // namespace

Result<ContextDump> ContextDump::start(const DumpOptions& options) {
  auto gate = make_pipe();
  if (!gate) return gate.error();
  // For CRIU, which inherits it: opening this is opening the pipe anew, and does not wait, as it
  // might with a FIFO; reading does, as long as gobmigrate lives.
  const std::string link = options.folder + "/" + kGate;
  if (::symlink(("/proc/self/fd/" + std::to_string(gate->out.get())).c_str(), link.c_str()) != 0)
    return system_error("making the link " + link);
  const std::string plugins = options.folder + "/" + kPlugins;
  const auto watch = watch_plugins(plugins);
  if (!watch) return watch.error();
  std::vector<std::string> argv{options.criu,
                                "dump",
                                "--tree",
                                std::to_string(options.inside),
                                "--images-dir",
                                options.folder,
                                "--work-dir",
                                options.folder,
                                "--libdir",
                                plugins,
                                "--leave-stopped",
                                "--shell-job",
                                "--log-file",
                                kLog,
                                "-v2",
                                "--ghost-limit",
                                std::to_string(kMaxCopiedFile),
                                "--timeout",
                                "20"};
  if (options.connections)
    argv.insert(argv.end(), {"--tcp-established", "--network-lock", "nftables"});
  for (const std::string& name : options.external) argv.insert(argv.end(), {"--external", name});
  std::vector<int> keep{options.keep, gate->out.get()};
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
  auto child = Child::start(argv, keep, -1, options.beside, options.environment);
  if (!child) return child.error();
  ContextDump dump(options.folder, std::move(*child));
  dump.gate_ = std::move(gate->in);
  dump.pages_ = std::move(ours);
  if (options.lazy) dump.written_ = std::move(written->out);
  written->in.reset();
  // A CRIU that reads no such file would be through with its work by now.
  await({watch->get(), dump.written_ ? dump.written_.get() : -1}, dump.child_);
  const bool works = readable(watch->get()) || (dump.written_ && readable(dump.written_.get()));
  if (works && !readable(dump.child_.fd())) return dump;
  // It ends: its end of the pipe may be closed a little earlier. Or it hangs, and is ended; it has
  // not come to the process.
  const auto status = dump.child_.wait(std::chrono::seconds(1));
  return status ? dump.failed(*status) : status.error();
}

Status ContextDump::go_on() {
  for (const pid_t pid : tree_of(child_.pid())) hurry(pid);
  looked_ = length_of_log(folder_ + "/" + kLog);
  // If CRIU has ended meanwhile, its status will tell.
  if (::write(gate_.get(), kGateMagic.data(), sizeof kGateMagic) < 0 && errno != EPIPE)
    return system_error("letting CRIU go on");
  gate_.reset();
  return {};
}

bool ContextDump::await_images() {
  if (!written_) return false;
  await({written_.get()}, child_);
  char byte = 0;
  // If nothing is heard, CRIU has ended, or is late and will be killed: its status tells.
  if (!readable(written_.get()) || ::read(written_.get(), &byte, 1) != 1) return false;
  std::array<char, 32> close{};
  std::memcpy(close.data(), &kPageServerClose, sizeof kPageServerClose);
  static_cast<void>(!::send(pages_.get(), close.data(), close.size(), MSG_NOSIGNAL));
  return true;
}

Status ContextDump::end() {
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
  return make_error(ErrorCode::kSystem, "CRIU could not take the context of the process (status " +
                                            std::to_string(status) +
                                            "): " + errors_of_log(folder_ + "/" + kLog, looked_));
}

}  // namespace gob::migration
