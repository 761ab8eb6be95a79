// What the cluster knows of each process that was moved, for gobctl ps, wait and kill on any node: a
// Migrant in a container of its own, and a place for signals that somebody wants sent. One keeper writes it:
// gobmigrate until the process runs elsewhere, then whoever looks after it there. Used by one thread
// each.
#pragma once

#include <chrono>
#include <gob.hpp>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/migration/migration.pb.h"

namespace gob::migration {

// A signal that somebody wants sent.
struct Order {
  std::uint64_t number = 0;  // 0: there never was one
  std::int32_t signal = 0;
  std::uint32_t all = 0;  // 1: to all of its processes
};

class MigrantRecord {
 public:
  // Its container, for root.
  static Result<MigrantRecord> create(const gobelins::Connection& gob, const std::string& name,
                                      const Migrant& migrant);
  static Result<MigrantRecord> open(const gobelins::Connection& gob, const std::string& name);
  // kUnavailable: it went with its node. kNotFound: nothing was written yet.
  [[nodiscard]] Result<Migrant> read() const;
  // For the keeper. If that dies in the middle, what was there before counts.
  Status write(const Migrant& migrant);
  // Under the lock orders_lock().
  [[nodiscard]] Result<Order> order() const;
  Status give(const Order& order);
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  MigrantRecord(std::string name, gobelins::Mapping memory)
      : name_(std::move(name)), memory_(std::move(memory)) {}
  std::string name_;
  gobelins::Mapping memory_;
};

// The record that the first move of a process makes.
std::string record_of(const std::string& session);
inline std::string orders_lock(const std::string& record) { return record + ".orders"; }
inline std::string orders_changed(const std::string& record) { return record + ".changed"; }
// By which a keeper is known to live.
inline std::string keeper_lock(const std::string& record, const std::string& session) {
  return record + ".by" + session.substr(session.rfind('.'));
}
// Takes a lock of the cluster, also from an owner that died. False: not within `limit`.
Result<bool> take_lock(const gobelins::Connection& gob, const std::string& name,
                       std::chrono::milliseconds limit);
std::uint64_t wall_clock_ms();

// What is written, or UNKNOWN if nobody is left who would write it.
Result<Migrant> look_at(const gobelins::Connection& gob, const MigrantRecord& record);
bool is_over(const Migrant& migrant);  // ended, or unknown

struct KnownMigrant {
  std::string record;
  Migrant migrant;  // UNKNOWN and nothing else: its record was lost
};
// NODE/PID where it was started.
std::string id_of(const KnownMigrant& known);
// All there are, those that ended lately included, oldest change first. For root.
Result<std::vector<KnownMigrant>> list_migrants(const std::string& socket);
// The one that `word` names: by id; by its number on the asked node, now or earlier; by one on other nodes, or its
// command, if no other has the same. Those that live are preferred. kNotFound, kInvalidArgument.
Result<KnownMigrant> find_migrant(const std::string& socket, const std::string& word);
// Waits for its end, wherever it goes until then, but not longer than `limit`. kTimedOut, kLost: nobody knows.
Result<Migrant> await_end_of(const std::string& socket, const std::string& record,
                             std::chrono::milliseconds limit);
// Sends it a signal, wherever it is, after a move that is under way.
Status send_signal(const std::string& socket, const std::string& record, int signal, bool all,
                   std::chrono::milliseconds limit);
// Removes what nobody wants to know any more.
void forget_old_migrants(const std::string& socket);

}  // namespace gob::migration
