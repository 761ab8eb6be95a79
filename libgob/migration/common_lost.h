// LostPrograms: userfaultfds of programs with containers mapped whose keeper has died. Whoever
// waits there for a page gets an error instead, and a child that one of them forks is taken in, as
// long as this exists: without a userfaultfd it would read zeros. One thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <vector>

#include "libgob/base/unique_fd.h"
#include "libgob/migration/common_loss.h"

namespace gob::migration {

class LostPrograms {
 public:
  // `news`: where gobd sent what children got, and may have more to send.
  explicit LostPrograms(int news) : news_(news) {}
  void add(UniqueFd uffd) { programs_.push_back({std::move(uffd), {}}); }

  // Answers all that waits. False: some may be left, for whose descriptors there is no room.
  bool answer(Gobd gobd);
  // Until answer() has something to do, `over` or `gobd` is (an eventfd that is readable; a socket
  // that hung up; -1: none), or `limit`; negative: there is none.
  void await(int over, int gobd, std::chrono::milliseconds limit = std::chrono::milliseconds(-1));
  // Who waits there tries again: gobd may have read of it, and not answered.
  void wake(std::uint64_t address, std::uint64_t bytes);
  // Some of these programs have not ended. Those that have are forgotten.
  bool any_left();
  // Of none: who waits asks anew.
  void clear() { programs_.clear(); }

 private:
  using Clock = std::chrono::steady_clock;
  struct Program {
    UniqueFd uffd;
    std::vector<std::uint64_t> later;  // addresses of pages: who waits for them asks anew,
    Clock::time_point gobds{};         // and until then gobd, if it has this, too
  };
  bool hear_news();

  const int news_;
  std::vector<Program> programs_;
  bool all_known_ = true;
  Clock::time_point again_at_{};  // those of `later`
};

}  // namespace gob::migration
