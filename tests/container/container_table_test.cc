#include "libgob/container/container_table.h"

#include <gtest/gtest.h>

#include "tests/container/table_cluster.h"

namespace gob::test {
namespace {

class ContainerTableTest : public ::testing::Test {
 protected:
  ContainerTableTest() { cluster.change_view(1, {0, 1, 2}); }
  ~ContainerTableTest() override { EXPECT_EQ(cluster.problem, ""); }

  ErrorCode failure(std::size_t at, std::uint64_t request) {
    const auto* answer = cluster.answer(at, request);
    if (answer == nullptr || answer->ok()) {
      ADD_FAILURE() << "no error";
      return ErrorCode::kSystem;
    }
    return answer->error().code;
  }
  bool succeeded(std::size_t at, std::uint64_t request) {
    const auto* answer = cluster.answer(at, request);
    return answer != nullptr && answer->ok();
  }

  TableCluster cluster{3};
};

TEST_F(ContainerTableTest, CreatedContainerIsKnownEverywhereBeforeTheReply) {
  const auto request = cluster.create(1, "matrix");
  while (cluster.answer(1, request) == nullptr) {
    bool any = false;
    for (std::size_t a = 0; a < 3; ++a)
      for (std::size_t b = 0; b < 3; ++b)
        any = cluster.deliver(TableCluster::node(a), TableCluster::node(b)) || any;
    ASSERT_TRUE(any);
  }
  ASSERT_TRUE(succeeded(1, request));
  const ContainerRecord& record = cluster.answer(1, request)->value();
  EXPECT_EQ(record.info.id, ContainerId{1});
  EXPECT_EQ(record.info.pages, 3u);
  EXPECT_EQ(record.info.created, Epoch{1});
  for (const auto& known : cluster.added) EXPECT_TRUE(known.contains(ContainerId{1}));
  // A program elsewhere that hears of it now finds it, at the latest when all know that all know.
  const auto opened = cluster.open(2, "matrix");
  cluster.deliver_all();
  EXPECT_TRUE(succeeded(2, opened));
}

TEST_F(ContainerTableTest, OpeningWaitsUntilEveryMemberKnowsTheContainer) {
  cluster.create(0, "a");  // node 0 orders
  cluster.deliver(TableCluster::node(0), TableCluster::node(1));
  const auto early = cluster.open(1, "a");
  EXPECT_EQ(cluster.answer(1, early), nullptr);
  EXPECT_EQ(cluster.tables[1].find("a"), nullptr);
  EXPECT_TRUE(cluster.tables[1].list().empty());
  cluster.deliver_all();
  EXPECT_TRUE(succeeded(1, early));
}

TEST_F(ContainerTableTest, ExactlyOneOfConcurrentCreatesWins) {
  const auto first = cluster.create(1, "a");
  const auto second = cluster.create(2, "a");
  cluster.deliver_all();
  EXPECT_NE(succeeded(1, first), succeeded(2, second));
  EXPECT_EQ(cluster.tables[0].size(), 1u);
  EXPECT_EQ(failure(succeeded(1, first) ? 2 : 1, succeeded(1, first) ? second : first),
            ErrorCode::kAlreadyExists);
}

TEST_F(ContainerTableTest, BadRequestsAreRefusedAtOnce) {
  EXPECT_EQ(failure(0, cluster.create(0, "a/b")), ErrorCode::kInvalidArgument);
  EXPECT_EQ(failure(0, cluster.create(0, "a", {1, 1, {}}, 01777)), ErrorCode::kInvalidArgument);
  EXPECT_EQ(failure(1, cluster.remove(1, "nothing")), ErrorCode::kNotFound);
  EXPECT_EQ(failure(1, cluster.open(1, "nothing")), ErrorCode::kNotFound);
}

TEST_F(ContainerTableTest, OnlyOwnerAndRootRemove) {
  cluster.create(1, "a", {1000, 100, {}}, 0666);
  cluster.deliver_all();
  const auto stranger = cluster.remove(2, "a", {2000, 100, {}});
  cluster.deliver_all();
  EXPECT_EQ(failure(2, stranger), ErrorCode::kPermissionDenied);
  const auto owner = cluster.remove(2, "a", {1000, 5, {}});
  cluster.deliver_all();
  EXPECT_TRUE(succeeded(2, owner));
  for (const auto& table : cluster.tables) EXPECT_EQ(table.size(), 0u);
  for (const auto& known : cluster.added) EXPECT_TRUE(known.empty());
}

TEST_F(ContainerTableTest, OpenChecksEveryRight) {
  cluster.create(1, "a", {1000, 100, {}}, 0640);
  cluster.deliver_all();
  EXPECT_TRUE(succeeded(2, cluster.open(2, "a", {1000, 1, {}}, {Right::kRead, Right::kWrite})));
  EXPECT_TRUE(succeeded(2, cluster.open(2, "a", {2000, 1, {100}}, {Right::kRead})));
  EXPECT_EQ(failure(2, cluster.open(2, "a", {2000, 1, {100}}, {Right::kRead, Right::kWrite})),
            ErrorCode::kPermissionDenied);
}

TEST_F(ContainerTableTest, IdsAreNeverUsedAgain) {
  cluster.create(0, "a");
  cluster.deliver_all();
  cluster.remove(0, "a");
  cluster.deliver_all();
  cluster.change_view(2, {0, 1, 2});
  cluster.create(0, "a");
  cluster.deliver_all();
  ASSERT_NE(cluster.tables[2].find("a"), nullptr);
  EXPECT_EQ(cluster.tables[2].find("a")->info.id, ContainerId{2});
}

TEST_F(ContainerTableTest, RequestsCutShortByAViewChangeAreMadeAnewOnce) {
  const auto unordered = cluster.create(1, "lost on the way");
  const auto ordered = cluster.create(2, "ordered");
  cluster.deliver(TableCluster::node(2), TableCluster::node(0));
  cluster.deliver(TableCluster::node(0), TableCluster::node(1));  // node 1 has it, 2 not
  cluster.change_view(2, {1, 2});                                 // the orderer died
  EXPECT_TRUE(succeeded(2, ordered));
  cluster.deliver_all();
  EXPECT_TRUE(succeeded(1, unordered));
  for (const std::size_t i : {1u, 2u}) EXPECT_EQ(cluster.tables[i].size(), 2u);
}

TEST_F(ContainerTableTest, ARemovalThatAnyMemberSawOutlivesTheOrderer) {
  cluster.create(2, "a");
  cluster.deliver_all();
  const auto removal = cluster.remove(2, "a");
  cluster.deliver(TableCluster::node(2), TableCluster::node(0));
  cluster.deliver(TableCluster::node(0), TableCluster::node(1));
  cluster.change_view(2, {1, 2});
  EXPECT_TRUE(succeeded(2, removal));
  EXPECT_EQ(cluster.tables[1].size(), 0u);
  EXPECT_EQ(cluster.tables[2].size(), 0u);
  EXPECT_TRUE(cluster.added[2].empty());
}

TEST_F(ContainerTableTest, NothingChangesWhileFrozen) {
  (void)cluster.tables[1].freeze();
  const auto request = cluster.create(2, "a");
  cluster.deliver_all();
  EXPECT_EQ(cluster.answer(2, request), nullptr);
  EXPECT_EQ(cluster.tables[1].size(), 0u);
  cluster.change_view(2, {0, 1, 2});
  cluster.deliver_all();
  EXPECT_TRUE(succeeded(2, request));
}

TEST_F(ContainerTableTest, RequestsWaitForTheFirstView) {
  TableCluster fresh(1);
  const auto request = fresh.create(0, "a");
  const auto opened = fresh.open(0, "a");
  EXPECT_EQ(fresh.answer(0, request), nullptr);
  fresh.change_view(1, {0});
  ASSERT_NE(fresh.answer(0, request), nullptr);
  EXPECT_TRUE(fresh.answer(0, request)->ok());
  EXPECT_NE(fresh.answer(0, opened), nullptr);
}

TEST_F(ContainerTableTest, ForgottenRequestsAreNotAnswered) {
  const auto request = cluster.create(1, "a");
  cluster.tables[1].forget(request);
  cluster.deliver_all();
  EXPECT_EQ(cluster.answer(1, request), nullptr);
  EXPECT_NE(cluster.tables[1].find("a"), nullptr);
}

TEST_F(ContainerTableTest, OldestIsTheEpochOfTheOldestContainer) {
  EXPECT_EQ(cluster.tables[0].oldest(), Epoch{1});
  cluster.create(0, "a");
  cluster.deliver_all();
  cluster.change_view(2, {0, 1, 2});
  EXPECT_EQ(cluster.tables[0].oldest(), Epoch{1});
  cluster.remove(0, "a");
  cluster.deliver_all();
  EXPECT_EQ(cluster.tables[0].oldest(), Epoch{2});
}

TEST_F(ContainerTableTest, HostilePeersAreReported) {
  const auto complains = [&](NodeId from, container::Body body) {
    container::Actions actions;
    cluster.tables[0].deliver(from, {Epoch{1}, std::move(body)}, actions);
    return actions.size() == 1 && std::holds_alternative<container::Violation>(actions[0]);
  };
  container::Create forged;
  forged.record.creator.node = NodeId{2};
  EXPECT_TRUE(complains(NodeId{1}, forged));
  EXPECT_TRUE(complains(NodeId{1}, container::Ack{7}));
  EXPECT_TRUE(complains(NodeId{1}, container::Commit{0}));
  EXPECT_TRUE(complains(NodeId{1}, container::Add{1, {}}));
  EXPECT_TRUE(complains(NodeId{1}, container::Erase{1, ContainerId{1}, NodeId{1}, 1}));
}

TEST(ContainerTableMerge, SkipsWhatIsNoTable) {
  EXPECT_EQ(ContainerTable::merge({"", "\xff\xff"}), ContainerTable::merge({}));
}

}  // namespace
}  // namespace gob::test
