#include "libgob/migration/common_lost.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "libgob/base/file_limit.h"
#include "libgob/base/ids.h"
#include "libgob/linker/mapping.h"
#include "libgob/linker/uffd_abi.h"
#include "libgob/linker/uffd_calls.h"
#include "libgob/migration/common_mapper_help.h"
#include "libgob/migration/hear_word.h"

namespace gob::migration {
namespace {

constexpr int kRoom = 24;  // descriptors, to take memory away from processes
// No event says that gobd has taken a page away, or that there is room for a descriptor.
constexpr std::chrono::milliseconds kAgain{20};
// Whoever reads of a fault keeps it from others. gobd can do more about some, and looks this often.
constexpr std::chrono::milliseconds kGobds{60};

// Nobody is left who could tell more than can be read.
bool has_hung_up(int news) {
  pollfd socket{news, 0, 0};
  return ::poll(&socket, 1, 0) == 1;
}

}  // namespace

// False: some may be left.
bool LostPrograms::hear_news() {
  MappingNews word;
  for (UniqueFd child;;) {
    const Heard heard = hear_word(news_, word, child, MSG_DONTWAIT | MSG_PEEK);
    if (heard == Heard::kNoRoom) return false;
    if (heard == Heard::kNothing) return true;
    const bool last = child && is_among_last(child.get(), kRoom);
    if (child) add(std::move(child));
    drop_word(news_);
    if (last) return false;
  }
}

// gobd reads no more of what only this process has, and a program that forks waits until somebody
// has, or for a page.
bool LostPrograms::answer(Gobd gobd) {
  all_known_ = hear_news();
  const auto now = Clock::now();
  const bool again = now >= again_at_;
  if (again) again_at_ = now + kAgain;
  for (std::size_t i = 0; i < programs_.size(); ++i) {  // children come behind their parents
    const int uffd = programs_[i].uffd.get();
    if (again)
      for (const std::uint64_t at : std::exchange(programs_[i].later, {})) uffd_wake(uffd, at, 1);
    if (gobd != Gobd::kGone && now < programs_[i].gobds) continue;
    uffd_msg message{};
    std::int64_t got = 0;
    while (all_known_ && (got = uffd_read(uffd, {&message, 1})) == 1) {
      if (message.event == UFFD_EVENT_FORK) {
        add(UniqueFd(static_cast<int>(message.arg.fork.ufd)));
        all_known_ = !is_among_last(programs_.back().uffd.get(), kRoom);
      }
      if (message.event != UFFD_EVENT_PAGEFAULT || refuse_fault(uffd, message, gobd)) continue;
      programs_[i].later.push_back(message.arg.pagefault.address & ~(kPageSize - 1));
      programs_[i].gobds = now + kGobds;
    }
    if (got == -EMFILE || got == -ENFILE) all_known_ = false;
  }
  return all_known_;
}

void LostPrograms::await(int over, int gobd, std::chrono::milliseconds limit) {
  const auto now = Clock::now();
  std::vector<pollfd> waiting{{over, POLLIN, 0}, {gobd, POLLRDHUP, 0}};
  bool again = !all_known_;
  for (const Program& program : programs_) {
    const bool waits = !program.later.empty() || now < program.gobds;
    again = again || waits;
    if (all_known_ && !waits) waiting.push_back({program.uffd.get(), POLLIN, 0});
  }
  if (all_known_ && !has_hung_up(news_)) waiting.push_back({news_, POLLIN, 0});
  if (again && (limit < limit.zero() || limit > kAgain)) limit = kAgain;
  ::poll(waiting.data(), waiting.size(), static_cast<int>(limit.count()));
}

void LostPrograms::wake(std::uint64_t address, std::uint64_t bytes) {
  for (const Program& program : programs_)
    uffd_wake(program.uffd.get(), address, static_cast<unsigned>(bytes / kPageSize));
}

bool LostPrograms::any_left() {
  std::erase_if(programs_,
                [](const Program& program) { return !has_memory(program.uffd.get(), kSomewhere); });
  return !programs_.empty();
}

}  // namespace gob::migration
