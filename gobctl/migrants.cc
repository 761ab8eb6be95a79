// ps, wait, fg, kill: processes that gobmigrate moved.
#include "libgob/migration/migrant.h"

#include <sys/wait.h>

#include <csignal>
#include <cstring>

#include "gobctl/commands.h"
#include "gobctl/connection.h"
#include "gobctl/exit_code.h"
#include "gobctl/json.h"
#include "libgob/migration/foreground.h"

namespace gob::ctl {
namespace {

using migration::KnownMigrant;
using migration::Migrant;

constexpr int kSignalStatus = 128;  // shells add the signal to it

std::string signal_name(int signal) {
  const char* name = ::sigabbrev_np(signal);
  return name == nullptr ? "signal " + std::to_string(signal) : "SIG" + std::string(name);
}

Result<int> parse_signal(const std::string& text) {
  for (int signal = 1; signal < NSIG; ++signal) {
    const char* name = ::sigabbrev_np(signal);
    if (text == std::to_string(signal) ||
        (name != nullptr && (text == name || text == "SIG" + std::string(name))))
      return signal;
  }
  return make_error(ErrorCode::kInvalidArgument,
                    "'" + printable(text) + "' is no signal; \"kill -l\" lists their names");
}

std::string end_of(const Migrant& migrant) {
  const int status = migrant.wait_status();
  std::string text = WIFSIGNALED(status) ? "ended by " + signal_name(WTERMSIG(status))
                                         : "ended with " + std::to_string(WEXITSTATUS(status));
  return migrant.why().empty() ? text : "killed: " + printable(migrant.why());
}

// In JSON how it ended is in keys of its own.
std::string state_of(const Migrant& migrant, bool in_words) {
  switch (migrant.state()) {
    case Migrant::MOVING:
      return in_words ? "moving to " + printable(migrant.target()) : "moving";
    case Migrant::RUNNING:
      return migrant.out_pages() != 0 ? "arriving" : "running";
    case Migrant::ENDED:
      return in_words ? end_of(migrant) : "ended";
    default:
      return "unknown";
  }
}

Table::Tone tone_of(const Migrant& migrant) {
  switch (migrant.state()) {
    case Migrant::RUNNING:
      return migrant.out_pages() != 0 ? Table::Tone::kGood : Table::Tone::kPlain;
    case Migrant::ENDED:
      return migrant.why().empty() ? Table::Tone::kDim : Table::Tone::kBad;
    case Migrant::MOVING:
      return Table::Tone::kGood;
    default:
      return Table::Tone::kBad;
  }
}

// The one where it is, or the one before.
const Migrant::Stay* stay_of(const Migrant& migrant, int before) {
  const int at = migrant.stays_size() - 1 - before;
  return at < 0 ? nullptr : &migrant.stays(at);
}

Json to_json(const KnownMigrant& known) {
  const Migrant& migrant = known.migrant;
  const Migrant::Stay* now = stay_of(migrant, 0);
  const Migrant::Stay* from = stay_of(migrant, 1);
  Json json{{"id", migration::id_of(known)},
            {"command", migrant.command()},
            {"state", state_of(migrant, false)},
            {"node", now != nullptr ? Json(now->node()) : Json()},
            {"pid", now != nullptr ? Json(now->pid()) : Json()},
            {"from", from != nullptr ? Json(from->node()) : Json()},
            {"moves", migrant.moves()},
            {"out_pages", migrant.out_pages()},
            {"since_ms", migrant.since_ms()}};
  if (migrant.state() == Migrant::MOVING) json["target"] = migrant.target();
  if (migrant.state() == Migrant::ENDED) {
    const int status = migrant.wait_status();
    json["exit_status"] = WIFEXITED(status) ? Json(WEXITSTATUS(status)) : Json();
    json["signal"] = WIFSIGNALED(status) ? Json(WTERMSIG(status)) : Json();
    json["killed_because"] = migrant.why();
  }
  for (const Migrant::Stay& stay : migrant.stays())
    json["stays"].push_back({{"node", stay.node()}, {"pid", stay.pid()}});
  return json;
}

}  // namespace

Status run_ps(const Arguments& arguments, Io& io) {
  const auto socket = find_socket(arguments);
  if (!socket) return socket.error();
  const auto client = connect(arguments);
  if (!client) return client.error();
  const std::string here = (*client)->hello().node_name();
  auto all = migration::list_migrants(*socket);
  if (!all) return all.error();
  if (arguments.here)
    std::erase_if(*all, [&](const KnownMigrant& known) {
      const Migrant::Stay* now = stay_of(known.migrant, 0);
      return now == nullptr || now->node() != here;
    });
  if (arguments.quiet) {
    for (const KnownMigrant& known : *all)
      if (known.migrant.state() == Migrant::MOVING || known.migrant.state() == Migrant::RUNNING)
        io.out << printable(migration::id_of(known)) << '\n';
    return {};
  }
  if (arguments.json) {
    Json list = Json::array();
    for (const KnownMigrant& known : *all) list.push_back(to_json(known));
    print_json(io.out, list);
    return {};
  }
  if (all->empty()) {
    io.out << "No process was moved" << (arguments.here ? " here" : "")
           << ". \"gobmigrate PID NODE\" moves one.\n";
    return {};
  }
  Table table({{"MIGRANT"},
               {"COMMAND"},
               {"FROM"},
               {"NODE"},
               {"PID", Table::Align::kRight},
               {"PAGES OUT", Table::Align::kRight},
               {"SINCE", Table::Align::kRight},
               {"STATE"}});
  const std::uint64_t now_ms = migration::wall_clock_ms();
  for (const KnownMigrant& known : *all) {
    const Migrant& migrant = known.migrant;
    const Migrant::Stay* now = stay_of(migrant, 0);
    const Migrant::Stay* from = stay_of(migrant, 1);
    const bool dated = migrant.since_ms() != 0 && migrant.since_ms() <= now_ms;
    table.add({printable(migration::id_of(known)), printable(migrant.command()),
               from != nullptr ? printable(from->node()) : "-",
               now != nullptr ? printable(now->node()) : "-",
               now != nullptr ? std::to_string(now->pid()) : "-",
               std::to_string(migrant.out_pages()),
               dated ? format_age(now_ms - migrant.since_ms()) : "-", state_of(migrant, true)},
              tone_of(migrant));
  }
  table.print(io.out, io.paint);
  return {};
}

namespace {

// Its own end is the command's.
void report(KnownMigrant known, const Arguments& arguments, Io& io) {
  const int status = known.migrant.wait_status();
  io.exit_status = WIFSIGNALED(status) ? kSignalStatus + WTERMSIG(status) : WEXITSTATUS(status);
  if (arguments.json) print_json(io.out, to_json(known));
  else if (!known.migrant.why().empty())
    io.err << "gobctl: the process was " << end_of(known.migrant) << '\n';
}

}  // namespace

Status run_fg(const Arguments& arguments, Io& io) {
  io.exit_status = kExitNotWaited;
  const auto socket = find_socket(arguments);
  if (!socket) return socket.error();
  auto known = migration::find_migrant(*socket, arguments.name);
  if (!known) return known.error();
  auto ended = migration::follow_in_foreground(*socket, known->record);
  if (!ended) return ended.error();
  known->migrant = std::move(*ended);
  report(std::move(*known), arguments, io);
  return {};
}

Status run_wait(const Arguments& arguments, Io& io) {
  io.exit_status = kExitNotWaited;
  const auto socket = find_socket(arguments);
  if (!socket) return socket.error();
  auto known = migration::find_migrant(*socket, arguments.name);
  if (!known) return known.error();
  const auto limit = arguments.limit_seconds == 0 ? ControlClient::Milliseconds(std::chrono::hours(24 * 365))
                                                  : milliseconds(arguments.limit_seconds);
  auto ended = migration::await_end_of(*socket, known->record, limit);
  if (!ended) return ended.error();
  known->migrant = std::move(*ended);
  report(std::move(*known), arguments, io);
  return {};
}

Status run_kill(const Arguments& arguments, Io&) {
  const auto signal = parse_signal(arguments.signal);
  if (!signal) return signal.error();
  const auto socket = find_socket(arguments);
  if (!socket) return socket.error();
  const auto known = migration::find_migrant(*socket, arguments.name);
  if (!known) return known.error();
  return migration::send_signal(*socket, known->record, *signal, arguments.all,
                                milliseconds(arguments.timeout_seconds));
}

}  // namespace gob::ctl
