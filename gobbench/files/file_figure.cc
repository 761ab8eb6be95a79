#include "gobbench/files/file_figure.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>

#include "gobbench/files/gluster.h"
#include "gobbench/files/memory_mount.h"
#include "gobbench/files/nfs_reader.h"
#include "gobbench/files/read_plan.h"
#include "gobbench/files/servers.h"
#include "gobbench/machine.h"
#include "gobbench/progress.h"
#include "gobbench/raw_tcp.h"
#include "libgob/base/ids.h"
#include "libgob/base/size.h"
#include "libgob/runtime/control_client.h"

namespace gob::bench {
namespace {

constexpr double kMiB = 1024.0 * 1024.0;
constexpr std::size_t kReader = 0;
constexpr std::size_t kHome = 1;
constexpr std::uint64_t kCopiesOfAFile = 5;  // at most, with all caches of all nodes
constexpr std::uint64_t kShareOfANode = 8;   // a node has this many times a file's size, at least
constexpr std::uint64_t kTcpBytes = std::uint64_t{128} << 20;
const std::string kCubic = "cubic";  // of gobd's own links

// Where a file is read from.
enum class Way {
  kDiskCold,
  kDiskWarm,
  kDiskPages,
  kNfs,
  kSshfs,
  kGluster,
  kRemote,
  kRemoteInOrder,
  kHit,
  kFuse,
  kFuseHit,
  kFuseTcp
};

const char* name_of(Way way) {
  switch (way) {
    case Way::kDiskCold:
      return "local disk, cold";
    case Way::kDiskWarm:
      return "local disk, in the page cache";
    case Way::kDiskPages:
      return "local disk, in the page cache page by page";
    case Way::kNfs:
      return "NFS";
    case Way::kSshfs:
      return "sshfs";
    case Way::kGluster:
      return "glusterfs";
    case Way::kRemote:
      return "gobd, in another node's memory";
    case Way::kRemoteInOrder:
      return "gobd, the same in order";
    case Way::kHit:
      return "gobd, read before on this node";
    case Way::kFuse:
      return "FUSE alone";
    case Way::kFuseHit:
      return "FUSE alone, read before";
    case Way::kFuseTcp:
      return "FUSE and raw TCP alone";
  }
  return "";
}

// One measured point.
struct Point {
  std::uint64_t rate = 0;  // of the network, bits a second
  Way way = Way::kDiskCold;
  std::uint64_t file_bytes = 0;
  std::uint64_t request_bytes = 0;
  unsigned depth = 0;
  friend auto operator<=>(const Point&, const Point&) = default;
};
using Points = std::map<Point, std::vector<double>>;  // bytes a second, run by run

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::string network_name(std::uint64_t rate) {
  if (rate == 0) return "veth";
  return "veth, " + std::to_string(rate / 1'000'000) + " Mbit/s";
}

// Raw TCP, bytes a second, run by run.
struct Streams {
  std::vector<double> plain;
  std::vector<double> cubic;
};

// A cluster with the files of its node n2 under the mount of n1, and other servers of the same.
class Bench {
 public:
  static Result<Bench> start(const Session& session, std::uint64_t rate,
                             std::uint64_t largest_bytes, std::vector<std::string>& notes) {
    ClusterOptions wanted;
    wanted.nodes = 2;
    wanted.mount = true;
    wanted.netns = true;  // as between machines: packets, and no shortcut of the loopback device
    wanted.bits_per_second = rate;
    wanted.budget_bytes = std::max(wanted.budget_bytes, kShareOfANode * largest_bytes);
    Result<Cluster> cluster = session.cluster(wanted);
    if (!cluster) return cluster.error();
    Bench bench(std::move(*cluster));
    const ClusterNode& home = bench.cluster_.nodes()[kHome];
    const std::string& scratch = bench.cluster_.directory();
    bench.folder_ = scratch + "/files";
    bench.brick_ = scratch + "/brick";
    bench.fuse_mount_ = scratch + "/fuse.mnt";
    const std::string ssh_mount = scratch + "/ssh.mnt";
    const std::string gluster_mount = scratch + "/gluster.mnt";
    for (const std::string& made :
         {bench.folder_, bench.brick_, bench.fuse_mount_, ssh_mount, gluster_mount})
      if (::mkdir(made.c_str(), 0755) != 0) return system_error("cannot make " + made);
    if (Status s = bench.attach(home); !s) return s.error();

    const ClusterNode& reader = bench.cluster_.nodes()[kReader];
    bench.places_.server_host = home.host;
    bench.places_.server_netns_fd = home.netns_fd;
    bench.places_.client_netns_fd = reader.netns_fd;
    Result<NfsServer> nfs = NfsServer::start(bench.folder_, scratch, home.host, home.netns_fd);
    Result<ServedMount> ssh = mount_sshfs(bench.folder_, ssh_mount, bench.places_);
    Result<ServedMount> gluster =
        mount_glusterfs(bench.brick_, gluster_mount, scratch, bench.places_);
    for (const Error* left_out : {nfs ? nullptr : &nfs.error(), ssh ? nullptr : &ssh.error(),
                                  gluster ? nullptr : &gluster.error()}) {
      if (left_out == nullptr) continue;
      if (left_out->code != ErrorCode::kUnsupported) return *left_out;
      const std::string note = "left out: " + left_out->message();
      if (std::find(notes.begin(), notes.end(), note) == notes.end()) notes.push_back(note);
    }
    if (nfs) bench.nfs_.emplace(std::move(*nfs));
    if (ssh) bench.ssh_.emplace(std::move(*ssh));
    if (gluster) bench.gluster_.emplace(std::move(*gluster));
    return bench;
  }

  [[nodiscard]] bool has(Way way) const {
    if (way == Way::kNfs) return nfs_.has_value();
    if (way == Way::kSshfs) return ssh_.has_value();
    if (way == Way::kGluster) return gluster_.has_value();
    return true;
  }
  [[nodiscard]] Result<double> tcp(const std::string& congestion) const {
    return tcp_stream(places_, kTcpBytes, congestion);
  }

  // Seconds. Each time of a file of its own, so that no cache but the one meant can help.
  Result<double> read(Way way, const ReadPlan& plan) {
    const std::string name = "f" + std::to_string(++files_);
    const std::string path = (way == Way::kGluster ? brick_ : folder_) + "/" + name;
    const std::uint64_t at_once = way == Way::kDiskPages ? kPageSize : kWriteBytes;
    if (Status s = write_pattern_file(path, plan.file_bytes, at_once); !s) return s.error();
    if (Status s = warm_memory(kCopiesOfAFile * plan.file_bytes); !s) return s.error();
    const Result<double> seconds = read_fresh(way, name, path, plan);
    // A brick has links of its own to its files: what is empty takes no memory and no disk.
    if (way == Way::kGluster && ::truncate(path.c_str(), 0) != 0)
      return system_error("cannot empty " + path);
    ::unlink(path.c_str());
    return seconds;
  }

 private:
  explicit Bench(Cluster cluster) : cluster_(std::move(cluster)) {}

  Status attach(const ClusterNode& home) const {
    auto client = ControlClient::connect(home.control_socket, "gobbench");
    if (!client) return client.error();
    control::Request request;
    request.mutable_attach()->set_name("files");
    request.mutable_attach()->set_path(folder_);
    request.mutable_attach()->set_folder(true);
    const auto answer = (*client)->call(std::move(request));
    return answer ? Status() : Status(answer.error());
  }

  Result<double> read_fresh(Way way, const std::string& name, const std::string& path,
                            const ReadPlan& plan) {
    const std::string here = cluster_.nodes()[kReader].mount + "/files/" + name;
    ReadPlan whole = plan;
    whole.random = false;
    switch (way) {
      case Way::kDiskCold:
        if (Status s = drop_from_cache(path); !s) return s.error();
        return read_file(path, plan);
      case Way::kDiskWarm:
      case Way::kDiskPages:
        // Read once before, as the hits are: a page's second use costs the kernel more than its
        // first.
        if (auto r = read_file(path, whole); !r) return r.error();
        return read_file(path, plan);
      case Way::kNfs: {
        const ClusterNode& home = cluster_.nodes()[kHome];
        return read_nfs({home.host, nfs_->port(), "/files/" + name, places_.client_netns_fd}, plan);
      }
      case Way::kSshfs:
        return read_file(ssh_->path() + "/" + name, plan);
      case Way::kGluster:
        return read_file(gluster_->path() + "/" + name, plan);
      case Way::kRemote:
      case Way::kRemoteInOrder:
        // Its home has read it already: it is in that node's memory.
        if (auto r = read_file(cluster_.nodes()[kHome].mount + "/files/" + name, whole); !r)
          return r.error();
        return read_file(here, way == Way::kRemote ? plan : whole);
      case Way::kFuse: {
        const Result<MemoryMount> mount = MemoryMount::start(fuse_mount_, plan.file_bytes);
        if (!mount) return mount.error();
        return read_file(mount->path(), plan);
      }
      case Way::kFuseHit: {
        const Result<MemoryMount> mount = MemoryMount::start(fuse_mount_, plan.file_bytes);
        if (!mount) return mount.error();
        if (auto r = read_file(mount->path(), whole); !r) return r.error();
        return read_file(mount->path(), plan);
      }
      case Way::kFuseTcp: {
        const Result<MemoryMount> mount =
            MemoryMount::start_remote(fuse_mount_, plan.file_bytes, places_);
        if (!mount) return mount.error();
        return read_file(mount->path(), plan);
      }
      case Way::kHit:
        if (auto r = read_file(here, whole); !r) return r.error();
        return read_file(here, plan);
    }
    return 0.0;
  }

  Cluster cluster_;  // outlives the servers
  std::string folder_;
  std::string brick_;  // glusterfs's own folder, so that no other sees what it keeps there
  std::string fuse_mount_;
  TcpPlaces places_;
  std::optional<NfsServer> nfs_;
  std::optional<ServedMount> ssh_;
  std::optional<ServedMount> gluster_;
  unsigned files_ = 0;
};

// Everything on one network, in turns.
Status measure(Bench& bench, std::uint64_t rate, const FileFigureOptions& options, Points& points,
               Streams& tcp, std::vector<std::string>& notes, Progress& progress) {
  std::vector<Way> ways = {Way::kNfs, Way::kSshfs, Way::kGluster, Way::kRemote};
  if (options.random) ways.push_back(Way::kRemoteInOrder);
  if (rate == 0)
    ways.insert(ways.end(), {Way::kDiskCold, Way::kDiskWarm, Way::kDiskPages, Way::kHit, Way::kFuse,
                             Way::kFuseHit, Way::kFuseTcp});
  for (unsigned run = 0; run < options.runs; ++run) {
    progress.step("raw TCP");
    for (auto* const kind : {&tcp.plain, &tcp.cubic}) {
      const Result<double> stream = bench.tcp(kind == &tcp.cubic ? kCubic : "");
      if (!stream) return stream.error();
      kind->push_back(*stream);
    }
    for (const std::uint64_t bytes : options.file_bytes)
      for (const std::uint64_t request : options.request_bytes)
        for (const unsigned depth : options.depths)
          for (const Way way : ways) {
            progress.step(format_size(bytes) + ", " + name_of(way));
            if (!bench.has(way)) continue;
            const ReadPlan plan{bytes, std::min(request, bytes), depth, options.random, run};
            const Result<double> seconds = bench.read(way, plan);
            if (!seconds && seconds.error().code == ErrorCode::kUnsupported) {
              const std::string note = "left out: " + seconds.error().message();
              if (run == 0 && std::find(notes.begin(), notes.end(), note) == notes.end())
                notes.push_back(note);
              continue;
            }
            if (!seconds) return seconds.error();
            points[{rate, way, bytes, request, depth}].push_back(static_cast<double>(bytes) /
                                                                 *seconds);
          }
  }
  return {};
}

// What has to hold of the largest file, read in the smallest parts at the greatest depth.
std::vector<Target> targets(const FileFigureOptions& options, const Points& points,
                            const std::map<std::uint64_t, Streams>& tcp) {
  std::vector<Target> found;
  const std::uint64_t largest = std::ranges::max(options.file_bytes);
  const auto rate_of = [&](std::uint64_t network, Way way) -> std::optional<double> {
    const auto point = points.find({network, way, largest, std::ranges::min(options.request_bytes),
                                    std::ranges::max(options.depths)});
    if (point == points.end()) return std::nullopt;
    return median(point->second);
  };
  const auto add = [&](const std::string& what, std::optional<double> value,
                       std::optional<double> base, double must, std::optional<double> goal) {
    if (value && base) found.push_back({what, *value / *base, must, goal, Target::Better::kLarger});
  };
  const std::string file = ", file of " + format_size(largest);
  const std::string reads = options.random ? "random" : "sequential";
  for (const auto& [network, stream] : tcp) {
    const auto remote = rate_of(network, Way::kRemote);
    const std::string on = network == 0 ? "" : ", " + network_name(network);
    add(reads + " reads of another node's memory, share of a raw TCP stream" + on + file, remote,
        median(stream.plain), network == 0 ? 0.50 : 0.85, std::nullopt);
    if (options.random && network != 0)
      add("random over sequential reads" + on + file, remote, rate_of(network, Way::kRemoteInOrder),
          0.95, std::nullopt);
    if (network != 0) continue;
    add(reads + " reads of another node's memory, times NFS" + file, remote, rate_of(0, Way::kNfs),
        2, 5);
    add(reads + " reads of another node's memory, times sshfs" + file, remote,
        rate_of(0, Way::kSshfs), 2, 5);
    add(reads + " reads of another node's memory, times glusterfs" + file, remote,
        rate_of(0, Way::kGluster), 2, 5);
    add(reads + " local hits, share of the local page cache" + file, rate_of(0, Way::kHit),
        rate_of(0, Way::kDiskWarm), 0.90, std::nullopt);
  }
  return found;
}

Plot draw(const std::string& title, const FileFigureOptions& options, const Points& points) {
  Plot plot{title, {}};
  for (const std::uint64_t rate : options.bits_per_second)
    for (const std::uint64_t request : options.request_bytes)
      for (const unsigned depth : options.depths) {
        Panel panel{network_name(rate) + ", " + format_size(request) + " at a time, " +
                        std::to_string(depth) + " at once",
                    "file, MiB",
                    "MiB/s",
                    true,
                    true,
                    {},
                    {}};
        std::map<Way, Curve> curves;
        for (const auto& [point, values] : points)
          if (point.rate == rate && point.request_bytes == request && point.depth == depth)
            curves[point.way].points.emplace_back(static_cast<double>(point.file_bytes) / kMiB,
                                                  median(values) / kMiB);
        for (auto& [way, curve] : curves) {
          curve.title = name_of(way);
          panel.curves.push_back(std::move(curve));
        }
        plot.panels.push_back(std::move(panel));
      }
  return plot;
}

}  // namespace

Result<Outcome> run_file_figure(const Session& session, const FileFigureOptions& options) {
  if (!session.is_private())
    return make_error(ErrorCode::kInvalidArgument,
                      "figures 11 and 12 run on nodes of their own: leave --cluster-dir out");
  for (const std::uint64_t bytes : options.file_bytes)
    if (bytes == 0 || bytes % kPageSize != 0)
      return make_error(ErrorCode::kInvalidArgument, "files are whole pages of 4 KiB");
  for (const std::uint64_t bytes : options.request_bytes)
    if (bytes == 0 || bytes % kPageSize != 0)
      return make_error(ErrorCode::kInvalidArgument, "requests are whole pages of 4 KiB");
  Points points;
  std::map<std::uint64_t, Streams> tcp;
  std::vector<std::string> notes;
  const std::size_t ways = options.random ? 12 : 11;
  Progress progress("Files",
                    static_cast<unsigned>(options.bits_per_second.size() * options.runs *
                                          options.file_bytes.size() * options.request_bytes.size() *
                                          options.depths.size() * ways));
  for (const std::uint64_t rate : options.bits_per_second) {
    Result<Bench> bench = Bench::start(session, rate, std::ranges::max(options.file_bytes), notes);
    if (!bench) return bench.error();
    if (Status s = measure(*bench, rate, options, points, tcp[rate], notes, progress); !s)
      return s.error();
  }

  Table table({{"network", "network"},
               {"read_from", "read from"},
               {"file_bytes", "file, B"},
               {"request_bytes", "request, B"},
               {"depth", "at once"},
               {"mebibytes_per_second", "MiB/s", 1},
               {"share_of_tcp", "share of raw TCP", 2}});
  for (const auto& [rate, stream] : tcp) {
    const double plain = median(stream.plain);
    const double cubic = median(stream.cubic);
    table.add({network_name(rate), "raw TCP stream", {}, {}, {}, plain / kMiB, 1.0});
    table.add(
        {network_name(rate), "raw TCP stream, cubic", {}, {}, {}, cubic / kMiB, cubic / plain});
  }
  for (const auto& [point, values] : points)
    table.add(
        {network_name(point.rate), name_of(point.way), static_cast<std::int64_t>(point.file_bytes),
         static_cast<std::int64_t>(point.request_bytes), static_cast<std::int64_t>(point.depth),
         median(values) / kMiB, median(values) / median(tcp[point.rate].plain)});
  const std::string title = options.random ? "Figure 12: bandwidth of random reads of a file"
                                           : "Figure 11: bandwidth of sequential reads of a file";
  notes.insert(
      notes.begin(),
      {"median of " + std::to_string(options.runs) +
           " runs in turns, each on a file of its own; the first and last word of each "
           "page checked",
       "raw TCP stream: with this system's congestion control, " + tcp_congestion() +
           ", as the servers have it; gobd's links use cubic",
       "servers hold the file in memory; the node that reads has never seen it",
       "the memory that caches will take is touched before each measurement, since a virtual "
       "machine's free memory may have to come from its host first",
       "gobd: of a file that is no larger than an eighth of a node's memory (here none is larger), "
       "once a 256th was read at random, all is fetched in large requests",
       "in the page cache page by page: a local file that was written so; the kernel caches others "
       "in larger pieces, but none of a FUSE mount",
       "FUSE alone: a mount that answers from its own memory at once, which no mount in user "
       "space can beat on this machine; FUSE and raw TCP alone: the same, asking for each "
       "request's bytes over a plain socket, with nothing kept coherent or in memory",
       "NFS: nfs-ganesha and libnfs, version 4; sshfs: sftp over plain TCP",
       "glusterfs: a volume of one brick with the translators that version 10 gives one by "
       "default; "
       "with its read-ahead and io-cache, which are off by default, it was slower where both were "
       "tried, on 2 cores",
       options.random ? "paper, 2002: local disk 1.8 MB/s, NFS 0.5, cooperative cache 60.9"
                      : "paper, 2002: local disk 14 MB/s, NFS 2, cooperative cache 60.9"});
  Json parameters{{"runs", options.runs}, {"random", options.random}};
  return Outcome{options.random ? "figure_12" : "figure_11",
                 title,
                 std::move(table),
                 targets(options, points, tcp),
                 std::move(notes),
                 std::move(parameters),
                 draw(title, options, points)};
}

}  // namespace gob::bench
