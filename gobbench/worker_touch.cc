// touch: one access to each page of a container, each timed in the program itself.
#include <chrono>
#include <stdexcept>

#include "gobbench/page_pattern.h"
#include "gobbench/worker_main.h"

namespace gob::bench {
namespace {

using Clock = std::chrono::steady_clock;

std::uint64_t since(Clock::time_point begin) {
  return static_cast<std::uint64_t>(std::chrono::nanoseconds(Clock::now() - begin).count());
}

}  // namespace

// access: "read" or "write"; order: "random" or "sequential"; written: whether some node wrote the
// pattern before, so that a read must find it (and must find zeros if not).
Json touch_pages(WorkerState& state, const Json& request) {
  const auto words = state.mapped<volatile std::uint64_t>(request);
  const bool writes = request.at("access") == "write";
  const bool written = request.at("written");
  const auto order =
      page_order(words.size() / kPageWords, request.at("order") == "random", request.at("seed"));
  std::vector<std::uint64_t> samples;
  samples.reserve(order.size());
  for (const std::uint32_t page : order) {
    volatile std::uint64_t& word = words[page * kPageWords];
    const std::uint64_t expected = written || writes ? pattern(page, 0) : 0;
    std::uint64_t found = expected;
    const auto begin = Clock::now();
    if (writes)
      word = expected;
    else
      found = word;
    samples.push_back(since(begin));
    if (found != expected)
      throw std::runtime_error("page " + std::to_string(page) + " of " +
                               request.at("container").get<std::string>() + " holds " +
                               std::to_string(found) + " instead of " + std::to_string(expected));
  }
  return {{"ns", samples}};
}

}  // namespace gob::bench
