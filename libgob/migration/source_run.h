// What one migration holds at its source. One thread, and one that hands memory over.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <gob.hpp>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "libgob/migration/held_locks.h"
#include "libgob/migration/hidden_areas.h"
#include "libgob/migration/hurry.h"
#include "libgob/migration/page_store.h"
#include "libgob/migration/parent_hold.h"
#include "libgob/migration/resident.h"
#include "libgob/migration/source.h"
#include "libgob/migration/source_guard.h"
#include "libgob/migration/talk.h"

namespace gob::migration {

class SourceRun {
 public:
  // `hold`: of the process's parent; null: it need not stand still.
  SourceRun(const SourceOptions& options, const Plan& plan, std::string session, SourceGuard* guard,
            CommonLink* common = nullptr, ParentHold* hold = nullptr)
      : options_(options),
        plan_(plan),
        session_(std::move(session)),
        folder_(options.folder + "/gob-" + session_ + ".out"),
        guard_(guard),
        common_(common),
        hold_(hold) {}
  ~SourceRun();

  // Reaches the target and has its word that it could take the process.
  Status open();
  [[nodiscard]] const Ready& ready() const { return ready_; }
  void give_up(const std::string& why);
  Result<Moved> migrate(const Progress& progress);

 private:
  Status freeze_and_move(
      const Progress& progress);  // until the target says that the process is there, stopped
  Status check_room(std::uint64_t pages, std::uint64_t images);
  Status share_memory();
  Status offer_locks();
  Status note();
  Status show_folders();
  Status reach_resident();
  Status ask_what_is_out(std::vector<LazyTask>& tasks);
  Status send_images();
  void start_filling();
  Status check_filling(bool early);
  Status take_over();
  Status finish();
  void await_arrival();
  void abandon(const Error& error);
  void remove_images();
  [[nodiscard]] ResidentRequest::Processes processes() const;
  Result<Message> expect(Message::BodyCase what, std::chrono::milliseconds limit);

  const SourceOptions& options_;
  const Plan& plan_;
  const std::string session_;
  const std::string folder_;
  SourceGuard* guard_;  // null when nothing will be frozen
  CommonLink* common_;  // null when it has no memory in common with others
  ParentHold* hold_;    // null when the parent need not stand still
  std::optional<gobelins::Connection> gob_;
  std::optional<Talk> talk_;
  std::unique_ptr<SourceStore> store_;
  std::optional<Resident> resident_;  // when the process had moved before
  std::string mount_;                 // where this node's gobd shows attached files
  Ready ready_;                       // what the target said of the files
  HeldLocks locks_;                   // while the process stands still
  HiddenAreas hidden_;
  Memory memory_;                   // where the target finds it
  std::map<pid_t, pid_t> outside_;  // process numbers, by those inside
  Moved moved_;
  std::optional<Hurry> hurry_;  // while the process stands still
  std::chrono::steady_clock::time_point running_since_;
  std::thread filler_;
  std::atomic<bool> filler_ended_{false};
  Status filled_;
};

}  // namespace gob::migration
