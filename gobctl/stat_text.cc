#include "gobctl/stat_text.h"

#include <algorithm>
#include <cmath>

#include "libgob/base/ids.h"
#include "libgob/base/size.h"

namespace gob::ctl {
namespace {

constexpr auto kRight = Table::Align::kRight;

std::string node_name(const control::HelloReply& hello, std::uint32_t id) {
  if (id < static_cast<std::uint32_t>(hello.node_names_size()))
    return printable(hello.node_names(static_cast<int>(id)));
  return "node " + std::to_string(id);
}

std::string count_of(std::uint64_t count, const char* thing) {
  return std::to_string(count) + " " + thing + (count == 1 ? "" : "s");
}

std::uint64_t faults(const control::ContainerStat& stat) {
  return stat.read_faults().count() + stat.write_faults().count() + stat.upgrades().count();
}

const control::ContainerStat* find(const control::StatReply* stat, std::uint32_t id) {
  if (stat == nullptr) return nullptr;
  const auto found = std::find_if(stat->containers().begin(), stat->containers().end(),
                                  [&](const auto& other) { return other.container().id() == id; });
  return found == stat->containers().end() ? nullptr : &*found;
}

std::uint64_t per_second(std::uint64_t now, std::uint64_t before, double seconds) {
  // A counter that went back belongs to a gobd that was started again.
  if (now < before || seconds <= 0) return 0;
  return static_cast<std::uint64_t>(std::llround(static_cast<double>(now - before) / seconds));
}

void print_faults(const control::ContainerStat& stat, const control::ContainerStat* before,
                  double seconds, Io& io) {
  std::vector<Table::Column> columns = {
      {"FAULTS"}, {"COUNT", kRight}, {"P50", kRight}, {"P99", kRight}, {"MAX", kRight}};
  if (before != nullptr) columns.push_back({"A SECOND", kRight});
  Table table(std::move(columns));
  const auto add = [&](const char* name,
                       const control::Latency& (control::ContainerStat::*of)() const) {
    const control::Latency& latency = (stat.*of)();
    const bool any = latency.count() != 0;
    std::vector<std::string> cells = {name, std::to_string(latency.count()),
                                      any ? format_duration(latency.p50_ns()) : "-",
                                      any ? format_duration(latency.p99_ns()) : "-",
                                      any ? format_duration(latency.max_ns()) : "-"};
    if (before != nullptr)
      cells.push_back(
          std::to_string(per_second(latency.count(), (before->*of)().count(), seconds)));
    table.add(std::move(cells));
  };
  add("read", &control::ContainerStat::read_faults);
  add("write", &control::ContainerStat::write_faults);
  add("upgrade", &control::ContainerStat::upgrades);
  table.print(io.out, io.paint);
}

void print_traffic(const control::ContainerStat& stat, const control::ContainerStat* before,
                   double seconds, Io& io) {
  Table table({{"TRAFFIC"}, {"IN", kRight}, {"OUT", kRight}});
  const auto numbers = [&](const char* name, std::uint64_t in, std::uint64_t out) {
    table.add({name, std::to_string(in), std::to_string(out)});
  };
  table.add({"bytes", format_size(stat.bytes_in()), format_size(stat.bytes_out())});
  if (before != nullptr)
    table.add({"bytes a second",
               format_size(per_second(stat.bytes_in(), before->bytes_in(), seconds)),
               format_size(per_second(stat.bytes_out(), before->bytes_out(), seconds))});
  numbers("messages", stat.messages_in(), stat.messages_out());
  numbers("invalidations", stat.invalidations_in(), stat.invalidations_out());
  numbers("injected pages", stat.injections_in(), stat.injections_out());
  numbers("swapped pages", stat.swap_in(), stat.swap_out());
  table.print(io.out, io.paint);
}

void print_bouncing(const control::ContainerStat& stat, Io& io) {
  if (stat.bouncing().empty()) {
    io.out << "No page was taken from this node by another one.\n";
    return;
  }
  Table table({{"BOUNCING PAGE", kRight}, {"BYTES FROM", kRight}, {"TAKEN FROM HERE", kRight}});
  for (const auto& page : stat.bouncing())
    table.add({std::to_string(page.page()), std::to_string(page.page() * kPageSize),
               count_of(page.count(), "time")});
  table.print(io.out, io.paint);
  io.out << io.paint.dim(
                "Pages that several nodes write bounce between them. If they write different\n"
                "data there (false sharing), put it on pages of its own: 4096 bytes apart.")
         << '\n';
}

std::string members(const control::NodeStat& node, const control::HelloReply& hello) {
  std::string text;
  for (const std::uint32_t id : node.members())
    text += (text.empty() ? "" : ", ") + node_name(hello, id);
  return text.empty() ? "in no view of the cluster" : "members " + text;
}

void print_peers(const control::NodeStat& node, Io& io) {
  if (node.peers().empty()) return;
  Table table({{"PEER"},
               {"STATE"},
               {"TRANSPORT"},
               {"IN", kRight},
               {"OUT", kRight},
               {"MESSAGES IN", kRight},
               {"OUT", kRight}});
  for (const auto& peer : node.peers()) {
    std::string transport = printable(peer.transport());
    if (!peer.transport_reason().empty())
      transport += " (" + printable(peer.transport_reason()) + ")";
    table.add({printable(peer.name()),
               peer.state().empty() ? (peer.up() ? "up" : "down") : printable(peer.state()),
               transport, format_size(peer.bytes_in()), format_size(peer.bytes_out()),
               std::to_string(peer.messages_in()), std::to_string(peer.messages_out())});
  }
  io.out << '\n';
  table.print(io.out, io.paint);
}

}  // namespace

void print_container(const control::StatReply& stat, const control::HelloReply& hello,
                     const Interval& interval, Io& io) {
  for (const auto& container : stat.containers()) {
    const auto* before = find(interval.before, container.container().id());
    const control::Container& what = container.container();
    io.out << io.paint.bold(printable(what.name())) << "  " << format_size(what.size_bytes())
           << "  " << format_mode(what.mode()) << ' ' << format_owner(what.uid(), what.gid())
           << "  id " << what.id() << "  as node " << printable(hello.node_name())
           << " sees it\n\n";
    const control::PageStates& pages = container.pages();
    io.out << "Pages here    " << pages.readable() << " readable, " << pages.writable()
           << " writable, " << pages.swapped() << " swapped, " << pages.waiting()
           << " waited for, ";
    const std::string lost = std::to_string(pages.lost()) + " lost";
    io.out << (pages.lost() != 0 ? io.paint.bad(lost) : lost) << '\n';
    io.out << "Owned by      ";
    std::string owners;
    for (const auto& owner : container.owners())
      owners += (owners.empty() ? "" : ", ") + node_name(hello, owner.node_id()) + " " +
                std::to_string(owner.pages());
    io.out << (owners.empty() ? "no page managed here exists"
                              : owners + io.paint.dim("  (of the pages managed here)"))
           << '\n';
    io.out << "Mapped        " << count_of(container.mappings(), "time") << " here; "
           << container.refused() << (container.refused() == 1 ? " access" : " accesses")
           << " refused\n\n";
    print_faults(container, before, interval.seconds, io);
    io.out << '\n';
    print_traffic(container, before, interval.seconds, io);
    io.out << '\n';
    print_bouncing(container, io);
  }
}

void print_node(const control::StatReply& stat, const control::HelloReply& hello,
                const Interval& interval, Io& io) {
  const control::NodeStat& node = stat.node();
  io.out << "Node " << io.paint.bold(printable(node.name())) << " of cluster "
         << printable(hello.cluster_name()) << ", gobd " << printable(node.gobd_version())
         << ", up " << format_age(node.uptime_ms()) << ", " << count_of(node.shards(), "shard")
         << "\nEpoch " << node.epoch() << ", " << members(node, hello) << "\nFrames "
         << format_size(node.resident_frames() * kPageSize) << " of "
         << format_size(node.budget_frames() * kPageSize) << ", swap "
         << format_size(node.swap_used_pages() * kPageSize) << " of "
         << format_size(node.swap_limit_pages() * kPageSize) << "; directory "
         << count_of(node.directory_entries(), "page") << " in "
         << format_size(node.directory_bytes()) << ", frame table "
         << format_size(node.frame_table_bytes()) << '\n'
         << count_of(node.clients(), "connection") << ", " << count_of(node.mappings(), "mapping")
         << ", linker " << printable(node.linker());
  if (!node.linker_reason().empty()) io.out << " (" << printable(node.linker_reason()) << ')';
  io.out << "\n\n";
  const bool rates = interval.before != nullptr;
  Table table({{"CONTAINER"},
               {"SIZE", kRight},
               {"READABLE", kRight},
               {"WRITABLE", kRight},
               {"SWAPPED", kRight},
               {rates ? "FAULTS/S" : "FAULTS", kRight},
               {"READ P50", kRight},
               {"WRITE P50", kRight},
               {rates ? "IN/S" : "IN", kRight},
               {rates ? "OUT/S" : "OUT", kRight}});
  for (const auto& container : stat.containers()) {
    const auto* before = find(interval.before, container.container().id());
    const auto shown = [&](std::uint64_t now, std::uint64_t then) {
      return rates ? per_second(now, before == nullptr ? 0 : then, interval.seconds) : now;
    };
    const auto latency = [](const control::Latency& of) {
      return of.count() == 0 ? "-" : format_duration(of.p50_ns());
    };
    table.add(
        {printable(container.container().name()), format_size(container.container().size_bytes()),
         std::to_string(container.pages().readable()), std::to_string(container.pages().writable()),
         std::to_string(container.pages().swapped()),
         std::to_string(shown(faults(container), before == nullptr ? 0 : faults(*before))),
         latency(container.read_faults()), latency(container.write_faults()),
         format_size(shown(container.bytes_in(), before == nullptr ? 0 : before->bytes_in())),
         format_size(shown(container.bytes_out(), before == nullptr ? 0 : before->bytes_out()))});
  }
  if (stat.containers().empty())
    io.out << "No containers.\n";
  else
    table.print(io.out, io.paint);
  print_peers(node, io);
}

}  // namespace gob::ctl
