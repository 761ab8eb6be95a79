// The constraint graph of a history: program order, reads-from, the order of writes to a page, and
// from a read to the write that overwrote what it saw. The history is sequentially consistent, for
// that order of writes, if and only if the graph has no cycle.
#include "tests/sim/history.h"

#include <algorithm>
#include <map>
#include <utility>

namespace gob::sim {
namespace {

constexpr std::size_t kNoAccess = ~std::size_t{0};

std::string to_text(const HistoryAccess& access) {
  return "node " + std::to_string(access.node.value()) + " thread " +
         std::to_string(access.thread) + (access.write ? " writes #" : " reads #") +
         std::to_string(access.value) + (access.write ? " to" : " from") + " page " +
         std::to_string(access.page);
}

// Edges by source: each access must come before its successors.
using Graph = std::vector<std::vector<std::size_t>>;

// Takes away what nothing must come before, until nothing is left or only cycles are.
std::vector<std::size_t> sources_left(const Graph& graph) {
  std::vector<std::size_t> before(graph.size());
  for (const auto& successors : graph)
    for (const std::size_t to : successors) ++before[to];
  std::vector<std::size_t> ready;
  for (std::size_t i = 0; i < graph.size(); ++i)
    if (before[i] == 0) ready.push_back(i);
  while (!ready.empty()) {
    const std::size_t at = ready.back();
    ready.pop_back();
    for (const std::size_t to : graph[at])
      if (--before[to] == 0) ready.push_back(to);
  }
  return before;
}

// One cycle among the accesses that are left: walking backwards cannot end.
std::vector<std::size_t> cycle_in(const Graph& graph, const std::vector<std::size_t>& left) {
  std::vector<std::size_t> previous(graph.size(), kNoAccess);
  for (std::size_t from = 0; from < graph.size(); ++from) {
    if (left[from] == 0) continue;
    for (const std::size_t to : graph[from]) previous[to] = from;
  }
  std::size_t at = 0;
  while (left[at] == 0) ++at;
  std::vector<bool> seen(graph.size());
  while (!seen[at]) {
    seen[at] = true;
    at = previous[at];
  }
  std::vector<std::size_t> cycle{at};
  for (std::size_t i = previous[at]; i != at; i = previous[i]) cycle.push_back(i);
  std::reverse(cycle.begin(), cycle.end());
  return cycle;
}

}  // namespace

std::string History::check(const std::function<bool(unsigned page)>& ignored) const {
  struct Write {
    std::size_t access = kNoAccess;
    std::size_t next = kNoAccess;  // the write to the page after it
  };
  std::map<std::pair<unsigned, Value>, Write> writes;  // by page and value; 0: before the first
  std::map<unsigned, Value> latest;                    // of each page
  for (std::size_t i = 0; i < accesses_.size(); ++i) {
    const HistoryAccess& access = accesses_[i];
    if (!access.write || ignored(access.page)) continue;
    Value& before = latest[access.page];
    writes[{access.page, before}].next = i;
    before = access.value;
    if (!writes.try_emplace({access.page, access.value}, Write{i, kNoAccess}).second)
      return to_text(access) + ": the page was written that value before";
  }

  Graph graph(accesses_.size());
  std::map<std::pair<unsigned, unsigned>, std::size_t> last_of;  // by node and thread
  for (std::size_t i = 0; i < accesses_.size(); ++i) {
    const HistoryAccess& access = accesses_[i];
    if (ignored(access.page)) continue;
    const auto [last, first] = last_of.try_emplace({access.node.value(), access.thread}, i);
    if (!first) graph[std::exchange(last->second, i)].push_back(i);
    const auto seen = writes.find({access.page, access.value});
    if (access.write) {
      if (seen->second.next != kNoAccess) graph[i].push_back(seen->second.next);
      continue;
    }
    if (seen == writes.end()) {
      if (access.value == 0) continue;  // of a page that nobody ever wrote
      return to_text(access) + ", which nobody wrote";
    }
    if (seen->second.access != kNoAccess) graph[seen->second.access].push_back(i);
    if (seen->second.next != kNoAccess) graph[i].push_back(seen->second.next);
  }

  const std::vector<std::size_t> left = sources_left(graph);
  if (std::all_of(left.begin(), left.end(), [](std::size_t count) { return count == 0; }))
    return {};
  std::string text =
      "not sequentially consistent, each of these must come before the next, the "
      "last before the first";
  for (const std::size_t i : cycle_in(graph, left)) text += "; " + to_text(accesses_[i]);
  return text;
}

}  // namespace gob::sim
