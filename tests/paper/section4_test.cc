// Claims of the paper's section 4 (linkers, system services, migration) that concern the coherence
// core, one test each.
#include "tests/paper/cluster.h"

namespace gob::paper {
namespace {

using Kind = sim::WorldEvent::Kind;

// §4.1.1, figure 2: first_touch with write access calls grab_page.
TEST(Section4, FirstTouchForWritingGrabs) {
  Cluster cluster(3, 1);
  cluster.write(cluster.others()[0], 0);
  cluster.forget();
  ASSERT_TRUE(cluster.write(cluster.others()[1], 0));
  EXPECT_EQ(cluster.said(MessageType::kGrab), 1u);
  EXPECT_EQ(cluster.said(MessageType::kGet), 0u);
  EXPECT_EQ(cluster.rights(cluster.others()[1], 0), Access::kWrite);
}

// §4.1.1, figure 2: first_touch with read access calls find_page, and get_page if that finds
// nothing.
TEST(Section4, FirstTouchForReadingFindsThenGets) {
  Cluster cluster(3, 1);
  const unsigned reader = cluster.others()[1];
  cluster.write(cluster.others()[0], 0);
  cluster.forget();
  ASSERT_TRUE(cluster.read(reader, 0));
  EXPECT_EQ(cluster.said(MessageType::kGet), 1u);
  EXPECT_EQ(cluster.said(MessageType::kGrab), 0u);
  // Present, but not mapped: an injected page is found without asking anyone.
  Cluster injected(2, 1);
  ASSERT_TRUE(injected.write(0, 0));
  injected.flush(0, 0);
  ASSERT_TRUE(injected.holds(1, 0));
  ASSERT_EQ(injected.rights(1, 0), Access::kNone);
  injected.forget();
  ASSERT_TRUE(injected.read(1, 0));
  EXPECT_EQ(injected.messages(), 0u);
}

// §4.1.1, figure 3: copy_on_write, "when a write access is performed on a read only page", grabs
// it.
TEST(Section4, CopyOnWriteGrabs) {
  Cluster cluster(3, 1);
  const unsigned node = cluster.others()[1];
  cluster.write(cluster.others()[0], 0);
  cluster.read(node, 0);
  ASSERT_EQ(cluster.rights(node, 0), Access::kRead);
  cluster.forget();
  ASSERT_TRUE(cluster.write(node, 0));
  EXPECT_EQ(cluster.said(MessageType::kGrab), 1u);
  EXPECT_EQ(cluster.rights(node, 0), Access::kWrite);
}

// §4.1.2, figure 4: read and write of files look pages up by the same two calls; a run of them is
// one request.
TEST(Section4, LookingUpARunAsksOnce) {
  Cluster cluster(3, 32);
  const unsigned writer = cluster.others()[0];
  const unsigned reader = cluster.others()[1];
  PageSet run = cluster.one(0);
  run.mask = 0xffff;
  cluster.apply({.kind = Kind::kWrite, .node = Cluster::id(writer), .pages = run});
  cluster.settle();
  cluster.forget();
  cluster.apply({.kind = Kind::kRead, .node = Cluster::id(reader), .pages = run});
  cluster.settle();
  EXPECT_EQ(cluster.said(MessageType::kGet), 1u);
  EXPECT_EQ(cluster.said(MessageType::kPage), 1u);
  EXPECT_EQ(cluster.bytes_sent(), 16u);
  EXPECT_EQ(cluster.frames(reader), 16u);
}

// §4.1.2, figure 5: "the role of the interface linker is simply to relay calls to the write_page
// function of the associated file system when this makes sense, i.e. on the node hosting the
// device".
TEST(Section4, OnlyTheHostingNodeWritesTheFile) {
  Cluster cluster(3, 1, {}, 1);
  const auto written = cluster.write(1, 0);
  ASSERT_TRUE(written);
  EXPECT_NE(cluster.in_file(0), *written);
  cluster.flush(1, 0);  // it goes to another node's memory, not to a disk
  cluster.write_back(0);
  EXPECT_EQ(cluster.in_file(0), *written);
  for (unsigned node = 0; node < 3; ++node) EXPECT_EQ(cluster.read(node, 0), written);
}

// §4.2.2, file I/O linker: first_touch loads the page from the disk of the hosting node; an
// invalidation does not touch it.
TEST(Section4, TheFirstTouchOfAFileReadsItOnce) {
  Cluster cluster(3, 1, {}, 1);
  cluster.forget();
  ASSERT_TRUE(cluster.read(1, 0));
  EXPECT_EQ(cluster.swaps(), 1u);
  ASSERT_TRUE(cluster.read(2, 0));
  EXPECT_EQ(cluster.swaps(), 1u);
  ASSERT_TRUE(cluster.write(2, 0));  // invalidates the other copies
  EXPECT_EQ(cluster.swaps(), 1u);
}

// §4.3.3: a file larger than a node's memory is read through it, and nothing written is lost.
TEST(Section4, AFileLargerThanMemoryKeepsItsBytes) {
  Cluster cluster(2, 40, {8, 8}, 1);
  std::vector<std::optional<sim::Value>> written;
  for (unsigned page = 0; page < 40; ++page) written.push_back(cluster.write(1, page));
  for (unsigned page = 0; page < 40; ++page) ASSERT_EQ(cluster.read(1, page), written[page]);
  EXPECT_LE(cluster.frames(0), 8u);
  EXPECT_LE(cluster.frames(1), 8u);
}

// §4.2.1, memory I/O linker: first_touch "allocates a page frame" (of zeros, as the host kernel
// does).
TEST(Section4, TheFirstTouchOfMemoryGivesZeros) {
  Cluster cluster(3, 3);
  for (unsigned node = 0; node < 3; ++node) EXPECT_EQ(cluster.read(node, node), sim::Value{0});
}

// §4.2.1, memory I/O linker: flush_page "calls the host kernel replacement function and releases
// the page frame"; the bytes come back when they are wanted.
TEST(Section4, FlushedMemoryComesBackFromSwap) {
  Cluster cluster(1, 40, {8});
  std::vector<std::optional<sim::Value>> written;
  for (unsigned page = 0; page < 40; ++page) written.push_back(cluster.write(0, page));
  EXPECT_GT(cluster.swaps(), 0u);
  EXPECT_LE(cluster.frames(0), 8u);
  for (unsigned page = 0; page < 40; ++page) EXPECT_EQ(cluster.read(0, page), written[page]);
}

// §4.3.1: "The container mechanism places a copy of the page in local memory and ensures the
// coherence of data."
TEST(Section4, SharedMemoryIsCoherent) {
  Cluster cluster(3, 4);
  for (unsigned round = 0; round < 12; ++round) {
    const unsigned page = round % 4;
    const auto written = cluster.write(round % 3, page);
    for (unsigned node = 0; node < 3; ++node) EXPECT_EQ(cluster.read(node, page), written);
  }
}

// §4.3.1: "the map interface linker maps the local copy in the address space of the faulting
// process and changes virtual page access right according to the rights of the page in the
// container".
TEST(Section4, MappingRightsFollowTheContainer) {
  Cluster cluster(3, 1);
  cluster.write(0, 0);
  EXPECT_EQ(cluster.rights(0, 0), Access::kWrite);
  cluster.read(1, 0);
  EXPECT_EQ(cluster.rights(0, 0), Access::kRead);
  EXPECT_EQ(cluster.rights(1, 0), Access::kRead);
  cluster.write(1, 0);
  EXPECT_EQ(cluster.rights(0, 0), Access::kNone);
  EXPECT_EQ(cluster.rights(1, 0), Access::kWrite);
}

// §4.3.3: "A container not being related to a specific process, it can survive to the death of a
// process and continue to store data loaded by this process."
TEST(Section4, DataOutlivesTheProgramThatMadeIt) {
  Cluster cluster(2, 1);
  cluster.apply(
      {.kind = Kind::kWrite, .node = Cluster::id(0), .thread = 0, .pages = cluster.one(0)});
  cluster.settle();
  const sim::Value written = cluster.world().current(0);
  // Thread 0 never comes back; another program on its node, and one elsewhere, find the page.
  cluster.forget();
  cluster.apply(
      {.kind = Kind::kRead, .node = Cluster::id(0), .thread = 1, .pages = cluster.one(0)});
  EXPECT_EQ(cluster.messages(), 0u);
  EXPECT_EQ(cluster.read(1, 0), written);
}

// §4.3.3: data of a cooperative cache "is not lost if there exists other copies on a remote node or
// if they can be injected in the memory of another node".
TEST(Section4, MemoryPressureLosesNothing) {
  Cluster cluster(4, 60, {12, 12, 40, 60});
  std::vector<std::optional<sim::Value>> written;
  for (unsigned page = 0; page < 60; ++page) written.push_back(cluster.write(page % 4, page));
  for (unsigned node = 0; node < 4; ++node)
    for (unsigned page = 0; page < 60; ++page) ASSERT_EQ(cluster.read(node, page), written[page]);
  EXPECT_LE(cluster.frames(0), 12u);
}

// §4.4.1: "No data contained in the memory segments is migrated. During the post-transfer execution
// phase, an access to an invalid page ... is then copied by containers from the process source node
// to the current process execution node": only what is touched moves.
TEST(Section4, AMigratedProcessPullsOnlyWhatItTouches) {
  Cluster cluster(3, 50);
  std::vector<std::optional<sim::Value>> written;
  for (unsigned page = 0; page < 50; ++page) written.push_back(cluster.write(0, page));
  cluster.forget();
  for (const unsigned page : {3u, 4u, 40u}) EXPECT_EQ(cluster.read(2, page), written[page]);
  EXPECT_EQ(cluster.bytes_sent(), 3u);
  EXPECT_EQ(cluster.frames(2), 3u);
}

// §4.4.2: "when file data has been placed in local file cache it can be used like traditional file
// cache data for future file accesses without any new network transfer".
TEST(Section4, PagesAlreadyAtTheTargetCostNothing) {
  Cluster cluster(3, 8);
  for (unsigned page = 0; page < 8; ++page) cluster.write(0, page);
  for (unsigned page = 0; page < 8; ++page) cluster.read(2, page);
  cluster.forget();
  for (unsigned page = 0; page < 8; ++page) EXPECT_TRUE(cluster.read(2, page));
  EXPECT_EQ(cluster.messages(), 0u);
}

}  // namespace
}  // namespace gob::paper
