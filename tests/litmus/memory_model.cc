#include "tests/litmus/memory_model.h"

#include <algorithm>
#include <compare>
#include <utility>

namespace gob::litmus {
namespace {

enum class Right : std::uint8_t { kNone, kRead, kWrite };

struct State {
  struct Thread {
    std::uint8_t next = 0;                                      // access to be done
    std::vector<std::pair<std::uint8_t, std::uint8_t>> buffer;  // variable, value; oldest first
    auto operator<=>(const Thread&) const = default;
  };
  std::vector<Thread> threads;
  std::vector<std::uint8_t> memory;
  std::vector<std::uint8_t> registers;
  std::vector<std::vector<Right>> rights;  // of node, to page
  auto operator<=>(const State&) const = default;
};

class Exploration {
 public:
  Exploration(const Program& program, const std::vector<unsigned>& node_of,
              const std::vector<unsigned>& page_of)
      : program_(program), node_of_(node_of), page_of_(page_of) {
    State start;
    start.threads.resize(program.threads.size());
    start.memory.resize(program.variables);
    start.registers.resize(program.registers);
    const unsigned nodes = *std::ranges::max_element(node_of) + 1;
    const unsigned pages = *std::ranges::max_element(page_of) + 1;
    start.rights.assign(nodes, std::vector<Right>(pages, Right::kNone));
    visit(std::move(start));
    while (!todo_.empty()) {
      const State state = std::move(todo_.back());
      todo_.pop_back();
      expand(state);
    }
  }

  std::set<OutcomeCode> outcomes;

 private:
  void visit(State state) {
    if (seen_.insert(state).second) todo_.push_back(std::move(state));
  }

  void expand(const State& state) {
    bool ended = true;
    for (std::size_t t = 0; t < state.threads.size(); ++t) {
      if (!state.threads[t].buffer.empty()) {
        ended = false;
        State next = state;
        const auto [variable, value] = next.threads[t].buffer.front();
        next.threads[t].buffer.erase(next.threads[t].buffer.begin());
        next.memory[variable] = value;
        visit(std::move(next));
      }
      if (state.threads[t].next < program_.threads[t].size()) {
        ended = false;
        State next = state;
        if (advance(next, t)) visit(std::move(next));
      }
    }
    if (ended) outcomes.insert(outcome_of(state));
  }

  // The next access of thread t. False: it has to wait for store buffers.
  bool advance(State& state, std::size_t t) const {
    State::Thread& thread = state.threads[t];
    const Access& access = program_.threads[t][thread.next];
    switch (access.kind) {
      case Access::Kind::kFence:
        if (!thread.buffer.empty()) return false;
        break;
      case Access::Kind::kStore:
        if (!acquire(state, t, access.variable, Right::kWrite)) return false;
        thread.buffer.emplace_back(access.variable, access.value);
        break;
      case Access::Kind::kLoad: {
        if (!acquire(state, t, access.variable, Right::kRead)) return false;
        std::uint8_t value = state.memory[access.variable];
        for (const auto& [variable, stored] : thread.buffer)
          if (variable == access.variable) value = stored;
        state.registers[access.value] = value;
        break;
      }
    }
    ++thread.next;
    return true;
  }

  bool acquire(State& state, std::size_t t, unsigned variable, Right wanted) const {
    const unsigned page = page_of_[variable];
    const unsigned node = node_of_[t];
    if (state.rights[node][page] >= wanted) return true;
    const Right left = wanted == Right::kWrite ? Right::kNone : Right::kRead;
    for (unsigned other = 0; other < state.rights.size(); ++other) {
      if (other == node || state.rights[other][page] <= left) continue;
      for (std::size_t u = 0; u < state.threads.size(); ++u)
        if (node_of_[u] == other && !state.threads[u].buffer.empty()) return false;
      state.rights[other][page] = left;
    }
    state.rights[node][page] = wanted;
    return true;
  }

  [[nodiscard]] OutcomeCode outcome_of(const State& state) const {
    OutcomeCode code = 0;
    unsigned place = 0;
    for (const std::uint8_t value : state.registers) code |= OutcomeCode{value} << (2 * place++);
    for (const unsigned v : program_.watched())
      code |= OutcomeCode{state.memory[v]} << (2 * place++);
    return code;
  }

  const Program& program_;
  const std::vector<unsigned>& node_of_;
  const std::vector<unsigned>& page_of_;
  std::set<State> seen_;
  std::vector<State> todo_;
};

}  // namespace

std::set<OutcomeCode> allowed_outcomes(const Program& program, const std::vector<unsigned>& node_of,
                                       const std::vector<unsigned>& page_of) {
  return Exploration(program, node_of, page_of).outcomes;
}

std::set<OutcomeCode> sequential_outcomes(const Program& program) {
  // On one node nothing but the store buffers keeps accesses from happening one at a time; a fence
  // after each access, the last too, empties them.
  const Program fenced = program.fenced();
  return allowed_outcomes(fenced, std::vector<unsigned>(program.threads.size(), 0),
                          std::vector<unsigned>(program.variables, 0));
}

}  // namespace gob::litmus
