#include "gobbench/figure.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <map>

#include "gobbench/progress.h"
#include "gobbench/worker.h"

namespace gob::bench {
namespace {

struct Figure {
  const char* folder;
  const char* title;
  const char* name;  // of the algorithm, for workers
  // A reading that the paper's text gives: speed-up with so many nodes at this size. 0: none.
  unsigned paper_nodes;
  std::size_t paper_size;
  double paper_speed_up;
};

Figure figure_of(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::kJacobi:
      return {"figure9", "Figure 9: speed-up with Jacobi", "jacobi", 0, 0, 0};
    case Algorithm::kMgs:
      return {"figure10", "Figure 10: speed-up with modified Gram-Schmidt", "mgs", 6, 2048, 5.2};
  }
  return {};
}

// The sequential result of one size, in a file in memory that workers open by its path.
struct Sequential {
  Problem problem;
  UniqueFd file;
  double seconds = 0;

  [[nodiscard]] std::string path() const {
    return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(file.get());
  }
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Result<Sequential> run_sequentially(const FigureOptions& options, std::size_t size) {
  Sequential run;
  run.problem.algorithm = options.algorithm;
  run.problem.size = size;
  run.problem.stride = Matrix::stride_of(size, options.padded);
  run.problem.iterations = options.iterations;
  const std::size_t bytes = run.problem.bytes();
  run.file = UniqueFd(::memfd_create("gobbench-reference", MFD_CLOEXEC));
  if (!run.file || ::ftruncate(run.file.get(), static_cast<off_t>(bytes)) != 0)
    return system_error("cannot make room for the sequential result");
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, run.file.get(), 0);
  if (memory == MAP_FAILED) return system_error("cannot map the sequential result");
  std::vector<double> times;
  {
    const PinnedThread pinned(usable_cpus().front());
    for (unsigned r = 0; r < options.runs; ++r)
      times.push_back(solve_sequentially(run.problem,
                                         {static_cast<double*>(memory), size, run.problem.stride}));
  }
  ::munmap(memory, bytes);
  run.seconds = median(std::move(times));
  return run;
}

// One container on every worker's node, removed at the end.
class SharedMatrix {
 public:
  static Result<SharedMatrix> create(std::vector<Worker>& workers, const std::string& what,
                                     std::size_t bytes) {
    SharedMatrix matrix(workers, unique_name(what));
    const std::size_t whole = (bytes + kPageSize - 1) / kPageSize * kPageSize;
    Result<Json> made =
        workers[0].call({{"do", "create"}, {"container", matrix.name_}, {"bytes", whole}});
    if (!made) return made.error();
    matrix.made_ = true;
    const Result<std::vector<Json>> mapped = matrix.on_all("map");
    if (!mapped) return mapped.error();
    return matrix;
  }
  SharedMatrix(SharedMatrix&& other) noexcept
      : workers_(other.workers_), name_(other.name_), made_(std::exchange(other.made_, false)) {}
  SharedMatrix& operator=(SharedMatrix&&) = delete;
  ~SharedMatrix() {
    // After a failure the workers may be gone, and a private cluster goes with all its containers.
    if (!made_ || !on_all("unmap")) return;
    (void)workers_->front().call({{"do", "remove"}, {"container", name_}}).ok();
  }
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  SharedMatrix(std::vector<Worker>& workers, std::string name)
      : workers_(&workers), name_(std::move(name)) {}
  Result<std::vector<Json>> on_all(const char* what) {
    return call_all(*workers_,
                    std::vector<Json>(workers_->size(), {{"do", what}, {"container", name_}}));
  }

  std::vector<Worker>* workers_;
  std::string name_;
  bool made_ = false;
};

// Seconds of one parallel run.
Result<double> run_in_parallel(std::vector<Worker>& workers, const Figure& figure,
                               const Sequential& sequential, std::size_t block) {
  const Problem& problem = sequential.problem;
  Result<SharedMatrix> matrix = SharedMatrix::create(workers, "matrix", problem.bytes());
  if (!matrix) return matrix.error();
  std::optional<SharedMatrix> temporary;
  if (problem.has_temporary()) {
    Result<SharedMatrix> made = SharedMatrix::create(workers, "temporary", problem.bytes());
    if (!made) return made.error();
    temporary.emplace(std::move(*made));
  }
  Json request{{"do", "algorithm"},
               {"algorithm", figure.name},
               {"size", problem.size},
               {"stride", problem.stride},
               {"iterations", problem.iterations},
               {"block", block},
               {"workers", workers.size()},
               {"container", matrix->name()},
               {"temporary", temporary ? temporary->name() : ""},
               {"barrier", unique_name("barrier")},
               {"reference", sequential.path()}};
  std::vector<Json> requests;
  for (std::size_t w = 0; w < workers.size(); ++w) {
    request["worker"] = w;
    requests.push_back(request);
  }
  const Result<std::vector<Json>> replies = call_all(workers, requests);
  if (!replies) return replies.error();
  std::int64_t begin = std::numeric_limits<std::int64_t>::max();
  std::int64_t end = 0;
  for (const Json& reply : *replies) {
    begin = std::min(begin, reply.at("begin").get<std::int64_t>());
    end = std::max(end, reply.at("end").get<std::int64_t>());
  }
  return static_cast<double>(end - begin) * 1e-9;
}

// Speed-up by size and number of nodes.
using SpeedUps = std::map<std::size_t, std::map<unsigned, double>>;

Plot plot_of(const Figure& figure, const FigureOptions& options, const SpeedUps& speed_ups) {
  Panel by_nodes{"by number of nodes", "nodes", "speed-up", false, false, {}, {}};
  const unsigned most = *std::max_element(options.nodes.begin(), options.nodes.end());
  by_nodes.curves.push_back({"ideal", {{1, 1}, {most, most}}, Curve::Style::kDashed});
  for (const std::size_t size : options.sizes) {
    Curve curve{std::to_string(size) + "²", {}, Curve::Style::kLinePoints};
    for (const auto& [nodes, value] : speed_ups.at(size)) curve.points.emplace_back(nodes, value);
    by_nodes.curves.push_back(std::move(curve));
  }
  if (figure.paper_nodes != 0)
    by_nodes.curves.push_back({"paper, " + std::to_string(figure.paper_size) + "²",
                               {{figure.paper_nodes, figure.paper_speed_up}},
                               Curve::Style::kPoints});
  Panel by_size{"by matrix size", "lines of the matrix", "speed-up", true, false, {}, {}};
  for (const unsigned nodes : options.nodes) {
    Curve curve{
        std::to_string(nodes) + (nodes == 1 ? " node" : " nodes"), {}, Curve::Style::kLinePoints};
    for (const std::size_t size : options.sizes)
      curve.points.emplace_back(size, speed_ups.at(size).at(nodes));
    by_size.curves.push_back(std::move(curve));
  }
  return {figure.title, {by_nodes, by_size}};
}

std::vector<std::string> notes_of(const Session& session, const Figure& figure,
                                  const FigureOptions& options) {
  std::vector<std::string> notes;
  notes.emplace_back(
      "every element of every result was compared, on every node, with the "
      "sequential run: no bit differs");
  notes.emplace_back(
      "speed-up is against the sequential program in the same binary, on memory of "
      "its own, without gobd");
  const std::size_t cores = usable_cpus().size();
  for (const unsigned nodes : options.nodes)
    if (nodes > cores) {
      notes.push_back("this machine has " + std::to_string(cores) +
                      " cores: on more nodes than that, nodes share cores, and no speed-up above " +
                      std::to_string(cores) + " is possible");
      break;
    }
  notes.push_back("nodes are gobd processes on one machine, joined by " + session.network() +
                  (session.is_private() ? "; while they are not more than the cores, each keeps to "
                                          "one core, with its program"
                                        : ""));
  if (figure.paper_nodes != 0)
    notes.push_back("the paper's text gives one reading: 5.2 on 6 nodes at 2048², on six machines");
  return notes;
}

}  // namespace

std::size_t block_lines(std::size_t size, std::size_t stride, unsigned workers) {
  constexpr std::size_t kMaxBlock = 256;
  const std::size_t line_bytes = stride * sizeof(double);
  const std::size_t lines_a_page = std::max<std::size_t>(kPageSize / line_bytes, 1);
  const std::size_t share = (size + workers - 1) / workers;
  const std::size_t block = std::min(kMaxBlock, share);
  return (block + lines_a_page - 1) / lines_a_page * lines_a_page;
}

Result<Outcome> run_figure(const Session& session, const FigureOptions& options) {
  const Figure figure = figure_of(options.algorithm);
  Progress progress(figure.title, options.sizes.size() * (options.nodes.size() + 1));
  std::vector<Sequential> sequential;
  for (const std::size_t size : options.sizes) {
    progress.step("sequential, " + std::to_string(size) + " lines");
    Result<Sequential> run = run_sequentially(options, size);
    if (!run) return run.error();
    sequential.push_back(std::move(*run));
  }

  Table table({{"size", "size"},
               {"nodes", "nodes"},
               {"sequential_ms", "sequential ms", 2},
               {"parallel_ms", "parallel ms", 2},
               {"speed_up", "speed-up", 2},
               {"ideal", "ideal"},
               {"paper", "paper", 1}});
  SpeedUps speed_ups;
  for (const unsigned nodes : options.nodes) {
    ClusterOptions wanted;
    wanted.nodes = nodes;
    wanted.pin = true;
    Result<Cluster> cluster = session.cluster(wanted);
    if (!cluster) return cluster.error();
    Result<std::vector<Worker>> workers = start_workers(*cluster, nodes);
    if (!workers) return workers.error();
    for (const Sequential& base : sequential) {
      const Problem& problem = base.problem;
      progress.step(std::to_string(problem.size) + " lines on " + std::to_string(nodes) + " nodes");
      const std::size_t block =
          options.block != 0 ? options.block : block_lines(problem.size, problem.stride, nodes);
      std::vector<double> times;
      for (unsigned r = 0; r < options.runs; ++r) {
        const Result<double> seconds = run_in_parallel(*workers, figure, base, block);
        if (!seconds)
          return make_error(seconds.error().code,
                            std::string(figure.name) + " with " + std::to_string(problem.size) +
                                " lines on " + std::to_string(nodes) +
                                " nodes failed: " + seconds.error().message());
        times.push_back(*seconds);
      }
      const double parallel = median(std::move(times));
      const double speed_up = base.seconds / parallel;
      speed_ups[problem.size][nodes] = speed_up;
      const bool in_paper = nodes == figure.paper_nodes && problem.size == figure.paper_size;
      table.add({static_cast<std::int64_t>(problem.size), static_cast<std::int64_t>(nodes),
                 base.seconds * 1e3, parallel * 1e3, speed_up, static_cast<std::int64_t>(nodes),
                 in_paper ? Cell(figure.paper_speed_up) : Cell()});
    }
  }
  Json parameters{{"sizes", options.sizes},
                  {"nodes", options.nodes},
                  {"runs", options.runs},
                  {"padded", options.padded},
                  {"read_ahead", session.read_ahead},
                  {"network", session.network()}};
  if (options.algorithm == Algorithm::kJacobi) {
    parameters["iterations"] = options.iterations;
    parameters["block_lines"] = options.block != 0 ? Json(options.block) : Json("at most 256");
  }
  return Outcome{figure.folder,
                 figure.title,
                 std::move(table),
                 {},
                 notes_of(session, figure, options),
                 std::move(parameters),
                 plot_of(figure, options, speed_ups)};
}

}  // namespace gob::bench
