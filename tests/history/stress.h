// Stress: programs on real nodes that read and write unique values, log every access with its
// times, and go on when a page is refused. The log is ordinary memory shared with the test. Main
// thread of the test; forks.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/history/access_check.h"
#include "tests/history/findings.h"
#include "tests/history/page_check.h"
#include "tests/system/nodes.h"

namespace gob::history {

struct StressPlan {
  unsigned nodes = 3;
  unsigned threads = 2;  // of the program on each node
  unsigned pages = 96;
  unsigned words = 4;          // locations in each page
  unsigned accesses = 20'000;  // of each thread
  std::uint64_t seed = 1;
  // Kill this node's daemon when half of all accesses are made.
  std::optional<unsigned> kill_node;
};

struct StressLog {
  std::vector<ThreadLog> threads;  // thread t runs on node t / plan.threads
  std::uint64_t refused = 0;       // accesses that ended in SIGBUS
  std::string failure;             // of a program; empty when all went well
};

// Runs it to its end; every wait is bounded.
[[nodiscard]] StressLog run_stress(Nodes& nodes, const StressPlan& plan);

// Both halves of a check, and that they fit together: whenever a program accessed a page, its node
// had the right to. The nodes served nothing but this stress.
struct HistoryCheck {
  PageCheck pages;
  Findings accesses;
  Findings rights;
  [[nodiscard]] bool clean() const {
    return pages.findings.empty() && accesses.empty() && rights.empty();
  }
  [[nodiscard]] std::string text() const {
    return pages.findings.text() + accesses.text() + rights.text();
  }
};
[[nodiscard]] HistoryCheck check_history(const StressPlan& plan, const StressLog& log,
                                         const std::vector<NodeTrace>& traces);

}  // namespace gob::history
