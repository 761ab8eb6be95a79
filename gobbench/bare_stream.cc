#include "gobbench/bare_stream.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "gobbench/page_pattern.h"
#include "libgob/container/frame_pool.h"
#include "libgob/linker/bare_program.h"
#include "libgob/linker/uffd_calls.h"
#include "libgob/linker/uffd_client.h"

namespace gob::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kPatience{30};

bool check_page(const std::byte* page, std::uint64_t index) {
  const auto* const words = reinterpret_cast<const std::uint64_t*>(page);
  std::uint64_t sum = 0;
  for (std::size_t w = 0; w < kPageWords; ++w) sum += words[w];
  return sum == pattern_sum(index);
}

// Frames full of the pattern, mapped writable in this process under a userfaultfd.
class FilledPages {
 public:
  static Result<FilledPages> create(std::uint64_t pages) {
    Result<FramePool> pool = FramePool::create("bare-stream", pages);
    if (!pool) return pool.error();
    const Result<int> memory = pool->fd();
    if (!memory) return memory.error();
    FilledPages filled(std::move(*pool), *memory);
    if (filled.start_ == MAP_FAILED) return system_error("bare stream: cannot map memory");
    auto* const words = static_cast<std::uint64_t*>(filled.start_);
    for (std::size_t page = 0; page < pages; ++page)
      for (std::size_t w = 0; w < kPageWords; ++w) words[page * kPageWords + w] = pattern(page, w);
    Result<UniqueFd> uffd = create_uffd(-1);
    if (!uffd) return uffd.error();
    if (Status s = register_mapping(uffd->get(), filled.start_, pages * kPageSize); !s)
      return s.error();
    filled.uffd_ = std::move(*uffd);
    return filled;
  }
  FilledPages(FilledPages&& other) noexcept
      : pool_(std::move(other.pool_)),
        start_(std::exchange(other.start_, MAP_FAILED)),
        uffd_(std::move(other.uffd_)) {}
  FilledPages& operator=(FilledPages&&) = delete;
  ~FilledPages() {
    if (start_ != MAP_FAILED) ::munmap(start_, pool_.pages() * kPageSize);
  }

  // As a holder that gives a copy away.
  Status copy_out(PageIndex first, unsigned count, std::byte* out) const {
    const auto address = reinterpret_cast<std::uintptr_t>(start_) + first.value() * kPageSize;
    const UffdResult result = uffd_protect(uffd_.get(), address, count);
    if (result.outcome != UffdOutcome::kDone)
      return make_error(ErrorCode::kSystem, "bare stream: cannot write-protect pages",
                        result.errno_value);
    return pool_.load(first, count, out);
  }

 private:
  FilledPages(FramePool pool, int memory)
      : pool_(std::move(pool)),
        start_(::mmap(nullptr, pool_.pages() * kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED,
                      memory, 0)) {}

  FramePool pool_;
  void* start_;
  UniqueFd uffd_;
};

// Calls f(first, count) for each stripe.
template <class F>
Status for_each_stripe(std::uint64_t pages, F&& f) {
  for (std::uint64_t page = 0; page < pages; page += kStripePages) {
    const auto count = static_cast<unsigned>(std::min<std::uint64_t>(kStripePages, pages - page));
    if (Status s = f(PageIndex{page}, count); !s) return s;
  }
  return {};
}

}  // namespace

Result<double> bare_stream(const TcpPlaces& places, std::uint64_t bytes) {
  const std::uint64_t pages = bytes / kPageSize;
  Result<BareProgram> reader = BareProgram::start("bare stream", pages, check_page);
  if (!reader) return reader.error();
  const Result<FilledPages> holder = FilledPages::create(pages);
  if (!holder) return holder.error();

  double seconds = 0;
  const auto server = [&](int fd) -> Status {
    std::vector<std::byte> stripe(kStripePages * kPageSize);
    return for_each_stripe(pages, [&](PageIndex first, unsigned count) -> Status {
      if (Status s = holder->copy_out(first, count, stripe.data()); !s) return s;
      return send_all(fd, stripe.data(), count * kPageSize);
    });
  };
  const auto client = [&](int fd) -> Status {
    std::vector<std::byte> stripe(kStripePages * kPageSize);
    const Mapping& mapping = reader->mapping();
    const auto begin = Clock::now();
    const Status received = for_each_stripe(pages, [&](PageIndex first, unsigned count) -> Status {
      if (Status s = receive_all(fd, stripe.data(), count * kPageSize); !s) return s;
      const UffdResult copied =
          uffd_copy(mapping.uffd(), mapping.address_of(first), count, stripe.data(), true);
      if (copied.outcome == UffdOutcome::kDone) return {};
      return make_error(ErrorCode::kSystem, "bare stream: cannot map pages", copied.errno_value);
    });
    if (!received) return received;
    const auto read = reader->finish(kPatience);
    seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    return read ? Status() : Status(read.error());
  };
  if (Status s = run_tcp_pair(places, server, client); !s) return s.error();
  return static_cast<double>(bytes) / seconds;
}

}  // namespace gob::bench
