#include "libgob/linker/bare_fault.h"

#include <poll.h>

#include <array>
#include <chrono>
#include <string>

#include "libgob/linker/bare_program.h"
#include "libgob/linker/uffd_calls.h"

namespace gob {
namespace {

using Clock = std::chrono::steady_clock;
constexpr unsigned kMaxRounds = 1'000'000;
constexpr std::chrono::milliseconds kPatience{10'000};  // without a fault: something is wrong

bool touch_page(const std::byte* page, std::uint64_t /*index*/) {
  static_cast<void>(*const_cast<const volatile std::byte*>(page));
  return true;
}

Status answer_faults(Mapping& mapping, unsigned rounds, FaultWait wait) {
  alignas(kPageSize) static constexpr std::array<std::byte, kPageSize> kPage{};
  std::vector<Fault> faults;
  auto deadline = Clock::now() + kPatience;
  for (unsigned answered = 0; answered < rounds;) {
    faults.clear();
    if (wait == FaultWait::kBlocking) {
      pollfd ready = {mapping.uffd(), POLLIN, 0};
      ::poll(&ready, 1, static_cast<int>(kPatience.count()));
    }
    if (Status drained = mapping.drain(faults); !drained) return drained;
    if (faults.empty()) {
      if (Clock::now() < deadline) continue;
      return make_error(ErrorCode::kTimedOut,
                        "bare fault measurement: no fault came from the process that touches pages",
                        ETIMEDOUT);
    }
    for (const Fault& fault : faults) {
      const UffdResult copied =
          uffd_copy(mapping.uffd(), mapping.address_of(fault.page.page), 1, kPage.data(), false);
      if (copied.outcome != UffdOutcome::kDone)
        return make_error(ErrorCode::kSystem, "bare fault measurement: cannot answer a fault",
                          copied.errno_value);
      ++answered;
    }
    deadline = Clock::now() + kPatience;
  }
  return {};
}

}  // namespace

Result<std::vector<std::uint64_t>> measure_bare_fault(unsigned rounds, FaultWait wait,
                                                      std::span<double> swept) {
  if (rounds == 0 || rounds > kMaxRounds)
    return make_error(ErrorCode::kInvalidArgument,
                      "bare fault measurement: rounds must be 1 to " + std::to_string(kMaxRounds),
                      EINVAL);
  Result<BareProgram> program =
      BareProgram::start("bare fault measurement", rounds, touch_page, swept);
  if (!program) return program.error();
  if (const Status answered = answer_faults(program->mapping(), rounds, wait); !answered)
    return answered.error();
  return program->finish(kPatience);
}

}  // namespace gob
