// Which programs run where, and what must not come out.
#include <algorithm>
#include <numeric>

#include "tests/litmus/experiment.h"
#include "tests/litmus/memory_model.h"

namespace gob::litmus {
namespace {

std::vector<unsigned> pages_of(const Program& program, Layout layout) {
  std::vector<unsigned> pages(program.variables, 0);
  if (layout != Layout::kOnePage) std::iota(pages.begin(), pages.end(), 0u);
  return pages;
}

bool weak_without_fences(const Program& program) {
  const std::vector<unsigned> one_node(program.threads.size(), 0);
  return allowed_outcomes(program, one_node, pages_of(program, Layout::kPages)) !=
         sequential_outcomes(program);
}

}  // namespace

bool Setup::on_one_node() const {
  return std::ranges::all_of(node_of, [&](unsigned node) { return node == node_of.front(); });
}

bool Setup::is_control() const {
  return on_one_node() && !fenced && allowed() != sequential_outcomes(program);
}

std::set<OutcomeCode> Setup::allowed() const {
  return allowed_outcomes(fenced ? program.fenced() : program, node_of, pages_of(program, layout));
}

Verdict judge(const Setup& setup, const Tally& tally) {
  const std::set<OutcomeCode> allowed = setup.allowed();
  const std::set<OutcomeCode> sequential = sequential_outcomes(setup.program);
  Verdict verdict;
  verdict.forbidden = tally.alien;
  for (const auto& [code, count] : tally.counts) {
    if (!allowed.contains(code))
      verdict.forbidden += count;
    else if (!sequential.contains(code))
      verdict.weak += count;
  }
  return verdict;
}

std::vector<Setup> all_setups() {
  std::vector<Setup> setups;
  for (const Program& program : catalogue()) {
    const auto threads = static_cast<unsigned>(program.threads.size());
    std::vector<unsigned> apart(threads);
    std::iota(apart.begin(), apart.end(), 0u);
    const auto add = [&](std::vector<unsigned> node_of, Layout layout, bool fenced,
                         unsigned nodes) {
      setups.push_back({program, std::move(node_of), layout, fenced, nodes});
    };
    // Each thread on a node of its own.
    add(apart, Layout::kOnePage, false, threads);
    if (program.variables > 1) {
      add(apart, Layout::kPages, false, threads);
      add(apart, Layout::kContainers, false, threads);
    }
    // Nodes besides, which manage some of the pages.
    if (threads < 4)
      add(apart, program.variables > 1 ? Layout::kPages : Layout::kOnePage, false, 4);
    if (threads == 2 && weak_without_fences(program)) {
      add(apart, Layout::kPages, true, 2);
      add({0, 0}, Layout::kPages, false, 2);  // the control
      add({0, 0}, Layout::kPages, true, 2);
    }
    // Threads that share a node with some of the others.
    if (threads == 3)
      for (const auto& node_of :
           std::vector<std::vector<unsigned>>{{0, 0, 1}, {0, 1, 1}, {0, 1, 0}})
        add(node_of, Layout::kPages, false, 2);
    if (threads == 4)
      for (const auto& node_of : std::vector<std::vector<unsigned>>{
               {0, 0, 1, 1}, {0, 1, 0, 1}, {0, 1, 2, 2}, {0, 1, 2, 0}})
        add(node_of, Layout::kPages, false, *std::ranges::max_element(node_of) + 1);
  }
  return setups;
}

}  // namespace gob::litmus
