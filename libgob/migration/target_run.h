// What one migration holds at its target, in the order in which it is built. One thread.
#pragma once

#include <sys/types.h>

#include <gob.hpp>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "libgob/migration/lazy_server.h"
#include "libgob/migration/page_store.h"
#include "libgob/migration/talk.h"
#include "libgob/migration/target.h"
#include "libgob/migration/warden.h"

namespace gob::migration {

class TargetRun {
 public:
  TargetRun(TargetOptions options, std::string folder, Warden warden, gobelins::Connection gob,
            Talk talk)
      : options_(std::move(options)),
        folder_(std::move(folder)),
        warden_(std::move(warden)),
        gob_(std::move(gob)),
        talk_(std::move(talk)) {}
  Status run();

 private:
  Status take_over();  // until the migrant runs
  Status stay();       // until it ends
  Status check();
  Status take_images(const Images& images);
  Status prepare_memory(const Images& images);
  Status restore();
  Status hear_criu();
  void clean_up();

  const TargetOptions options_;
  const std::string folder_;
  Warden warden_;
  std::optional<gobelins::Connection> gob_;
  std::optional<Talk> talk_;
  Begin begin_;
  pid_t root_ = 0;     // its number in its namespace: the one it had at the source
  pid_t migrant_ = 0;  // and outside
  std::map<pid_t, LazyRanges> ranges_;
  UniqueFd listener_, criu_socket_;
  std::optional<TargetStore> store_;
  std::unique_ptr<LazyServer> server_;
};

}  // namespace gob::migration
