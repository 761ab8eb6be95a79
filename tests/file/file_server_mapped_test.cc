// The home's side: changes of a mapped file that are under way at the same time. Each is of its
// pages, which takes a while; here the first of them waits.
#include "tests/file/file_server_fixture.h"

namespace gob::file {
namespace {

class MappedFileServerTest : public FileServerTest {
 protected:
  void SetUp() override {
    FileServerTest::SetUp();
    store_.gives_back_to = &server_;
    store_.pages = std::string(2 * kPageSize, 'a');
    write_file("tree/a", store_.pages);
    handle_ = map_file("a");
    file_ = ask(kPeer, make(FileOp::kLookup, root(kPeer).file(), "a")).file();
  }

  peer::FileRequest write(std::uint64_t offset, const std::string& data, std::uint32_t flags = 0) {
    auto request = make(FileOp::kWrite, file_);
    request.set_handle(handle_);
    request.set_offset(offset);
    request.set_data(data);
    request.set_flags(flags);
    return request;
  }
  peer::FileRequest cut(std::uint64_t size) { return resize(file_, size); }

  // The first of them has a page write that waits until the second has ended, or waits too.
  void at_once(peer::FileRequest first, peer::FileRequest second) {
    store_.holds_write = true;
    auto one = begin(std::move(first));
    const std::function<void()> arrive = store_.held_write.get_future().get();
    auto other = begin(std::move(second));
    other.wait_for(std::chrono::milliseconds(100));
    arrive();
    EXPECT_EQ(one.get(), 0u);
    EXPECT_EQ(other.get(), 0u);
  }

  std::future<std::uint32_t> begin(peer::FileRequest request) {
    request.set_id(++last_id_);
    request.set_incarnation(kIncarnation);
    request.mutable_caller()->set_uid(::geteuid());
    const auto end = std::make_shared<std::promise<std::uint32_t>>();
    server_.handle(kPeer, std::move(request),
                   [end](const peer::FileReply& reply) { end->set_value(reply.error()); });
    return end->get_future();
  }

  std::uint64_t size() { return fs::file_size(folder_ / "tree/a"); }

  std::uint64_t file_ = 0;
  std::uint64_t handle_ = 0;
};

TEST_F(MappedFileServerTest, AnAppendBesideACutIsKept) {
  at_once(cut(100), write(0, std::string(kPageSize, 'b'), O_APPEND));
  EXPECT_EQ(size(), 100 + kPageSize);
  EXPECT_EQ(store_.pages.substr(0, size()),
            std::string(100, 'a') + std::string(kPageSize, 'b'));
}

TEST_F(MappedFileServerTest, AWriteBehindTheEndOfACutIsKept) {
  at_once(cut(100), write(kPageSize, std::string(kPageSize, 'b')));
  EXPECT_EQ(size(), 2 * kPageSize);
  EXPECT_EQ(store_.pages.substr(0, size()), std::string(100, 'a') +
                                                std::string(kPageSize - 100, '\0') +
                                                std::string(kPageSize, 'b'));
}

TEST_F(MappedFileServerTest, WhatIsCutOffWhileItIsWrittenDoesNotComeBack) {
  at_once(write(kPageSize, "late"), cut(100));
  EXPECT_EQ(size(), 100u);
  ASSERT_EQ(ask(kPeer, cut(2 * kPageSize)).error(), 0u);
  EXPECT_EQ(store_.pages.substr(0, size()),
            std::string(100, 'a') + std::string(2 * kPageSize - 100, '\0'));
}

TEST_F(MappedFileServerTest, AWriteInTheGapThatAnotherLeavesIsKept) {
  ASSERT_EQ(ask(kPeer, cut(100)).error(), 0u);
  at_once(write(300, "behind"), write(200, "between"));
  EXPECT_EQ(store_.pages.substr(0, size()), std::string(100, 'a') + std::string(100, '\0') +
                                                "between" + std::string(93, '\0') + "behind");
}

// A mapping can store there. A local file has zeros in what it grows by, and gives SIGBUS before.
TEST_F(MappedFileServerTest, WhatIsStoredBehindTheEndDoesNotComeToLightWhenItGrows) {
  const std::uint64_t longer = 3 * kPageSize + 50;
  auto allocate = make(FileOp::kAllocate, file_);
  allocate.set_handle(handle_);
  allocate.set_size(longer);
  for (const peer::FileRequest& grow : {cut(longer), allocate, write(longer - 1, "b")}) {
    ASSERT_EQ(ask(kPeer, cut(100)).error(), 0u);
    store_.pages = std::string(100, 'a') + std::string(5 * kPageSize - 100, 'x');
    ASSERT_EQ(ask(kPeer, grow).error(), 0u);
    EXPECT_EQ(size(), longer);
    EXPECT_EQ(store_.size, longer);
    std::string expected = std::string(100, 'a') + std::string(longer - 100, '\0');
    if (grow.op() == static_cast<std::uint32_t>(FileOp::kWrite)) expected.back() = 'b';
    EXPECT_TRUE(store_.pages.substr(0, longer) == expected) << "operation " << grow.op();
    EXPECT_EQ(store_.size_at_discard, 100u) << "it could have been written back";
  }
}

TEST_F(MappedFileServerTest, WhatIsStoredBehindAnAppendDoesNotComeToLightLater) {
  ASSERT_EQ(ask(kPeer, cut(100)).error(), 0u);
  store_.pages = std::string(100, 'a') + std::string(3 * kPageSize - 100, 'x');
  ASSERT_EQ(ask(kPeer, write(0, std::string(kPageSize, 'b'), O_APPEND)).error(), 0u);
  ASSERT_EQ(ask(kPeer, cut(3 * kPageSize)).error(), 0u);
  EXPECT_TRUE(store_.pages == std::string(100, 'a') + std::string(kPageSize, 'b') +
                                  std::string(2 * kPageSize - 100, '\0'));
}

TEST_F(MappedFileServerTest, WriteBackStandsStillWhileItIsCut) {
  std::uint64_t found = 0;
  store_.before_resize = [&] { found = size(); };
  ASSERT_EQ(ask(kPeer, cut(100)).error(), 0u);
  EXPECT_EQ(found, 2 * kPageSize);
  EXPECT_EQ(store_.size, 100u);
}

// What programs wrote in an earlier life of this node goes to the disk once it is back.
TEST_F(MappedFileServerTest, WhatIsWrittenOfAnEarlierLifeIsWrittenBeforeTheFileIsCutOrOpened) {
  write_file("tree/b", "other");
  const std::uint64_t other = ask(kPeer, make(FileOp::kLookup, root(kPeer).file(), "b")).file();
  auto held = server_.reopened(store_.source);
  ASSERT_NE(held, nullptr);
  auto one = begin(cut(100));
  auto open = begin(make(FileOp::kOpen, file_));
  EXPECT_EQ(ask(kPeer, resize(other, 2)).error(), 0u) << "no other file waits";
  EXPECT_EQ(one.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
  EXPECT_EQ(open.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
  EXPECT_EQ(size(), 2 * kPageSize);
  held->end({});
  held.reset();
  EXPECT_EQ(one.get(), 0u);
  EXPECT_EQ(open.get(), 0u);
  EXPECT_EQ(size(), 100u);
}

TEST_F(MappedFileServerTest, WritesOfBytesThatTheFileHasGoTogether) {
  store_.holds_write = true;
  auto one = begin(write(0, "one"));
  const std::function<void()> arrive = store_.held_write.get_future().get();
  EXPECT_EQ(ask(kPeer, write(kPageSize, "two")).error(), 0u);
  EXPECT_EQ(ask(kPeer, write(0, "three", O_APPEND)).error(), 0u);
  arrive();
  EXPECT_EQ(one.get(), 0u);
}

}  // namespace
}  // namespace gob::file
