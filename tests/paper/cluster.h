// A scripted cluster for the paper's tests: programs access pages one after the other, everything
// under way ends in between, and what was said and done is counted. One thread owns it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/sim/world.h"

namespace gob::paper {

class Cluster {
 public:
  // `files` 1: the container is a file whose home is node 0.
  explicit Cluster(unsigned nodes, unsigned pages, std::vector<std::uint64_t> budgets = {},
                   unsigned files = 0)
      : world_(config(nodes, pages, std::move(budgets), files)) {
    world_.start();
    check();
  }

  // One access, until nothing moves. Returns the value read or written, or nothing if it failed.
  std::optional<sim::Value> read(unsigned node, unsigned page) {
    return access(sim::WorldEvent::Kind::kRead, node, page);
  }
  std::optional<sim::Value> write(unsigned node, unsigned page) {
    return access(sim::WorldEvent::Kind::kWrite, node, page);
  }
  // The page replacement of a node asks for the page to leave its memory.
  void flush(unsigned node, unsigned page) {
    apply({.kind = sim::WorldEvent::Kind::kFlush, .node = id(node), .pages = one(page)});
    settle();
  }
  // The home of a file asks for a page to be in the file.
  void write_back(unsigned page) {
    apply({.kind = sim::WorldEvent::Kind::kWriteBack, .node = id(0), .pages = one(page)});
    settle();
  }
  // What the file has, on the disk of its home.
  [[nodiscard]] sim::Value in_file(unsigned page) const {
    return world_.node(id(0)).slot(page).value;
  }
  void remove_container() {
    for (unsigned node = 0; node < world_.config().geometry.nodes; ++node)
      apply({.kind = sim::WorldEvent::Kind::kRemove, .node = id(node), .pages = one(0)});
    settle();
  }

  // Step by step, for what happens in between.
  void apply(const sim::WorldEvent& event) {
    world_.apply(event);
    const sim::Effects& fx = world_.effects();
    for (const sim::Effects::Sent& sent : fx.sent) {
      said_.push_back(sent.packet.message);
      bytes_sent_ += sent.packet.bytes.size();
    }
    swaps_ += fx.io_started;
    for (const sim::Effects::Done& done : fx.done) last_done_ = done;
    failed_ = failed_ || !fx.refused.empty();
    check();
  }
  void settle() {
    while (const auto move = sim::next_move(world_)) {
      apply(*move);
      if (::testing::Test::HasFatalFailure()) return;
    }
    EXPECT_EQ(world_.check_rest(), "");
  }

  [[nodiscard]] const sim::World& world() const { return world_; }
  [[nodiscard]] bool holds(unsigned node, unsigned page) const {
    return world_.node(id(node)).frame(page).present;
  }
  [[nodiscard]] Access rights(unsigned node, unsigned page) const {
    return world_.node(id(node)).frame(page).rights;
  }
  [[nodiscard]] bool swapped(unsigned node, unsigned page) const {
    return world_.node(id(node)).slot(page).kept;
  }
  [[nodiscard]] unsigned frames(unsigned node) const {
    unsigned count = 0;
    for (unsigned page = 0; page < world_.config().geometry.pages(); ++page)
      count += holds(node, page) ? 1 : 0;
    return count;
  }
  // Since the last forget(): messages of a type, page contents sent, I/O linker calls.
  [[nodiscard]] std::size_t said(MessageType type) const {
    return static_cast<std::size_t>(std::count_if(
        said_.begin(), said_.end(), [&](const Message& m) { return m.type == type; }));
  }
  [[nodiscard]] std::size_t messages() const { return said_.size(); }
  [[nodiscard]] std::size_t bytes_sent() const { return bytes_sent_; }  // in pages
  [[nodiscard]] unsigned swaps() const { return swaps_; }
  void forget() {
    said_.clear();
    bytes_sent_ = 0;
    swaps_ = 0;
  }
  // The node that manages the pages (all are of one stripe), and the others.
  [[nodiscard]] unsigned manager() const {
    const PageId page = world_.config().geometry.page(0);
    return world_.oracle().view(0).manager(page.container, 0).value();
  }
  [[nodiscard]] std::vector<unsigned> others() const {
    std::vector<unsigned> nodes;
    for (unsigned node = 0; node < world_.config().geometry.nodes; ++node)
      if (node != manager()) nodes.push_back(node);
    return nodes;
  }

  static NodeId id(unsigned node) { return NodeId{static_cast<std::uint16_t>(node)}; }
  [[nodiscard]] PageSet one(unsigned page) const {
    return PageSet::of(world_.config().geometry.page(page));
  }

 private:
  static sim::WorldConfig config(unsigned nodes, unsigned pages, std::vector<std::uint64_t> budgets,
                                 unsigned files) {
    sim::WorldConfig config;
    config.geometry = {static_cast<std::uint16_t>(nodes), 1, pages, 1};
    config.threads = 2;
    config.budgets = std::move(budgets);
    config.files = files;
    return config;
  }
  std::optional<sim::Value> access(sim::WorldEvent::Kind kind, unsigned node, unsigned page) {
    failed_ = false;
    apply({.kind = kind, .node = id(node), .pages = one(page)});
    settle();
    if (failed_) return std::nullopt;
    return last_done_.value;
  }
  void check() { ASSERT_EQ(world_.violation(), "") << world_.describe(); }

  sim::World world_;
  std::vector<Message> said_;
  std::size_t bytes_sent_ = 0;
  unsigned swaps_ = 0;
  sim::Effects::Done last_done_;
  bool failed_ = false;
};

}  // namespace gob::paper
