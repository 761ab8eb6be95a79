// What is checked in every state and at the end, and the set of states.
#include <algorithm>
#include <cstring>
#include <utility>

#include "tests/model/explorer.h"

namespace gob::model {
namespace {

NodeId node_id(unsigned i) { return NodeId{static_cast<std::uint16_t>(i)}; }

}  // namespace

// Invariants 1, 2 and 6 over the rights that programs have.
void Explorer::check(const State& state) {
  const PageMask written = state.truth & 0xff;
  const PageMask may_be_lost = (state.truth >> 8) & 0xff;
  PageMask writable = 0;
  PageMask copies = 0;
  PageMask several = 0;
  for (unsigned i = 0; i < n_; ++i) {
    if (state.nodes[i] == kDown) continue;
    const NodeFacts& facts = parts_.facts(state.nodes[i]);
    const PageMask excused = may_be_stale(state, i) | rolled_back(state);
    const PageMask wrong = (written & facts.not_last) | (~written & facts.not_zero);
    if ((wrong & ~excused) != 0)
      fail("programs of node " + std::to_string(i) + " can read old bytes");
    writable |= facts.writable;
    // A node that is left behind may read beside the others' writer, but not write.
    const bool left_behind = parts_.oracle(state.oracle).cut_off(node_id(i));
    const PageMask counts = left_behind ? facts.writable : facts.present;
    several |= copies & counts;
    copies |= counts;
  }
  if ((writable & several) != 0) fail("a page is writable, but not the only copy");
  if ((written & ~may_be_lost & ~existing(state)) != 0)
    fail("the bytes of a page are nowhere, and no node died with them");
}

bool Explorer::is_quiet(const State& state) const {
  const sim::ViewOracle& oracle = parts_.oracle(state.oracle);
  if (!oracle.settled()) return false;
  for (unsigned i = 0; i < n_; ++i) {
    if (state.nodes[i] == kDown) continue;
    if (oracle.cut_off(node_id(i))) return false;  // it will be fenced
    const NodeFacts& facts = parts_.facts(state.nodes[i]);
    if (facts.io != 0 || facts.held != 0 || facts.woken != 0) return false;
    for (unsigned from = 0; from < n_; ++from)
      if (state.links[from * n_ + i] != 0 && !oracle.is_cut(node_id(from), node_id(i)))
        return false;
  }
  return true;
}

// Nothing moves: nobody may wait, and the directory must agree with the nodes (invariants 4, 5).
void Explorer::check_rest(const State& state) {
  const sim::ViewOracle& oracle = parts_.oracle(state.oracle);
  const View& view = oracle.view(oracle.views() - 1);
  const auto complain = [&](const std::string& text) {
    if (!report_.violation.empty()) return;
    fail("at rest: " + text);
    write_counterexample(current_, nullptr);
  };
  for (unsigned i = 0; i < n_; ++i) {
    if (state.nodes[i] == kDown) continue;
    if (parts_.facts(state.nodes[i]).blocked != 0)
      complain("a program of node " + std::to_string(i) + " waits for ever");
    if (oracle.life(node_id(i)) == sim::ViewOracle::Life::kUp &&
        !parts_.node(state.nodes[i]).core().at_rest())
      complain("node " + std::to_string(i) + " says it is not");
    if (parts_.facts(state.nodes[i]).syncing)
      complain("a sync at node " + std::to_string(i) + " never ends");
  }
  for (unsigned page = 0; page < config_.geometry.pages(); ++page) {
    const PageId id = config_.geometry.page(page);
    const NodeId manager = view.manager(id.container, id.page.value() / kStripePages);
    NodeSet holders;
    for (unsigned i = 0; i < n_; ++i) {
      if (state.nodes[i] == kDown) continue;
      const Core& core = parts_.node(state.nodes[i]).core();
      if (core.local(id).state != PageState::kInvalid) holders.add(node_id(i));
      if (core.entry(id) && node_id(i) != manager)
        complain("an entry at a node that is no manager");
    }
    const auto entry = parts_.node(state.nodes[manager.value()]).core().entry(id);
    const bool written = (state.truth >> page) & 1;
    const bool may_be_lost = (state.truth >> (8 + page)) & 1;
    if (!entry) {
      if (!holders.empty()) complain("a page is held, but its manager does not know it");
      const bool in_file = home_of(page) != kNoNode && disk_has_last(state, page);
      if (written && !may_be_lost && !in_file) complain("a page is forgotten");
      if (writer_of(state, page) != 0 && !in_file && !both_died(view, page))
        complain("a page that others than the home wrote is taken for what the file has");
    } else if (entry->lost != 0) {
      if (!holders.empty()) complain("a manager says lost of a page that is held");
    } else if (entry->copyset() != holders || !holders.has(entry->owner())) {
      complain("the directory does not agree with the nodes");
    } else if (home_of(page) != kNoNode && entry->dirty == 0 && written && !may_be_lost &&
               !disk_has_last(state, page)) {
      complain("a manager says that the file has a page, but the file is older");
    }
  }
}

// Manager and home died at once, or were one node: nobody is answered with what the file has.
bool Explorer::both_died(const View& view, unsigned page) const {
  if (home_of(page) == kNoNode) return false;
  const PageId id = config_.geometry.page(page);
  return std::ranges::any_of(view.losses, [&](const Loss& loss) {
    const NodeId manager =
        manager_among(loss.members, id.container, id.page.value() / kStripePages);
    const bool home_survived = std::ranges::count(loss.members, home_of(page)) != 0 &&
                               std::ranges::count(loss.dead, home_of(page)) == 0;
    return std::ranges::count(loss.dead, manager) != 0 && !home_survived;
  });
}

// From every state, some state where nobody waits can be reached by the mere passing of time.
void Explorer::check_liveness() {
  const auto count = static_cast<std::uint32_t>(origins_.size());
  // Edges by target.
  std::vector<std::uint32_t> first(count + 1);
  for (const std::uint32_t to : edge_to_) ++first[to + 1];
  for (std::uint32_t id = 0; id < count; ++id) first[id + 1] += first[id];
  std::vector<std::uint32_t> place(first.begin(), first.end() - 1);
  std::vector<std::uint32_t> sources(edge_to_.size());
  for (std::size_t edge = 0; edge < edge_to_.size(); ++edge)
    sources[place[edge_to_[edge]]++] = edge_from_[edge];

  std::vector<bool> ends(count);
  std::vector<std::uint32_t> todo;
  for (std::uint32_t id = 0; id < count; ++id) {
    const State state = load(id);
    bool waits = false;
    for (unsigned i = 0; i < n_; ++i) {
      if (state.nodes[i] == kDown) continue;
      const NodeFacts& facts = parts_.facts(state.nodes[i]);
      waits = waits || facts.blocked != 0 || facts.woken != 0 || facts.syncing;
    }
    if (waits) continue;
    ends[id] = true;
    todo.push_back(id);
  }
  while (!todo.empty()) {
    const std::uint32_t id = todo.back();
    todo.pop_back();
    for (std::uint32_t i = first[id]; i < first[id + 1]; ++i) {
      if (ends[sources[i]]) continue;
      ends[sources[i]] = true;
      todo.push_back(sources[i]);
    }
  }
  for (std::uint32_t id = 0; id < count; ++id) {
    if (ends[id]) continue;
    fail("from here on, some program or a sync waits whatever happens");
    return write_counterexample(id, nullptr);
  }
}

void Explorer::fail(std::string text) {
  if (report_.violation.empty()) report_.violation = std::move(text);
}

void Explorer::write_counterexample(std::uint32_t id, const sim::WorldEvent* last) {
  sim::Scenario& scenario = report_.counterexample;
  if (!scenario.events.empty()) return;
  scenario.config = config_;
  scenario.start = true;
  scenario.settle = last == nullptr;
  if (last != nullptr) scenario.events.push_back(*last);
  for (; id != 0; id = origins_[id].parent)
    scenario.events.push_back(unpack_event(origins_[id].event));
  std::reverse(scenario.events.begin(), scenario.events.end());
}

std::uint32_t Explorer::pack_event(const sim::WorldEvent& event, PageMask pages, PageMask ahead) {
  return static_cast<std::uint32_t>(event.kind) | event.node.value() << 5u |
         event.from.value() << 7u | event.thread << 9u | std::uint32_t{event.ok} << 11u |
         event.index << 12u | pages << 20u | ahead << 26u;
}

sim::WorldEvent Explorer::unpack_event(std::uint32_t packed) const {
  sim::WorldEvent event;
  event.kind = static_cast<sim::WorldEvent::Kind>(packed & 0x1f);
  event.node = node_id((packed >> 5) & 3);
  event.from = node_id((packed >> 7) & 3);
  event.thread = (packed >> 9) & 3;
  event.ok = ((packed >> 11) & 1) != 0;
  event.index = (packed >> 12) & 0xff;
  for (unsigned page = 0; page < config_.geometry.pages(); ++page) {
    const PageSet one = parts_.set_of(page);
    if ((packed >> (20 + page)) & 1) event.pages = one.with(event.pages.mask | one.mask);
    if ((packed >> (26 + page)) & 1) event.ahead |= one.mask;
  }
  return event;
}

void Explorer::pack(const State& state, std::uint32_t* words) const {
  words = std::copy_n(state.nodes, n_, words);
  words = std::copy_n(state.links, n_ * n_, words);
  *words++ = state.oracle;
  *words++ = state.accesses;
  for (const std::uint64_t word : {state.luck, state.truth}) {
    *words++ = static_cast<std::uint32_t>(word);
    *words++ = static_cast<std::uint32_t>(word >> 32);
  }
  *words++ = state.sync;
}

Explorer::State Explorer::load(std::uint32_t id) const {
  const std::uint32_t* words = chunks_[id / kChunk].data() + id % kChunk * words_;
  State state;
  std::copy_n(words, n_, state.nodes);
  std::copy_n(words + n_, n_ * n_, state.links);
  words += n_ + n_ * n_;
  state.oracle = words[0];
  state.accesses = words[1];
  state.luck = words[2] | std::uint64_t{words[3]} << 32;
  state.truth = words[4] | std::uint64_t{words[5]} << 32;
  state.sync = words[6];
  return state;
}

std::uint32_t Explorer::intern(const State& state, bool& is_new) {
  constexpr std::uint32_t kEmpty = ~0u;
  std::uint32_t words[kMaxNodes + kMaxNodes * kMaxNodes + 7];
  pack(state, words);
  const auto hash_of = [&](const std::uint32_t* w) {
    sim::Hash hash;
    for (unsigned i = 0; i < words_; ++i) hash.add(w[i]);
    return hash.value();
  };
  const auto words_of = [&](std::uint32_t id) {
    return chunks_[id / kChunk].data() + id % kChunk * words_;
  };
  const auto count = static_cast<std::uint32_t>(origins_.size());
  if ((std::size_t{count} + 1) * 2 > slots_.size()) {
    slots_.assign(slots_.empty() ? std::size_t{1} << 16 : slots_.size() * 2, kEmpty);
    for (std::uint32_t id = 0; id < count; ++id) {
      std::size_t i = hash_of(words_of(id)) & (slots_.size() - 1);
      while (slots_[i] != kEmpty) i = (i + 1) & (slots_.size() - 1);
      slots_[i] = id;
    }
  }
  std::size_t i = hash_of(words) & (slots_.size() - 1);
  for (; slots_[i] != kEmpty; i = (i + 1) & (slots_.size() - 1)) {
    if (std::memcmp(words_of(slots_[i]), words, words_ * sizeof(words[0])) == 0) {
      is_new = false;
      return slots_[i];
    }
  }
  slots_[i] = count;
  if (count % kChunk == 0) chunks_.emplace_back(kChunk * words_);
  std::copy_n(words, words_, chunks_.back().data() + count % kChunk * words_);
  is_new = true;
  return count;
}

}  // namespace gob::model
