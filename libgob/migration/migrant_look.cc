// Looking for migrants, and what gobctl does with one, from any node.
#include <algorithm>
#include <optional>

#include "libgob/migration/migrant.h"
#include "libgob/migration/session.h"
#include "libgob/migration/stream_ring.h"
#include "libgob/migration/talk.h"
#include "libgob/runtime/control_client.h"

namespace gob::migration {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kLookForDeath{1000};
constexpr std::uint64_t kRememberedMs = 10 * 60 * 1000;
constexpr std::size_t kRemembered = 256;

Result<gobelins::Connection> connect(const std::string& socket) {
  try {
    return gobelins::Connection(socket);
  } catch (const std::system_error& error) {
    return make_error(error.code().value() == EACCES ? ErrorCode::kPermissionDenied
                                                     : ErrorCode::kUnavailable,
                      error.what(), error.code().value());
  }
}

std::vector<std::string> names_of(const std::string& socket, Error& error) {
  std::vector<std::string> names;
  const auto client = ControlClient::connect(socket, "gobctl", std::chrono::seconds(5));
  control::Request list;
  list.mutable_list_containers();
  const auto answer = client ? (*client)->call(list) : client.error();
  if (!answer) {
    error = answer.error();
    return names;
  }
  for (const control::Container& container : answer->reply.list_containers().containers())
    if (container.name().starts_with("migrant.")) names.push_back(container.name());
  return names;
}

bool has_number(const Migrant& migrant, const std::string& word, const std::string* node) {
  return std::ranges::any_of(migrant.stays(), [&](const Migrant::Stay& stay) {
    return std::to_string(stay.pid()) == word && (node == nullptr || stay.node() == *node);
  });
}

}  // namespace

bool is_over(const Migrant& migrant) {
  return migrant.state() == Migrant::ENDED || migrant.state() == Migrant::UNKNOWN;
}

Result<Migrant> look_at(const gobelins::Connection& gob, const MigrantRecord& record) {
  auto before = record.read();
  while (before && !is_over(*before)) {
    gobelins::Mutex life = gobelins::Connection(gob).mutex(before->keeper());
    const auto held = is_held(life);
    if (!held) return held.error();
    if (*held) break;
    auto after = record.read();  // it may have ended, or gone to another keeper
    if (!after) return after;
    if (after->state() == before->state() && after->keeper() == before->keeper())
      after->set_state(Migrant::UNKNOWN);
    before = std::move(after);
  }
  return before;
}

std::string id_of(const KnownMigrant& known) {
  if (known.migrant.stays_size() == 0) return known.record;
  return known.migrant.stays(0).node() + "/" + std::to_string(known.migrant.stays(0).pid());
}

Result<std::vector<KnownMigrant>> list_migrants(const std::string& socket) {
  Error error;
  const std::vector<std::string> names = names_of(socket, error);
  if (!error.context.empty()) return error;
  std::vector<KnownMigrant> all;
  if (names.empty()) return all;
  const auto gob = connect(socket);
  if (!gob) return gob.error();
  for (const std::string& name : names) {
    const auto record = MigrantRecord::open(*gob, name);
    if (!record && record.error().code == ErrorCode::kNotFound) continue;  // removed meanwhile
    if (!record) return record.error();
    auto migrant = look_at(*gob, *record);
    if (!migrant && migrant.error().code == ErrorCode::kNotFound) continue;
    KnownMigrant known{name, {}};
    known.migrant.set_state(Migrant::UNKNOWN);
    if (migrant)
      known.migrant = std::move(*migrant);
    else if (migrant.error().code != ErrorCode::kUnavailable)
      return migrant.error();
    all.push_back(std::move(known));
  }
  std::ranges::stable_sort(all, {}, [](const KnownMigrant& each) { return each.migrant.since_ms(); });
  return all;
}

Result<KnownMigrant> find_migrant(const std::string& socket, const std::string& word) {
  const auto all = list_migrants(socket);
  if (!all) return all.error();
  const auto client = ControlClient::connect(socket, "gobctl", std::chrono::seconds(5));
  if (!client) return client.error();
  const std::string& here = (*client)->hello().node_name();
  const auto is_meant = [&](const KnownMigrant& known, int how) {
    if (how == 0) return id_of(known) == word || known.record == word;
    if (how == 1) return has_number(known.migrant, word, &here);
    if (how == 2) return has_number(known.migrant, word, nullptr);
    return known.migrant.command() == word;
  };
  for (const bool over : {false, true}) {
    for (int how = 0; how < 4; ++how) {
      std::vector<const KnownMigrant*> found;
      for (const KnownMigrant& known : *all)
        if (is_over(known.migrant) == over && is_meant(known, how)) found.push_back(&known);
      if (found.empty()) continue;
      // Numbers come again: of those that ended the last one is meant.
      if (found.size() == 1 || (over && how != 3)) return *found.back();
      std::string ids;
      for (const KnownMigrant* each : found) ids += (ids.empty() ? "" : ", ") + id_of(*each);
      return make_error(ErrorCode::kInvalidArgument,
                        "'" + word + "' may be any of " + ids + ": say which");
    }
  }
  return make_error(ErrorCode::kNotFound,
                    "no process that was moved is called '" + word +
                        "'; \"gobctl ps\" shows all. One that was never moved is kill(1)'s");
}

Result<Migrant> await_end_of(const std::string& socket, const std::string& name,
                             milliseconds limit) {
  const auto gob = connect(socket);
  if (!gob) return gob.error();
  const auto record = MigrantRecord::open(*gob, name);
  if (!record) return record.error();
  const auto deadline = Clock::now() + limit;
  while (true) {
    auto migrant = look_at(*gob, *record);
    if (!migrant)
      return make_error(ErrorCode::kLost,
                        "what was known of the process is gone, with its node or by a move that "
                        "failed: " + migrant.error().message());
    if (migrant->state() == Migrant::ENDED) return migrant;
    if (migrant->state() == Migrant::UNKNOWN)
      return make_error(ErrorCode::kLost,
                        "nobody knows what became of the process: its node, or what looked after "
                        "it there, has ended");
    if (Clock::now() >= deadline)
      return make_error(ErrorCode::kTimedOut, "it has not ended yet", ETIMEDOUT);
    // The lock is free once there is news.
    const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
    const auto free = take_lock(*gob, migrant->keeper(), std::min(left, kLookForDeath));
    if (!free) return free.error();
    if (*free) ::gob_unlock(gob->get(), migrant->keeper().c_str());
  }
}

Status send_signal(const std::string& socket, const std::string& name, int signal, bool all,
                   milliseconds limit) {
  const auto gob = connect(socket);
  if (!gob) return gob.error();
  auto record = MigrantRecord::open(*gob, name);
  if (!record) return record.error();
  const std::string lock = orders_lock(name);
  const std::string changed = orders_changed(name);
  const auto deadline = Clock::now() + limit;
  const auto taken = take_lock(*gob, lock, limit);
  if (!taken) return taken.error();
  std::optional<std::uint64_t> mine;
  while (*taken && Clock::now() < deadline) {
    const auto migrant = look_at(*gob, *record);
    const auto last = record->order();
    if (!migrant || !last)
      return make_error(ErrorCode::kLost, "the move failed, and the process runs where it was, or it was lost with its node");
    if (mine && migrant->answered() >= *mine) {
      if (migrant->answer().empty()) return {};
      return make_error(ErrorCode::kNotFound, migrant->answer(), ESRCH);
    }
    if (is_over(*migrant))
      return make_error(ErrorCode::kNotFound,
                        migrant->state() == Migrant::ENDED
                            ? "it has ended already"
                            : "nobody is left who could reach it: its node, or what looked after it "
                              "there, has ended",
                        ESRCH);
    if (!mine && migrant->answered() >= last->number) {
      mine = last->number + 1;
      if (Status given = record->give({*mine, signal, all ? 1U : 0U}); !given) return given;
    }
    ::gob_cond_broadcast(gob->get(), changed.c_str(), lock.c_str());
    const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
    ::gob_cond_wait(gob->get(), changed.c_str(), lock.c_str(),
                    std::clamp(left, milliseconds(0), kLookForDeath).count());
  }
  return make_error(ErrorCode::kTimedOut,
                    mine ? "the signal was not taken in time; it will be once the process has moved"
                         : "another signal to it has not been taken yet",
                    ETIMEDOUT);
}

void forget_old_migrants(const std::string& socket) {
  const auto all = list_migrants(socket);
  if (!all) return;
  std::size_t over = 0;
  for (const KnownMigrant& known : *all) over += is_over(known.migrant) ? 1 : 0;
  for (const KnownMigrant& known : *all) {
    if (!is_over(known.migrant)) continue;
    // One that was lost with its node has no time.
    if (over <= kRemembered && known.migrant.since_ms() + kRememberedMs > wall_clock_ms()) continue;
    static_cast<void>(remove_session(socket, known.record));
    static_cast<void>(remove_session(socket, streams_of(known.record)));
    --over;
  }
}

}  // namespace gob::migration
