#include "gobbench/simulate/patterns.h"

#include "gobbench/distribution.h"

namespace gob::bench {
namespace {

using Kind = ProgramStep::Kind;

constexpr ContainerId kMatrix{1};
constexpr ContainerId kTemporary{2};
constexpr std::uint64_t kElementBytes = sizeof(double);

// Operations on one element, counted in jacobi.cc and mgs.cc. Memory: what is read, what is
// written, and the line that is fetched before it is overwritten.
constexpr KernelCost kCopyCost{1, 0, 24};
constexpr KernelCost kStencilCost{10, 1, 32};
constexpr KernelCost kNormaliseCost{2, 1, 16};
constexpr KernelCost kCorrectCost{4, 0, 16};

ProgramStep plain(Kind kind) {
  ProgramStep step;
  step.kind = kind;
  return step;
}

SimTime time_of(std::size_t elements, double element_ns) {
  return static_cast<SimTime>(static_cast<double>(elements) * element_ns + 0.5);
}

// What both programs share: lines of a matrix that lie on pages.
class LinesProgram : public Program {
 public:
  LinesProgram(const Problem& problem, const Distribution& distribution, unsigned worker)
      : problem_(problem) {
    distribution.for_each_line(worker, 0, problem.size,
                               [this](std::size_t line) { own_.push_back(line); });
  }

 protected:
  [[nodiscard]] PageRange line(ContainerId container, std::size_t i, Access access) const {
    const std::uint64_t begin = i * problem_.stride * kElementBytes;
    const std::uint64_t last = begin + problem_.size * kElementBytes - 1;
    return {{container, PageIndex{begin / kPageSize}},
            static_cast<std::uint32_t>(last / kPageSize - begin / kPageSize + 1),
            access};
  }

  Problem problem_;
  std::vector<std::size_t> own_;  // ascending
};

class JacobiProgram final : public LinesProgram {
 public:
  JacobiProgram(const Problem& problem, unsigned workers, unsigned worker,
                const ElementCosts& costs)
      : LinesProgram(problem, Distribution(problem.size, workers, problem.block), worker),
        costs_(costs) {}

  ProgramStep next() override {
    for (;;) {
      switch (phase_) {
        case Phase::kPrepare:
          if (at_ < own_.size()) return prepare(own_[at_++]);
          return turn(Phase::kStart, Kind::kBarrier);
        case Phase::kStart:
          return turn(Phase::kCopy, Kind::kStartClock);
        case Phase::kCopy:
          if (iteration_ == problem_.iterations) return plain(Kind::kEnd);
          if (at_ < own_.size()) return copy(own_[at_++]);
          return turn(Phase::kCompute, Kind::kBarrier);
        case Phase::kCompute: {
          if (at_ == own_.size()) {
            ++iteration_;
            return turn(Phase::kCopy, Kind::kBarrier);
          }
          const std::size_t i = own_[at_++];
          if (i != 0 && i + 1 != problem_.size) return compute(i);
        }
      }
    }
  }

 private:
  enum class Phase { kPrepare, kStart, kCopy, kCompute };

  ProgramStep turn(Phase phase, Kind kind) {
    phase_ = phase;
    at_ = 0;
    return plain(kind);
  }
  [[nodiscard]] ProgramStep prepare(std::size_t i) const {
    ProgramStep step = plain(Kind::kWork);
    step.touch(line(kMatrix, i, Access::kWrite));
    step.touch(line(kTemporary, i, Access::kWrite));
    return step;
  }
  [[nodiscard]] ProgramStep copy(std::size_t i) const {
    ProgramStep step = plain(Kind::kWork);
    step.touch(line(kMatrix, i, Access::kRead));
    step.touch(line(kTemporary, i, Access::kWrite));
    step.compute_ns = time_of(problem_.size, costs_.jacobi_copy);
    return step;
  }
  [[nodiscard]] ProgramStep compute(std::size_t i) const {
    ProgramStep step = plain(Kind::kWork);
    for (const std::size_t near : {i - 1, i, i + 1})
      step.touch(line(kTemporary, near, Access::kRead));
    step.touch(line(kMatrix, i, Access::kWrite));
    step.compute_ns = time_of(problem_.size, costs_.jacobi_compute);
    return step;
  }

  ElementCosts costs_;
  Phase phase_ = Phase::kPrepare;
  std::size_t at_ = 0;  // of own_
  unsigned iteration_ = 0;
};

class MgsProgram final : public LinesProgram {
 public:
  MgsProgram(const Problem& problem, unsigned workers, unsigned worker, const ElementCosts& costs)
      : LinesProgram(problem, Distribution::cyclic(problem.size, workers), worker),
        costs_(costs),
        workers_(workers),
        worker_(worker) {}

  ProgramStep next() override {
    switch (phase_) {
      case Phase::kPrepare:
        if (at_ < own_.size()) {
          ProgramStep step = plain(Kind::kWork);
          step.touch(line(kMatrix, own_[at_++], Access::kWrite));
          return step;
        }
        phase_ = Phase::kStart;
        return plain(Kind::kBarrier);
      case Phase::kStart:
        phase_ = Phase::kNormalise;
        return plain(Kind::kStartClock);
      case Phase::kNormalise:
        phase_ = Phase::kMeet;
        if (vector_ < problem_.size && vector_ % workers_ == worker_) return normalise();
        return next();
      case Phase::kMeet:
        phase_ = Phase::kCorrect;
        // Own vectors after this one: those of the distribution ascend by the number of workers.
        at_ = vector_ < worker_ ? 0 : (vector_ - worker_) / workers_ + 1;
        return plain(Kind::kBarrier);
      case Phase::kCorrect:
        if (vector_ == problem_.size) return plain(Kind::kEnd);
        if (at_ < own_.size()) return correct(own_[at_++]);
        ++vector_;
        phase_ = Phase::kNormalise;
        return next();
    }
    return {};
  }

 private:
  enum class Phase { kPrepare, kStart, kNormalise, kMeet, kCorrect };

  [[nodiscard]] ProgramStep normalise() const {
    ProgramStep step = plain(Kind::kWork);
    step.touch(line(kMatrix, vector_, Access::kRead));
    step.touch(line(kMatrix, vector_, Access::kWrite));
    step.compute_ns = time_of(problem_.size, costs_.mgs_normalise);
    return step;
  }
  [[nodiscard]] ProgramStep correct(std::size_t i) const {
    ProgramStep step = plain(Kind::kWork);
    step.touch(line(kMatrix, i, Access::kRead));
    step.touch(line(kMatrix, vector_, Access::kRead));
    step.touch(line(kMatrix, i, Access::kWrite));
    step.compute_ns = time_of(problem_.size, costs_.mgs_correct);
    return step;
  }

  ElementCosts costs_;
  unsigned workers_;
  unsigned worker_;
  Phase phase_ = Phase::kPrepare;
  std::size_t at_ = 0;      // of own_
  std::size_t vector_ = 0;  // the present vector of the basis
};

}  // namespace

ElementCosts element_costs(const Timing& timing, const Problem& problem, unsigned workers) {
  const double share = static_cast<double>(problem.bytes()) / workers;
  const double jacobi_bytes = 3 * share;  // the matrix, the temporary one, the right side
  return {element_ns(timing, kCopyCost, jacobi_bytes),
          element_ns(timing, kStencilCost, jacobi_bytes), element_ns(timing, kNormaliseCost, 0),
          element_ns(timing, kCorrectCost, share)};
}

std::vector<ContainerInfo> containers_of(const Problem& problem) {
  const std::uint64_t pages = (problem.bytes() + kPageSize - 1) / kPageSize;
  std::vector<ContainerInfo> all{{kMatrix, pages, Epoch{1}, kNoNode}};
  if (problem.has_temporary()) all.push_back({kTemporary, pages, Epoch{1}, kNoNode});
  return all;
}

std::vector<std::unique_ptr<Program>> programs_of(const Problem& problem, unsigned workers,
                                                  const ElementCosts& costs) {
  std::vector<std::unique_ptr<Program>> programs;
  for (unsigned worker = 0; worker < workers; ++worker) {
    if (problem.algorithm == Algorithm::kJacobi)
      programs.push_back(std::make_unique<JacobiProgram>(problem, workers, worker, costs));
    else
      programs.push_back(std::make_unique<MgsProgram>(problem, workers, worker, costs));
  }
  return programs;
}

SimTime computing_ns(Program& program) {
  SimTime sum = 0;
  for (;;) {
    const ProgramStep step = program.next();
    if (step.kind == ProgramStep::Kind::kEnd) return sum;
    if (step.kind == ProgramStep::Kind::kStartClock) sum = 0;
    sum += step.compute_ns;
  }
}

}  // namespace gob::bench
