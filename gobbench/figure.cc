#include "gobbench/figure.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

#include "gobbench/figure_results.h"
#include "gobbench/progress.h"
#include "gobbench/worker.h"

namespace gob::bench {
namespace {

// For workers.
const char* name_of(Algorithm algorithm) {
  return algorithm == Algorithm::kJacobi ? "jacobi" : "mgs";
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
Result<double> run_in_parallel(std::vector<Worker>& workers, const Sequential& sequential,
                               std::size_t block) {
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
               {"algorithm", name_of(problem.algorithm)},
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

std::vector<std::string> notes_of(const Session& session, const FigureOptions& options) {
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
  notes.push_back(paper_reading(options.algorithm));
  return notes;
}

}  // namespace

Result<Outcome> run_figure(const Session& session, const FigureOptions& options) {
  const std::string name = name_of(options.algorithm);
  Progress progress(name, options.sizes.size() * (options.nodes.size() + 1));
  std::vector<Sequential> sequential;
  for (const std::size_t size : options.sizes) {
    progress.step("sequential, " + std::to_string(size) + " lines");
    Result<Sequential> run = run_sequentially(options, size);
    if (!run) return run.error();
    sequential.push_back(std::move(*run));
  }

  std::vector<FigureRow> rows;
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
        const Result<double> seconds = run_in_parallel(*workers, base, block);
        if (!seconds)
          return make_error(seconds.error().code,
                            name + " with " + std::to_string(problem.size) + " lines on " +
                                std::to_string(nodes) +
                                " nodes failed: " + seconds.error().message());
        times.push_back(*seconds);
      }
      const double parallel = median(std::move(times));
      rows.push_back({kMeasured, problem.size, nodes, base.seconds * 1e3, parallel * 1e3,
                      base.seconds / parallel});
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
    parameters["block_lines"] =
        options.block != 0 ? Json(options.block)
                           : Json("at most 256, the same number of blocks for each worker");
  }
  Outcome outcome = figure_outcome(options.algorithm, kMeasured, rows);
  outcome.notes = notes_of(session, options);
  outcome.parameters = std::move(parameters);
  return outcome;
}

}  // namespace gob::bench
