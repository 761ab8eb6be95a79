#include "gobbench/migration/migrant.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
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
  explicit Watch(std::string stop) : stop_(std::move(stop)), thread_([this] { look(); }) {}
  ~Watch() { end(); }
  void end() {
    over_ = true;
    if (thread_.joinable()) thread_.join();
  }
  std::atomic<std::uint64_t> step{0};
  std::atomic<bool> stopped{false};  // the file is there
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
    }
  }
  const std::string stop_;
  std::atomic<bool> over_{false};
  std::thread thread_;
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
  ::alarm(kLongest);  // if gobbench was killed, nobody else ends it
  const int file = ::open(options.file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  const std::size_t n = options.lines;
  const std::size_t bytes = Matrix::bytes_of(n, n);
  void* memory =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
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
  Watch watch(options.file + ".stop");
  const std::int64_t begin = now_ns();
  const std::int64_t limit = static_cast<std::int64_t>(options.seconds * 1e9);
  std::uint64_t digest = 0;
  std::uint64_t step = 0;
  std::size_t k = 0;
  const auto enough = [&] {
    if (options.steps != 0) return step == options.steps;
    return limit != 0 ? now_ns() - begin > limit : watch.stopped.load();
  };
  do {
    watch.step = step;
    k = (n / 2 + step) % n;
    if (k == 0) mgs.prepare();
    mgs.step(k, [] {});
    add_line(digest, matrix, k);
    if (++step == 1 && !say(kUnderWay)) return 1;
  } while (!enough());
  const std::int64_t end = now_ns();
  for (std::size_t i = k + 1; i < n; ++i) add_line(digest, matrix, i);
  watch.end();
  const Json report{{"steps", step},
                    {"run_ms", static_cast<double>(end - begin) / 1e6},
                    {"gap_ms", static_cast<double>(watch.gap_ns) / 1e6},
                    {"gap_step", watch.gap_step},
                    {"digest", std::to_string(digest)},
                    {"error", error_of(matrix, k)}};
  return say(report.dump()) ? 0 : 1;
}

Result<MigrantReport> parse_report(const std::string& line) {
  const Json json = Json::parse(line, nullptr, false);
  try {
    return MigrantReport{json.at("steps"),    json.at("run_ms"), json.at("gap_ms"),
                         json.at("gap_step"), json.at("digest"), json.at("error")};
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
