// What one migration holds at its target, in the order in which it is built. One thread.
#pragma once

#include <sys/types.h>

#include <gob.hpp>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "libgob/migration/common_link.h"
#include "libgob/migration/keeper.h"
#include "libgob/migration/lazy_server.h"
#include "libgob/migration/page_store.h"
#include "libgob/migration/resident.h"
#include "libgob/migration/talk.h"
#include "libgob/migration/target.h"
#include "libgob/migration/target_streams.h"
#include "libgob/migration/warden.h"

namespace gob::migration {

class TargetRun {
 public:
  TargetRun(TargetOptions options, std::string folder, std::string node, Warden warden,
            gobelins::Connection gob, Talk talk)
      : options_(std::move(options)),
        folder_(std::move(folder)),
        node_(std::move(node)),
        warden_(std::move(warden)),
        gob_(std::move(gob)),
        talk_(std::move(talk)) {}
  Status run();

 private:
  Status take_over();  // until the migrant runs
  Status stay();       // until it ends
  Result<Ready> check();
  Status show(const View& view);
  Status check_network();
  Status hold_addresses();
  Status await_network();
  Status make_streams();
  Status wait_with_criu();
  Status start_criu();
  Status release_criu();
  Status take_images(const Images& images);
  // `bytes`: of a container.
  Status write_images(const Images& images, std::string_view bytes);
  Status prepare_memory();
  Status restore();
  Status join_common(pid_t migrant, std::optional<CommonLink>& common);
  Status hear_criu();
  void hear_resident();
  void hang_up();
  ResidentReply answer(const ResidentRequest& request);
  void hear_order();
  Status deliver(const Order& order);
  void all_is_here();
  void tell_arrival(const std::string& instead);
  Status ended(int status);
  void clean_up(std::chrono::milliseconds patience);  // with a source that still uses containers

  const TargetOptions options_;
  const std::string folder_;
  const std::string node_;  // this one
  View view_;               // what the migrant sees of others
  Warden warden_;
  std::optional<gobelins::Connection> gob_;
  std::optional<gobelins::Connection> stay_;  // has the lock with which gobd stays
  std::optional<Talk> talk_;
  Begin begin_;
  pid_t root_ = 0;     // its number in its namespace: the one it had at the source
  pid_t migrant_ = 0;  // and outside
  Memory memory_;
  std::map<pid_t, LazyRanges> ranges_;
  std::map<pid_t, std::vector<LazyRanges::Run>> early_;  // of them
  std::vector<Address> addresses_;  // that it brings along; without a device: they are here
  UniqueFd listener_, criu_socket_;
  std::uint64_t common_areas_ = 0;
  bool criu_gave_up_ = false;  // it began before the images were there
  std::uint64_t looked_ = 0;   // bytes of its log that are of its looks at the kernel
  UniqueFd inventory_;  // CRIU has been started, and waits for the images at this FIFO
  std::optional<TargetStores> stores_;
  int priority_ = 0;  // of those who serve its memory
  std::unique_ptr<LazyServer> server_;
  std::optional<ResidentPort> port_;
  std::unique_ptr<Keeper> keeper_;
  std::unique_ptr<TargetStreams> streams_;
  TargetStreams::Rests rests_;  // of the streams, while nothing moves in them
  UniqueFd migrant_fd_;
  std::vector<std::string> sessions_;  // whose containers are removed when the memory is here
  std::vector<std::string> attached_;  // folders of others, as long as the migrant is here
  bool still_ = false;      // nothing moves in its streams
  bool moving_on_ = false;  // somebody may need the containers
  std::string moved_on_;    // to this node
};

}  // namespace gob::migration
