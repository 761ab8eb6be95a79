// algorithm: this node's part of a parallel program in shared memory, then a look at the whole
// result from this node.
#include <fcntl.h>
#include <sys/mman.h>

#include <array>
#include <cstdio>
#include <stdexcept>

#include "gobbench/algorithm.h"
#include "gobbench/worker_main.h"
#include "libgob/base/unique_fd.h"

namespace gob::bench {
namespace {

// The sequential result, in a file in memory that the coordinator holds open.
class Reference {
 public:
  Reference(const std::string& path, std::size_t bytes) : bytes_(bytes) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    data_ = fd ? ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd.get(), 0) : MAP_FAILED;
    if (data_ == MAP_FAILED)
      throw std::runtime_error(system_error("cannot read the sequential result").message());
  }
  Reference(const Reference&) = delete;
  Reference& operator=(const Reference&) = delete;
  ~Reference() { ::munmap(data_, bytes_); }
  [[nodiscard]] double* data() const { return static_cast<double*>(data_); }

 private:
  void* data_;
  std::size_t bytes_;
};

std::string describe(const Difference& wrong) {
  std::array<char, 256> text{};
  std::snprintf(text.data(), text.size(),
                "wrong result: element (%zu, %zu) is %.17g here, and %.17g in the sequential run",
                wrong.line, wrong.column, wrong.found, wrong.expected);
  return text.data();
}

}  // namespace

// Fields: algorithm "jacobi" or "mgs"; size, stride, iterations, block (algorithm.h); workers,
// worker; container and temporary (names of mapped containers); barrier (its name); reference (path
// of the sequential result, laid out alike).
Json run_algorithm(WorkerState& state, const Json& request) {
  Problem problem;
  problem.algorithm = request.at("algorithm") == "mgs" ? Algorithm::kMgs : Algorithm::kJacobi;
  problem.size = request.at("size");
  problem.stride = request.at("stride");
  problem.iterations = request.at("iterations");
  problem.block = request.at("block");
  const unsigned workers = request.at("workers");
  const std::string barrier_name = request.at("barrier");
  const Barrier barrier = [&] { state.connection.barrier(barrier_name, workers); };

  const Matrix matrix{state.mapped<double>(request).data(), problem.size, problem.stride};
  Matrix temporary;
  if (problem.has_temporary())
    temporary = {state.mapped<double>({{"container", request.at("temporary")}}).data(),
                 problem.size, problem.stride};
  const Span span = solve(problem, matrix, temporary, workers, request.at("worker"), barrier);

  const Reference reference(request.at("reference"), problem.bytes());
  const auto wrong = first_difference({reference.data(), problem.size, problem.stride}, matrix);
  if (wrong) throw std::runtime_error(describe(*wrong));
  return {{"begin", span.begin_ns}, {"end", span.end_ns}};
}

}  // namespace gob::bench
