// What the kernel's calls on frames cost here, with a mapping to keep up with.
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <functional>

#include "gobbench/simulate/calibrate.h"
#include "libgob/container/frame_pool.h"
#include "libgob/linker/cache_sweep.h"
#include "libgob/linker/uffd_calls.h"
#include "libgob/linker/uffd_client.h"

namespace gob::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr unsigned kPages = 1024;

class SharedPages {
 public:
  explicit SharedPages(int fd)
      : start_(::mmap(nullptr, kPages * kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) {}
  SharedPages(const SharedPages&) = delete;
  SharedPages& operator=(const SharedPages&) = delete;
  ~SharedPages() {
    if (ok()) ::munmap(start_, kPages * kPageSize);
  }
  [[nodiscard]] bool ok() const { return start_ != MAP_FAILED; }
  [[nodiscard]] void* start() const { return start_; }
  [[nodiscard]] std::uint64_t address(unsigned page) const {
    return reinterpret_cast<std::uintptr_t>(start_) + page * kPageSize;
  }

 private:
  void* start_;
};

// False if the call failed.
using Call = std::function<bool(unsigned first, unsigned count)>;
// Microseconds a run, the median.
Result<double> time_runs(const Call& call, unsigned run, std::span<double> swept) {
  std::vector<double> took_us;
  for (unsigned first = 0; first < kPages; first += run) {
    sweep_cache(swept);
    const auto begin = Clock::now();
    if (!call(first, run)) return system_error("calibration: a kernel call on frames failed");
    took_us.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
  }
  std::nth_element(took_us.begin(), took_us.begin() + kPages / run / 2, took_us.end());
  return took_us[kPages / run / 2];
}

}  // namespace

Result<FrameCosts> measure_frames(std::span<double> swept) {
  const Result<FramePool> pool = FramePool::create("calibrate", kPages);
  if (!pool) return pool.error();
  const Result<int> frames = pool->fd();
  if (!frames) return frames.error();
  const SharedPages memory(*frames);
  if (!memory.ok()) return system_error("calibration: cannot map frames");
  const Result<UniqueFd> uffd = create_uffd(-1);
  if (!uffd) return uffd.error();
  if (Status s = register_mapping(uffd->get(), memory.start(), kPages * kPageSize); !s)
    return s.error();
  std::vector<std::byte> bytes(kStripePages * kPageSize, std::byte{1});
  const Call map = [&](unsigned first, unsigned count) {
    return uffd_copy(uffd->get(), memory.address(first), count, bytes.data(), false).outcome ==
           UffdOutcome::kDone;
  };
  const Call protect = [&](unsigned first, unsigned count) {
    return uffd_protect(uffd->get(), memory.address(first), count).outcome == UffdOutcome::kDone;
  };
  const Call load = [&](unsigned first, unsigned count) {
    return pool->load(PageIndex{first}, count, bytes.data()).ok();
  };
  const Call unmap = [&](unsigned first, unsigned count) {
    return pool->punch(PageIndex{first}, count).ok();
  };
  // In this order the calls find the frames as they need them; once for each length of run.
  std::array<std::array<double, 4>, 2> us{};
  for (const unsigned run : {kStripePages, 1u}) {
    std::size_t i = 0;
    for (const Call* call : {&map, &protect, &load, &unmap}) {
      const Result<double> took = time_runs(*call, run, swept);
      if (!took) return took.error();
      us[run == 1 ? 0 : 1][i++] = *took;
    }
  }
  const auto next = [&](std::size_t i) {
    return std::max(0.0, (us[1][i] - us[0][i]) / (kStripePages - 1));
  };
  return FrameCosts{us[0][0], next(0), us[0][1], next(1), us[0][3], next(3), us[0][2], next(2)};
}

}  // namespace gob::bench
