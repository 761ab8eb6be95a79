#include "gobbench/migration/migrant.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <thread>

#include "gobbench/mgs.h"
#include "gobbench/table.h"
#include "libgob/base/page_table.h"

namespace gob::bench {
namespace {

constexpr long kLookNs = 100'000;

// CRIU sets back the other clocks of what it restores, as if it had not stood still.
std::int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// Looks at the clock again and again, in a thread of its own that needs next to no memory: what
// keeps it from looking is the machine, or the move.
class Watch {
 public:
  explicit Watch(const std::string& file)
      : file_(file), stop_(file + ".stop"), thread_([this] { look(); }) {}
  ~Watch() { end(); }
  void end() {
    over_ = true;
    if (thread_.joinable()) thread_.join();
  }
  std::atomic<std::uint64_t> step{0};
  std::atomic<bool> stopped{false};    // the file that says so is there
  std::atomic<bool> abandoned{false};  // gobbench has ended, and with it the folder
  // After end().
  std::int64_t gap_ns = 0;
  std::uint64_t gap_step = 0;

 private:
  void look() {
    ::prctl(PR_SET_TIMERSLACK, 1UL);
    const timespec pause{0, kLookNs};
    std::int64_t last = now_ns();
    while (!over_) {
      ::nanosleep(&pause, nullptr);
      const std::int64_t now = now_ns();
      if (now - last > gap_ns) {
        gap_ns = now - last;
        gap_step = step;
      }
      last = now;
      if (!stopped && ::access(stop_.c_str(), F_OK) == 0) stopped = true;
      if (!abandoned && ::access(file_.c_str(), F_OK) != 0 && errno == ENOENT) abandoned = true;
    }
  }
  const std::string file_, stop_;
  std::atomic<bool> over_{false};
  std::thread thread_;
};

// How long the thread did not compute: the wall clock less its own, which stands still while the
// thread does, be it frozen, waiting for a page or for a processor. Unlike the run's time it does
// not tell how fast the machine happened to be.
class Idle {
 public:
  Idle() : wall_ns_(now_ns()), cpu_ns_(cpu_ns()) {}

  // So much work, in whatever unit, was done since the last call. Returns now_ns().
  std::int64_t worked(double work) {
    work_ += work;
    const std::int64_t now = now_ns();
    if (now - wall_ns_ >= kSpellNs) end_spell(now);
    return now;
  }
  double end() {
    end_spell(now_ns());
    const double rate = known_work_ == 0 ? 0 : known_cpu_ns_ / known_work_;
    return (total_ns_ - known_cpu_ns_ - rate * unknown_work_) / 1e6;
  }

 private:
  static constexpr std::int64_t kSpellNs = 2'000'000;

  static std::int64_t cpu_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
  }
  // The thread that goes on elsewhere is another to the kernel, and its clock began anew: the time
  // for the work of that spell is taken from the others.
  void end_spell(std::int64_t now) {
    const std::int64_t cpu = cpu_ns();
    total_ns_ += static_cast<double>(now - wall_ns_);
    if (cpu >= cpu_ns_) {
      known_cpu_ns_ += static_cast<double>(cpu - cpu_ns_);
      known_work_ += work_;
    } else {
      unknown_work_ += work_;
    }
    work_ = 0;
    wall_ns_ = now;
    cpu_ns_ = cpu;
  }

  std::int64_t wall_ns_;  // when this spell began,
  std::int64_t cpu_ns_;   // by both clocks
  double work_ = 0;       // since then
  double total_ns_ = 0;
  double known_cpu_ns_ = 0;
  double known_work_ = 0;
  double unknown_work_ = 0;
};

void add_line(std::uint64_t& digest, const Matrix& matrix, std::size_t line) {
  const double* at = matrix.line(line);
  for (std::size_t j = 0; j < matrix.size; ++j)
    digest = mix64(digest ^ std::bit_cast<std::uint64_t>(at[j]));
}

// The largest product of vector k with itself, which should be 1, and with those that follow it.
double error_of(const Matrix& matrix, std::size_t k) {
  double worst = 0;
  for (std::size_t i = k; i < matrix.size; ++i) {
    double product = i == k ? -1 : 0;
    double length = i == k ? 1 : 0;
    for (std::size_t j = 0; j < matrix.size; ++j) {
      product += matrix.line(k)[j] * matrix.line(i)[j];
      if (i != k) length += matrix.line(i)[j] * matrix.line(i)[j];
    }
    worst = std::max(worst, std::abs(product) / std::sqrt(length));
  }
  return worst;
}

constexpr unsigned kLongest = 30 * 60;  // seconds

}  // namespace

int run_migrant(const MigrantOptions& options) {
  // To be moved, it must outlive whoever started it, belong to no terminal, and hold nothing of
  // others.
  ::close_range(3, ~0U, 0);
  ::prctl(PR_SET_PDEATHSIG, 0);
  ::setsid();
  ::alarm(kLongest);  // if something hangs
  const int file = ::open(options.file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  const std::size_t n = options.lines;
  const std::size_t bytes = Matrix::bytes_of(n, n);
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (file < 0 || memory == MAP_FAILED) {
    std::perror("gobbench migrant");
    return 1;
  }
  const auto say = [&](const std::string& text) {
    return ::write(file, (text + "\n").data(), text.size() + 1) ==
           static_cast<ssize_t>(text.size() + 1);
  };
  const Matrix matrix{static_cast<double*>(memory), n, n};
  Mgs mgs(matrix, 1, 0);
  mgs.prepare();
  Watch watch(options.file);
  Idle idle;
  const std::int64_t begin = now_ns();
  std::int64_t now = begin;
  const std::int64_t limit = static_cast<std::int64_t>(options.seconds * 1e9);
  std::uint64_t digest = 0;
  std::uint64_t step = 0;
  std::size_t k = 0;
  const auto enough = [&] {
    if (watch.abandoned) return true;
    if (options.steps != 0) return step == options.steps;
    return limit != 0 ? now - begin > limit : watch.stopped.load();
  };
  do {
    watch.step = step;
    k = (n / 2 + step) % n;
    if (k == 0) mgs.prepare();
    mgs.step(k, [] {});
    add_line(digest, matrix, k);
    if (++step == 1 && !say(kUnderWay)) return 1;
    now = idle.worked(static_cast<double>(n - k));
  } while (!enough());
  const double idle_ms = idle.end();
  for (std::size_t i = k + 1; i < n; ++i) add_line(digest, matrix, i);
  watch.end();
  const Json report{{"steps", step},
                    {"run_ms", static_cast<double>(now - begin) / 1e6},
                    {"idle_ms", idle_ms},
                    {"gap_ms", static_cast<double>(watch.gap_ns) / 1e6},
                    {"gap_step", watch.gap_step},
                    {"digest", std::to_string(digest)},
                    {"error", error_of(matrix, k)}};
  return say(report.dump()) ? 0 : 1;
}

Result<MigrantReport> parse_report(const std::string& line) {
  const Json json = Json::parse(line, nullptr, false);
  try {
    return MigrantReport{json.at("steps"),  json.at("run_ms"),   json.at("idle_ms"),
                         json.at("gap_ms"), json.at("gap_step"), json.at("digest"),
                         json.at("error")};
  } catch (const Json::exception&) {
    return make_error(ErrorCode::kProtocol, "the program that moves said: " + line);
  }
}

std::uint64_t bytes_used_from(std::size_t lines, std::uint64_t step, std::uint64_t steps) {
  if (step >= steps) return 0;
  const std::uint64_t k = (lines / 2 + step) % lines;
  // With k = 0 it begins anew, with all lines.
  const std::uint64_t used = k + (steps - step) > lines || k == 0 ? lines : lines - k;
  return used * lines * sizeof(double);
}

}  // namespace gob::bench
