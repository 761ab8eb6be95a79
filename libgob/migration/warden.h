// Warden: process 1 of the namespaces in which a migrant lives. It starts CRIU there, reaps what
// ends, and holds a second descriptor of every userfaultfd: if the process that brings the
// migrant's memory dies while pages are missing, it kills the migrant, which never runs on zeros.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/migration/address.h"
#include "libgob/migration/view.h"

namespace gob::migration {

constexpr int kFirstStream = 3;

class Warden {
 public:
  struct News {
    enum class What { kViewed, kNetwork, kRestored, kEnded, kGone };
    What what = What::kGone;
    int status = 0;  // kRestored: exit status of CRIU; kEnded: wait status of the migrant
    std::string error;  // kViewed, kNetwork: why not; empty: done
  };

  // Forks, into pid and mount namespaces of its own: before there are threads or connections.
  // `folder` and the session's containers are removed by the warden if it has to end the migrant, or
  // if this process ends before cleaned(); what was attached for the migrant, when that ends.
  static Result<Warden> start(const std::string& socket, const std::string& session,
                              const std::string& folder);
  Warden(Warden&&) noexcept = default;
  Warden& operator=(Warden&&) = delete;
  ~Warden();
  // Lets it go, and waits for its end: without done() before, it kills the migrant.
  void end();

  // Readable when receive() has news.
  [[nodiscard]] int fd() const { return socket_.get(); }
  News receive();
  // Makes these mounts, and sees whether `criu` can still be started. News tells when that is done.
  Status view(const std::vector<Bind>& binds, const std::string& criu);
  // Keeps packets of these addresses away, under that name, until go(); News tells. Those with a
  // device are added by add_addresses(), and removed if the migrant does not come to run.
  Status hold_addresses(const std::string& name, const std::vector<Address>& addresses);
  Status add_addresses();
  // Starts CRIU; `root` is the number the migrant will have in its namespace.
  Status restore(const std::vector<std::string>& argv, pid_t root);
  // The process's end of a pipe: CRIU has these from descriptor kFirstStream on.
  Status stream(int fd);
  // The process's terminal becomes that of the session that it will be in. Before restore().
  Status control(int terminal);
  Status hold(int uffd);
  // The containers of this session, too, are among those.
  Status own(const std::string& session);
  // This was attached for the migrant.
  Status attached(const std::string& name);
  Status go();
  // To all processes in its namespace.
  Status signal_all(int signal);
  // All memory is there: the migrant needs nobody any more.
  Status done();
  // Images and containers are removed, or somebody else's.
  Status cleaned();
  // It went to another node, and with it all that the warden would have to remove.
  Status moved_on();
  [[nodiscard]] pid_t pid() const { return pid_; }
  // The migrant's number outside of its namespace, if it lives.
  [[nodiscard]] std::optional<pid_t> migrant(pid_t root) const;

 private:
  Warden(UniqueFd socket, pid_t pid) : socket_(std::move(socket)), pid_(pid) {}
  Status say(const std::string& bytes, int fd = -1);
  UniqueFd socket_;
  pid_t pid_;
};

}  // namespace gob::migration
