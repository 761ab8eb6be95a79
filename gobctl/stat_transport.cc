// gobctl stat --transport as text.
#include "gobctl/stat_text.h"
#include "libgob/base/size.h"

namespace gob::ctl {
namespace {

constexpr auto kRight = Table::Align::kRight;

void print_device(const control::Rdma& rdma, Io& io) {
  if (rdma.device().empty()) {
    io.out << "No RDMA device: " << printable(rdma.reason()) << '\n';
    return;
  }
  io.out << "RDMA device " << printable(rdma.device());
  if (!rdma.reason().empty()) io.out << " (" << io.paint.bad(printable(rdma.reason())) << ')';
  io.out << '\n';
}

void print_paths(const control::NodeStat& node, Io& io) {
  Table table({{"PEER"},
               {"SHARD", kRight},
               {"OVER"},
               {"QUEUE PAIR"},
               {"MTU", kRight},
               {"IN", kRight},
               {"OUT", kRight},
               {"WRITES", kRight},
               {"WAITED", kRight},
               {"ERRORS", kRight},
               {"FALL-BACKS", kRight},
               {"WHY TCP"}});
  for (const auto& peer : node.peers()) {
    unsigned shard = 0;
    for (const auto& path : peer.paths()) {
      const bool verbs = path.transport() == "verbs";
      const auto of_verbs = [&](std::uint64_t value) {
        return verbs ? std::to_string(value) : std::string("-");
      };
      table.add(
          {printable(peer.name()), std::to_string(shard++),
           verbs ? printable(path.device()) : printable(path.transport()),
           verbs ? std::to_string(path.queue_pair()) + " " + printable(path.queue_pair_state())
                 : "-",
           of_verbs(path.mtu_bytes()), format_size(path.bytes_in()), format_size(path.bytes_out()),
           of_verbs(path.writes()), of_verbs(path.no_room()), of_verbs(path.completion_errors()),
           std::to_string(path.fall_backs()), printable(path.reason())});
    }
    if (peer.paths().empty())
      table.add({printable(peer.name()), "-", printable(peer.state()), "-", "-", "-", "-", "-", "-",
                 "-", "-", ""});
  }
  if (node.peers().empty())
    io.out << "\nNo peers.\n";
  else {
    io.out << '\n';
    table.print(io.out, io.paint);
  }
}

void print_counters(const control::Rdma& rdma, Io& io) {
  Table table({{"DEVICE COUNTER"}, {"VALUE", kRight}});
  bool any = false;
  for (const auto& counter : rdma.counters()) {
    if (counter.value() == 0) continue;
    any = true;
    table.add({printable(counter.name()), std::to_string(counter.value())});
  }
  if (!any) return;
  io.out << '\n';
  table.print(io.out, io.paint);
}

}  // namespace

void print_transport(const control::StatReply& stat, const control::HelloReply&, const Interval&,
                     Io& io) {
  print_device(stat.node().rdma(), io);
  print_paths(stat.node(), io);
  print_counters(stat.node().rdma(), io);
}

}  // namespace gob::ctl
