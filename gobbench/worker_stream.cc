// fill and stream: a whole container written, and read page after page, every word of it.
#include <chrono>
#include <stdexcept>

#include "gobbench/page_pattern.h"
#include "gobbench/worker_main.h"

namespace gob::bench {

Json fill_pages(WorkerState& state, const Json& request) {
  const auto words = state.mapped<std::uint64_t>(request);
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = pattern(i / kPageWords, i % kPageWords);
  return Json::object();
}

// order: "random" or "sequential". The reply's ns covers all pages.
Json stream_pages(WorkerState& state, const Json& request) {
  const auto words = state.mapped<const std::uint64_t>(request);
  const auto order =
      page_order(words.size() / kPageWords, request.at("order") == "random", request.at("seed"));
  const auto begin = std::chrono::steady_clock::now();
  for (const std::uint32_t page : order) {
    const std::uint64_t* word = &words[page * kPageWords];
    std::uint64_t sum = 0;
    for (std::size_t w = 0; w < kPageWords; ++w) sum += word[w];
    if (sum != pattern_sum(page))
      throw std::runtime_error("page " + std::to_string(page) + " of " +
                               request.at("container").get<std::string>() + " holds wrong bytes");
  }
  const std::chrono::nanoseconds took = std::chrono::steady_clock::now() - begin;
  return {{"ns", took.count()}};
}

}  // namespace gob::bench
