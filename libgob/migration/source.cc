#include "libgob/migration/source.h"

#include <sys/prctl.h>

#include <algorithm>

#include "libgob/migration/common_link.h"
#include "libgob/migration/features.h"
#include "libgob/migration/file_facts.h"
#include "libgob/migration/migrant.h"
#include "libgob/migration/parent_hold.h"
#include "libgob/migration/room.h"
#include "libgob/migration/session.h"
#include "libgob/migration/shared_memory.h"
#include "libgob/migration/source_run.h"
#include "libgob/migration/source_streams.h"

namespace gob::migration {
namespace {

constexpr std::chrono::seconds kAnswer{20};

std::string images_folder(const SourceOptions& options, const std::string& session) {
  return options.folder + "/gob-" + session + ".out";
}

// Tells the server of the target's node about the session.
Status knock(gobelins::Connection& gob, const std::string& node, const std::string& session) {
  std::string nodes;
  bool known = false;
  for (int i = 0; i < gob.node_count(); ++i) {
    const std::string name = gob.node_name(i);
    known = known || name == node;
    nodes += (i == 0 ? "" : ", ") + name;
  }
  if (!known)
    return make_error(ErrorCode::kNotFound,
                      "the cluster has no node " + node + "; its nodes are " + nodes, ENOENT);
  if (gob.node_name(gob.node_id()) == node)
    return make_error(ErrorCode::kInvalidArgument, "the process is on node " + node + " already");
  gobelins::Mutex alive = gob.mutex(alive_name(node));
  const auto held = is_held(alive);
  if (!held) return held.error();
  if (!*held)
    return make_error(ErrorCode::kUnavailable, "nobody takes processes on node " + node +
                                                   "; start \"gobmigrate serve\" there, as root");
  const gobelins::Mapping inbox = gob.open(inbox_name(node)).map();
  char* const bytes = static_cast<char*>(inbox.data());
  gobelins::Mutex lock = gob.mutex(inbox_name(node) + ".lock");
  gobelins::Condition changed = gob.condition(inbox_name(node) + ".changed", lock);
  static_cast<void>(lock.lock_owner_died());
  const auto deadline = std::chrono::steady_clock::now() + kAnswer;
  auto used = load(bytes);
  while (used && *used != 0 && std::chrono::steady_clock::now() < deadline) {
    static_cast<void>(changed.wait(std::chrono::milliseconds(500)));
    used = load(bytes);
  }
  if (!used) return used.error();
  if (*used == 0) {
    const std::string letter = static_cast<char>(session.size()) + session;
    if (Status put = store(bytes, letter.data(), letter.size()); !put) return put;
    changed.broadcast();
  }
  lock.unlock();
  if (*used == 0) return {};
  return make_error(ErrorCode::kTimedOut, "the server on node " + node + " does not answer");
}

}  // namespace

Result<Message> SourceRun::expect(Message::BodyCase what, std::chrono::milliseconds limit) {
  auto answer = talk_->receive(limit);
  if (!answer) return answer;
  if (answer->has_refused())
    return make_error(ErrorCode::kUnavailable,
                      "node " + options_.node + " refuses: " + answer->refused());
  if (answer->body_case() != what)
    return make_error(ErrorCode::kProtocol, "the target answers oddly");
  return answer;
}

Status SourceRun::open() {
  try {
    gob_.emplace(options_.socket);
    // Memory leaves through this gobd, so that it has to stay meanwhile.
    if (const auto stays = take_lock(*gob_, stay_lock(session_, true), kAnswer); !stays)
      return stays.error();
    auto talk = Talk::open(*gob_, session_, End::kSource);
    if (!talk) return talk.error();
    talk_.emplace(std::move(*talk));
    if (Status heard = knock(*gob_, options_.node, session_); !heard) return heard;
  } catch (const std::system_error& error) {
    return error_of(error,
                    "reaching node " + options_.node + " through gobd at " + options_.socket);
  }
  Message message;
  Begin& begin = *message.mutable_begin();
  begin.set_lazy(options_.lazy);
  begin.set_stream(options_.stream);
  begin.set_memory_bytes(plan_.private_bytes + plan_.shared_bytes);
  const Need need = need_of(plan_, options_.lazy);
  *begin.mutable_cpu() = cpu_here();
  if (options_.any_cpu) begin.mutable_cpu()->clear_features();
  begin.set_image_bytes(need.images);
  begin.set_watches(plan_.watches);
  begin.set_timers(plan_.timers);
  begin.set_pages(need.pages);
  for (const File& file : plan_.files) *begin.add_files() = file;
  *begin.mutable_covers() = {plan_.covers.begin(), plan_.covers.end()};
  if (!plan_.sockets.empty()) begin.set_network(network_id());
  for (const std::string& address : plan_.needed_addresses) begin.add_needed_addresses(address);
  for (const Address& each : plan_.moving_addresses) begin.add_moving_addresses(each.address);
  begin.set_boot(boot_id());
  auto mount = mount_path(options_.socket);
  if (!mount) return mount.error();
  begin.set_mount(mount_ = std::move(*mount));
  if (Status said = talk_->send(message, kAnswer); !said) return said;
  auto ready = expect(Message::kReady, kAnswer);
  if (!ready) return ready.error();
  ready_ = std::move(*ready->mutable_ready());
  if (ready_.ways_size() != begin.files_size())
    return make_error(ErrorCode::kProtocol, "the target does not say how it reaches each file");
  return check_room(need.pages, need.images);
}

// `images`: bytes of CRIU's files that are still to be written here.
Status SourceRun::check_room(std::uint64_t pages, std::uint64_t images) {
  const auto rooms = rooms_of(options_.socket);
  if (!rooms) return rooms.error();
  if (Status fits = fits_cluster(pages, gob_->node_name(gob_->node_id()), *rooms, options_.node,
                                 ready_.room());
      !fits)
    return fits;
  return fits_machine(machine_of(options_.folder), options_.folder, /*process=*/0, images,
                      /*both=*/false, pages, rooms->own);
}

// From now on gobctl shows it. A migrant's keeper does that itself.
Status SourceRun::note() {
  if (plan_.migrant) return {};
  Migrant migrant;
  migrant.set_command(plan_.command);
  migrant.set_state(Migrant::MOVING);
  migrant.set_target(options_.node);
  migrant.set_since_ms(wall_clock_ms());
  migrant.set_keeper(keeper_lock(record_of(session_), session_) + ".source");
  Migrant::Stay& stay = *migrant.add_stays();
  stay.set_node(gob_->node_name(gob_->node_id()));
  stay.set_pid(plan_.pid);
  if (plan_.terminal) {
    migrant.set_terminal(plan_.terminal->path());
    migrant.set_terminal_stream(plan_.terminal->index());
  }
  const auto kept = take_lock(*gob_, migrant.keeper(), kAnswer);
  if (!kept) return kept.error();
  const auto record = MigrantRecord::create(*gob_, record_of(session_), migrant);
  if (!record) return record.error();
  return {};
}

// Folders of this node that the target lacks appear there, before anything is frozen. They stay
// attached as long as the process lives; the target removes them, or the guard.
Status SourceRun::show_folders() {
  Message message;
  if (Status noted = note(); !noted) return noted;
  message.mutable_view()->set_root(plan_.inside);
  message.mutable_view()->set_record(plan_.migrant ? plan_.record : record_of(session_));
  if (store_) message.mutable_view()->set_pages(store_->room());
  *message.mutable_view()->mutable_streams() = {plan_.streams.begin(), plan_.streams.end()};
  if (plan_.terminal) *message.mutable_view()->mutable_terminal() = *plan_.terminal;
  auto& covers = *message.mutable_view()->mutable_covers();
  covers = {plan_.covers.begin(), plan_.covers.end()};
  for (int i = 0; i < ready_.folders_size(); ++i) {
    auto cover = attach_folder(options_.socket, session_, i, ready_.folders(i));
    if (!cover) return cover.error();
    *covers.Add() = std::move(*cover);
  }
  // This node shows others no mount of gob that lies in such a folder: they have their own there.
  const bool hidden = std::ranges::any_of(
      ready_.folders(), [&](const std::string& folder) { return is_below(mount_, folder); });
  const bool known = std::ranges::any_of(
      covers, [&](const Cover& cover) { return cover.name().empty() && cover.path() == mount_; });
  if (!known && (hidden || std::ranges::count(ready_.ways(), OWN_MOUNT) != 0))
    covers.Add()->set_path(mount_);
  moved_.covers = {covers.begin(), covers.end()};
  if (Status said = talk_->send(message, kAnswer); !said) return said;
  if (const auto viewed = expect(Message::kViewed, 2 * kAnswer); !viewed) return viewed.error();
  return {};
}

void SourceRun::give_up(const std::string& why) {
  Message message;
  message.set_abort(why);
  if (talk_) static_cast<void>(talk_->send(message, std::chrono::seconds(2)));
}

Result<Ready> ask_target(const SourceOptions& options, const Plan& plan) {
  const std::string session = new_session("ask", options.pid);
  SourceRun run(options, plan, session, nullptr);
  const Status answer = run.open();
  run.give_up("it was only asked");
  const Status removed = remove_session(options.socket, session);
  if (!answer) return answer.error();
  if (!removed) return removed.error();
  return run.ready();
}

Result<Moved> migrate(const SourceOptions& options, const Plan& plan, const Progress& progress) {
  const std::string session = new_session(options.node, options.pid);
  // Before the guard, which may have to speak to it, too.
  std::optional<CommonLink> common;
  if (!plan.common.empty() || plan.common_areas != 0) {
    auto started = CommonLink::start(options.socket, /*log=*/false);
    if (!started) return started.error();
    common.emplace(std::move(*started));
    if (Status prepared = common->prepare(plan.pid); !prepared) return prepared.error();
  }
  // Nobody traces twice: with memory in common, the parent may be one of those that are looked
  // into.
  std::optional<ParentHold> hold;
  if (plan.terminal && plan.terminal->foreground() && !plan.migrant && !common && plan.parent > 1) {
    auto prepared = ParentHold::prepare(plan.parent);
    if (!prepared) return prepared.error();
    hold.emplace(std::move(*prepared));
  }
  auto guard = SourceGuard::start(options.socket, session, images_folder(options, session), plan,
                                  common ? &*common : nullptr);
  if (!guard) return guard.error();
  std::optional<SourceStreams> streams;
  if ((!plan.streams.empty() || plan.terminal) && !plan.migrant) {
    auto started =
        SourceStreams::start(options.socket, record_of(session), plan.streams, plan.terminal);
    if (!started) return started.error();
    streams.emplace(std::move(*started));
  }
  SourceRun run(options, plan, session, &*guard, common ? &*common : nullptr,
                hold ? &*hold : nullptr);
  auto moved = run.migrate({.freezing = progress.freezing, .running = [&](const Moved& there) {
                              if (streams) streams->go();
                              progress.running(there);
                            }});
  if (!moved && moved.error().code != ErrorCode::kLost && streams) streams->give_up();
  return moved;
}

}  // namespace gob::migration
