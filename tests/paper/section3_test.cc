// Claims of the paper's section 3 (containers, linkers) that concern the coherence core, one test
// each.
#include <random>

#include "tests/paper/cluster.h"

namespace gob::paper {
namespace {

using Kind = sim::WorldEvent::Kind;

// §3.1: "Data are stored in a container on host operating system demand and can be shared and
// accessed by the host kernel of other cluster nodes."
TEST(Section3, DataOfOneNodeIsAccessedByOthers) {
  Cluster cluster(4, 1);
  const auto written = cluster.write(0, 0);
  for (unsigned node = 1; node < 4; ++node) EXPECT_EQ(cluster.read(node, 0), written);
}

// §3.1: "The memory model offered by containers is sequential consistency": two nodes that each
// write one page and then read the other's never both miss the other's write, whatever the order of
// events.
TEST(Section3, StoreBufferingIsNeverSeen) {
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    Cluster cluster(3, 2);
    cluster.read(0, 1);  // so that old copies exist to be read
    cluster.read(1, 0);
    std::mt19937_64 random(seed);
    sim::Value seen[2] = {0, 0};
    unsigned step[2] = {0, 0};  // 0: write, 1: read, 2: done
    while (step[0] < 2 || step[1] < 2) {
      std::vector<sim::WorldEvent> moves;
      const sim::World& world = cluster.world();
      const auto offer = [&](const sim::WorldEvent& event) {
        if (world.refuses(event).empty()) moves.push_back(event);
      };
      for (unsigned i = 0; i < 2; ++i) {
        if (step[i] < 2)
          offer({.kind = step[i] == 0 ? Kind::kWrite : Kind::kRead,
                 .node = Cluster::id(i),
                 .pages = cluster.one(step[i] == 0 ? i : 1 - i)});
        offer({.kind = Kind::kRetry, .node = Cluster::id(i)});
      }
      for (unsigned to = 0; to < 3; ++to) {
        for (unsigned from = 0; from < 3; ++from)
          offer({.kind = Kind::kDeliver, .node = Cluster::id(to), .from = Cluster::id(from)});
        for (unsigned page = 0; page < 2; ++page)
          offer({.kind = Kind::kHoldExpired, .node = Cluster::id(to), .pages = cluster.one(page)});
      }
      const sim::WorldEvent event = moves[random() % moves.size()];
      const unsigned node = event.node.value();
      cluster.apply(event);
      ASSERT_FALSE(HasFatalFailure());
      for (const sim::Effects::Done& done : cluster.world().effects().done) {
        if (step[node] == 1) seen[node] = done.value;
        ++step[node];
      }
    }
    ASSERT_FALSE(seen[0] == 0 && seen[1] == 0) << "both missed the other's write, seed " << seed;
  }
}

// §3.1: "... implemented with a write invalidation protocol": a write ends only when no other node
// can read the page any more.
TEST(Section3, AWriteWaitsForEveryInvalidation) {
  Cluster cluster(3, 1);
  cluster.write(0, 0);
  cluster.read(1, 0);
  cluster.read(2, 0);
  const unsigned writer = cluster.others()[0];
  const unsigned reader = cluster.others()[1];
  cluster.apply({.kind = Kind::kWrite, .node = Cluster::id(writer), .pages = cluster.one(0)});
  // Everything moves on but the reader hears nothing.
  for (bool moved = true; moved;) {
    moved = false;
    for (unsigned to = 0; to < 3; ++to) {
      for (unsigned from = 0; from < 3; ++from) {
        const sim::WorldEvent deliver{
            .kind = Kind::kDeliver, .node = Cluster::id(to), .from = Cluster::id(from)};
        if (to == reader || !cluster.world().refuses(deliver).empty()) continue;
        cluster.apply(deliver);
        moved = true;
      }
    }
  }
  EXPECT_TRUE(cluster.holds(reader, 0));
  EXPECT_LT(cluster.rights(writer, 0), Access::kWrite);
  cluster.settle();
  EXPECT_FALSE(cluster.holds(reader, 0));
  EXPECT_EQ(cluster.rights(writer, 0), Access::kWrite);
}

// §3.1: "an injection mechanism ... is used to balance memory usage and avoid (or delay) disk
// swapping": a working set larger than one memory but not than all never reaches the disk.
TEST(Section3, InjectionAvoidsSwapping) {
  Cluster cluster(3, 60, {20, 200, 200});
  std::vector<std::optional<sim::Value>> written;
  for (unsigned page = 0; page < 60; ++page) written.push_back(cluster.write(0, page));
  EXPECT_LE(cluster.frames(0), 20u);
  EXPECT_EQ(cluster.swaps(), 0u);
  for (unsigned page = 0; page < 60; ++page) EXPECT_EQ(cluster.read(0, page), written[page]);
  EXPECT_EQ(cluster.swaps(), 0u);
}

// §3.1.1 find_page "checks if a given page of a container is present in local memory": a page that
// is there costs no message.
TEST(Section3, FindPageOfALocalPageIsLocal) {
  Cluster cluster(3, 1);
  const auto written = cluster.write(0, 0);
  cluster.read(1, 0);
  cluster.forget();
  EXPECT_EQ(cluster.read(1, 0), written);
  EXPECT_EQ(cluster.read(0, 0), written);
  EXPECT_EQ(cluster.messages(), 0u);
}

// §3.1.1 get_page: "If a copy of the requested page exists in a remote node memory, a copy of this
// page is placed in local memory."
TEST(Section3, GetPagePlacesACopyAndLeavesTheOriginal) {
  Cluster cluster(3, 1);
  const auto written = cluster.write(cluster.others()[0], 0);
  cluster.forget();
  EXPECT_EQ(cluster.read(cluster.others()[1], 0), written);
  EXPECT_TRUE(cluster.holds(cluster.others()[0], 0));
  EXPECT_TRUE(cluster.holds(cluster.others()[1], 0));
  EXPECT_EQ(cluster.bytes_sent(), 1u);
}

// §3.1.1 get_page: "If there is no copy of the requested page cluster wide, a call to a linker is
// done to request the creation of the page."
TEST(Section3, GetPageOfAPageThatIsNowhereCreatesIt) {
  Cluster cluster(3, 1);
  const unsigned node = cluster.others()[0];
  EXPECT_EQ(cluster.read(node, 0), sim::Value{0});
  EXPECT_TRUE(cluster.holds(node, 0));
  EXPECT_EQ(cluster.bytes_sent(), 0u);
}

// §3.1.1 grab_page "places a unique copy of a given page of a container in local memory".
TEST(Section3, GrabPagePlacesTheUniqueCopy) {
  Cluster cluster(4, 1);
  cluster.write(0, 0);
  for (unsigned node = 1; node < 4; ++node) cluster.read(node, 0);
  for (unsigned writer = 0; writer < 4; ++writer) {
    ASSERT_TRUE(cluster.write(writer, 0));
    for (unsigned node = 0; node < 4; ++node) EXPECT_EQ(cluster.holds(node, 0), node == writer);
  }
}

// §3.1.1 grab_page: "all copies (except the local one) are invalidated": a node that has a current
// copy keeps it, no bytes travel.
TEST(Section3, GrabPageKeepsTheLocalCopy) {
  Cluster cluster(3, 1);
  cluster.write(0, 0);
  cluster.read(1, 0);
  cluster.read(2, 0);
  cluster.forget();
  ASSERT_TRUE(cluster.write(cluster.others()[0], 0));
  EXPECT_EQ(cluster.bytes_sent(), 0u);
}

// §3.1.1 flush_page "removes a container page from the local memory following a page replacement.
// If a remote copy of the page exists, the local copy is simply discarded."
TEST(Section3, FlushPageDiscardsACopyOfWhichAnotherExists) {
  Cluster cluster(3, 1);
  const auto written = cluster.write(0, 0);
  cluster.read(1, 0);
  for (const unsigned node : {0u, 1u}) {
    Cluster again = cluster;
    again.forget();
    again.flush(node, 0);
    EXPECT_FALSE(again.holds(node, 0));
    EXPECT_TRUE(again.holds(1 - node, 0));
    EXPECT_EQ(again.bytes_sent(), 0u);
    EXPECT_EQ(again.read(node, 0), written);
  }
}

// §3.1.1 flush_page: "If the local copy is the only one in the cluster, it is injected in the
// memory of a remote node."
TEST(Section3, FlushPageInjectsTheLastCopy) {
  Cluster cluster(3, 1);
  const auto written = cluster.write(0, 0);
  cluster.flush(0, 0);
  EXPECT_FALSE(cluster.holds(0, 0));
  EXPECT_EQ(cluster.holds(1, 0) + cluster.holds(2, 0), 1);
  EXPECT_EQ(cluster.swaps(), 0u);
  EXPECT_EQ(cluster.read(0, 0), written);
}

// §3.1.1 flush_page: "Finally, if the injection is not possible due to lack of memory, the page is
// swap out thanks to a linker function."
TEST(Section3, FlushPageSwapsOutWhenNobodyHasRoom) {
  Cluster cluster(3, 1, {4, 4, 4});
  const auto written = cluster.write(0, 0);
  cluster.flush(0, 0);
  EXPECT_FALSE(cluster.holds(0, 0));
  EXPECT_TRUE(cluster.swapped(0, 0));
  EXPECT_EQ(cluster.read(cluster.others()[1], 0), written);
  EXPECT_FALSE(cluster.swapped(0, 0));
}

// §3.2.2: "Just after the creation of a container, this one is completely empty, i.e. it does not
// contain any page and no page frame contains data from this container."
TEST(Section3, ANewContainerIsEmpty) {
  const Cluster cluster(3, 60);
  for (unsigned node = 0; node < 3; ++node) {
    EXPECT_EQ(cluster.frames(node), 0u);
    EXPECT_EQ(cluster.world().node(Cluster::id(node)).core().directory().size(), 0u);
    EXPECT_EQ(cluster.world().node(Cluster::id(node)).core().locals().size(), 0u);
  }
}

// §3.2.2: "Page frames are allocated on demand during the first access to a page" (first_touch).
TEST(Section3, AFrameIsAllocatedAtTheFirstAccess) {
  Cluster cluster(3, 60);
  cluster.read(1, 17);
  EXPECT_EQ(cluster.frames(1), 1u);
  EXPECT_TRUE(cluster.holds(1, 17));
  EXPECT_EQ(cluster.frames(0) + cluster.frames(2), 0u);
}

// §3.2.2 free_page "frees a page frame when a page is definitively removed from a container. This
// situation occurs when a container is destroyed."
TEST(Section3, ADestroyedContainerFreesItsFrames) {
  Cluster cluster(3, 20, {4, 4, 4});
  for (unsigned page = 0; page < 20; ++page) cluster.write(page % 3, page);
  cluster.remove_container();
  for (unsigned node = 0; node < 3; ++node) {
    EXPECT_TRUE(cluster.world().node(Cluster::id(node)).empty());
    EXPECT_EQ(cluster.world().node(Cluster::id(node)).core().directory().size(), 0u);
  }
  EXPECT_FALSE(cluster.read(0, 0));
}

// §3.2.2 invalidate_page "frees a page frame from local memory when a page is invalidated by the
// coherence protocol".
TEST(Section3, AnInvalidatedPageFreesItsFrame) {
  Cluster cluster(3, 1);
  cluster.write(0, 0);
  cluster.read(1, 0);
  const auto frames = [&](unsigned node) {
    return cluster.world().node(Cluster::id(node)).core().resident_frames();
  };
  EXPECT_EQ(frames(1), 1u);
  cluster.write(0, 0);
  EXPECT_EQ(frames(1), 0u);
}

}  // namespace
}  // namespace gob::paper
