#include "libgob/migration/room.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <fstream>

#include "libgob/base/ids.h"
#include "libgob/base/size.h"
#include "libgob/container/container_record.h"
#include "libgob/runtime/control_client.h"

namespace gob::migration {
namespace {

constexpr std::uint64_t kContextBytes = std::uint64_t{2} << 20;  // of most processes, with the talk
// Frames that gobd keeps free, and that read-ahead takes.
constexpr std::uint64_t kReserveShare = 64;
constexpr std::uint64_t kLeastReserve = 128;

std::uint64_t pages_of(std::uint64_t bytes) { return (bytes + kPageSize - 1) / kPageSize; }

std::uint64_t less(std::uint64_t all, std::uint64_t part) { return all - std::min(all, part); }

std::string size_of(std::uint64_t pages) { return format_size(pages * kPageSize); }

std::string describe(const std::string& node, const Room& room) {
  return node + " has " + size_of(room.spare_pages() + room.swap_pages()) + " left (budget " +
         size_of(room.budget_pages()) + ", " +
         (room.has_swap() ? size_of(room.swap_pages()) + " of swap free" : "no swap") + ")";
}

}  // namespace

Need need_of(const Plan& plan, bool lazy) {
  Need need;
  const std::uint64_t own = less(plan.private_bytes, plan.out_pages * kPageSize);
  need.images = kContextBytes + plan.shared_bytes + (lazy ? 0 : own);
  need.pages = pages_of(need.images) + (lazy ? pages_of(own) : 0);
  return need;
}

Result<Rooms> rooms_of(const std::string& socket) {
  const auto client = ControlClient::connect(socket, "gobmigrate", std::chrono::seconds(5));
  if (!client) return client.error();
  control::Request request;
  request.mutable_stat();
  const auto answer = (*client)->call(request);
  if (!answer) return answer.error();
  const control::StatReply& stat = answer->reply.stat();
  const control::NodeStat& node = stat.node();
  Rooms rooms;
  Room& own = rooms.own;
  own.set_budget_pages(node.budget_frames());
  own.set_free_pages(less(node.budget_frames(), node.resident_frames()));
  own.set_has_swap(node.swap_limit_pages() != 0);
  own.set_swap_pages(less(node.swap_limit_pages(), node.swap_used_pages()));
  std::uint64_t spare = own.free_pages();
  // Their pages have another place, and give way before those of memory.
  for (const control::ContainerStat& each : stat.containers()) {
    const auto kind = static_cast<ContainerKind>(each.container().kind());
    if (kind != ContainerKind::kMemory) spare += each.pages().readable() + each.pages().writable();
  }
  own.set_spare_pages(less(std::min(spare, node.budget_frames()),
                           std::max(kLeastReserve, node.budget_frames() / kReserveShare)));
  for (const control::PeerStat& peer : node.peers())
    if (std::ranges::count(node.members(), peer.node_id()) != 0)
      rooms.others.push_back(
          {peer.name(), peer.has_free_pages() ? std::optional(peer.free_pages()) : std::nullopt});
  return rooms;
}

Status fits_cluster(std::uint64_t pages, const std::string& source, const Rooms& rooms,
                    const std::string& target, const Room& room) {
  if (room.budget_pages() == 0) return {};
  std::uint64_t there =
      rooms.own.spare_pages() + rooms.own.swap_pages() + room.spare_pages() + room.swap_pages();
  std::uint64_t others = 0;
  for (const Rooms::Other& other : rooms.others) {
    if (other.node == target) continue;
    if (!other.free_pages) return {};  // it may have room for all
    others += *other.free_pages;
  }
  there += others;
  if (pages <= there) return {};
  return make_error(
      ErrorCode::kNoSpace,
      size_of(pages) + " of its memory have to pass through containers, and there is no room: " +
          describe(source, rooms.own) + ", " + describe(target, room) +
          (others == 0 ? "" : ", other nodes " + size_of(others)) + "; give gobd of " + source +
          " or " + target + " " + size_of(pages - there) +
          " more (--budget, or --swap with its swap_limit), or remove containers (gobctl ls, "
          "gobctl rm)");
}

Machine machine_of(const std::string& folder) {
  Machine machine;
  std::ifstream memory("/proc/meminfo");
  for (std::string line; std::getline(memory, line);)
    for (const std::string name : {"MemAvailable:", "SwapFree:"})
      if (line.starts_with(name))
        machine.memory += std::strtoull(line.c_str() + name.size(), nullptr, 10) * 1024;
  struct statvfs room {};
  if (::statvfs(folder.c_str(), &room) == 0) machine.folder = room.f_bavail * room.f_frsize;
  return machine;
}

Status fits_machine(const Machine& machine, const std::string& folder, std::uint64_t process,
                    std::uint64_t images, bool both, std::uint64_t pages, const Room& room) {
  const std::uint64_t files = both ? 2 * images : images;
  if (machine.folder < files)
    return make_error(
        ErrorCode::kNoSpace,
        "only " + format_size(machine.folder) + " are free in " + folder +
            " here, where CRIU's files of " + format_size(files) +
            " have to fit: remove files there, or give it more (mount -o remount,size=" +
            format_size(2 * files) + " " + folder + ")");
  const std::uint64_t frames = std::min(pages, room.free_pages()) * kPageSize;
  const std::uint64_t wanted = process + process / 4 + files + frames;
  if (machine.memory >= wanted) return {};
  return make_error(ErrorCode::kNoSpace,
                    "only " + format_size(machine.memory) + " of memory are free here, and " +
                        format_size(wanted) + " have to fit: " + format_size(process) +
                        " of the process and a quarter more, " + format_size(files) +
                        " of CRIU's files, and " + format_size(frames) +
                        " in frames of gobd until all has arrived");
}

}  // namespace gob::migration
