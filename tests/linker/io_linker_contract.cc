#include "tests/linker/io_linker_contract.h"

#include <poll.h>

#include <algorithm>
#include <cstring>

#include "libgob/base/page_table.h"

namespace gob::test {

constexpr ContainerId kOne{1};
constexpr ContainerId kTwo{2};

std::vector<std::byte> bytes_of(PageSet pages, unsigned version) {
  std::vector<std::byte> bytes(pages.size() * kPageSize);
  std::byte* at = bytes.data();
  for_each_page(pages, [&](PageId page) {
    for (std::size_t i = 0; i < kPageSize; i += 8) {
      const std::uint64_t word = mix64(key_of(page) * 31 + version + i);
      std::memcpy(at + i, &word, sizeof word);
    }
    at += kPageSize;
  });
  return bytes;
}

std::vector<Finished> finish(IoLinker& linker, std::size_t count) {
  std::vector<Finished> finished;
  while (finished.size() < count) {
    pollfd ready = {linker.fd(), POLLIN, 0};
    if (::poll(&ready, 1, 10'000) != 1) {
      ADD_FAILURE() << "no completion in 10 s";
      break;
    }
    std::vector<IoCompletion> completions;
    linker.poll(completions);
    for (const IoCompletion& each : completions) {
      Finished one{each, {}};
      if (each.bytes != nullptr)
        one.bytes.assign(each.bytes, each.bytes + each.pages.size() * kPageSize);
      finished.push_back(std::move(one));
    }
  }
  return finished;
}

void IoLinkerContract::flush(PageSet pages, unsigned version) {
  const Status accepted = linker_->flush_page(pages, bytes_of(pages, version).data());
  ASSERT_TRUE(accepted) << accepted.error().message();
  const auto finished = finish(*linker_, 1);
  ASSERT_EQ(finished.size(), 1u);
  ASSERT_TRUE(finished[0].completion.status) << finished[0].completion.status.error().message();
  EXPECT_EQ(finished[0].completion.kind, IoCompletion::Kind::kFlushed);
  EXPECT_EQ(finished[0].completion.pages, pages);
}

std::vector<std::byte> IoLinkerContract::touch(PageSet pages) {
  const Status accepted = linker_->first_touch(pages);
  EXPECT_TRUE(accepted) << accepted.error().message();
  if (!accepted) return {};
  const auto finished = finish(*linker_, 1);
  if (finished.size() != 1) return {};
  EXPECT_TRUE(finished[0].completion.status);
  EXPECT_EQ(finished[0].completion.kind, IoCompletion::Kind::kTouched);
  EXPECT_EQ(finished[0].completion.pages, pages);
  return finished[0].bytes;
}

TEST_P(IoLinkerContract, FlushedPagesAreTouchedAgain) {
  const PageSet pages{kOne, 3, 0xf0f0'0000'ffff'1234};
  flush(pages, 1);
  EXPECT_EQ(linker_->held(pages), pages);
  EXPECT_EQ(touch(pages), bytes_of(pages, 1));
  EXPECT_EQ(linker_->held(pages), pages);  // the device keeps its copy
  const PageSet some = pages.with(0x0010'0000'8000'0200);
  EXPECT_EQ(touch(some), bytes_of(some, 1));
}

TEST_P(IoLinkerContract, TheLatestFlushCounts) {
  const PageSet pages{kOne, 0, 0xff};
  flush(pages, 1);
  flush(pages.with(0x0f), 2);
  EXPECT_EQ(touch(pages.with(0x0f)), bytes_of(pages.with(0x0f), 2));
  EXPECT_EQ(touch(pages.with(0xf0)), bytes_of(pages.with(0xf0), 1));
}

TEST_P(IoLinkerContract, BytesAreCopiedBeforeTheCallReturns) {
  const PageSet pages{kOne, 0, ~std::uint64_t{0}};
  auto bytes = bytes_of(pages, 7);
  ASSERT_TRUE(linker_->flush_page(pages, bytes.data()));
  std::fill(bytes.begin(), bytes.end(), std::byte{0});
  ASSERT_EQ(finish(*linker_, 1).size(), 1u);
  EXPECT_EQ(touch(pages), bytes_of(pages, 7));
}

TEST_P(IoLinkerContract, EachAcceptedCallCompletesOnce) {
  std::size_t accepted = 0;
  for (std::uint64_t stripe = 0; stripe < 40; ++stripe) {
    const PageSet pages{kOne, stripe, 0x1111'1111'1111'1111};
    if (linker_->flush_page(pages, bytes_of(pages, 1).data())) ++accepted;
  }
  EXPECT_EQ(accepted, 40u);
  EXPECT_EQ(finish(*linker_, accepted).size(), accepted);
  accepted = 0;
  for (std::uint64_t stripe = 0; stripe < 40; ++stripe)
    if (linker_->first_touch({kOne, stripe, 0x1111'1111'1111'1111})) ++accepted;
  const auto finished = finish(*linker_, accepted);
  ASSERT_EQ(finished.size(), 40u);
  for (const Finished& each : finished) EXPECT_EQ(each.bytes, bytes_of(each.completion.pages, 1));
  std::vector<IoCompletion> none;
  linker_->poll(none);
  EXPECT_TRUE(none.empty());
}

TEST_P(IoLinkerContract, TooMuchUnderWayIsRefusedNotQueued) {
  const PageSet pages{kOne, 0, 1};
  const auto bytes = bytes_of(pages, 1);
  std::size_t accepted = 0;
  bool refused = false;
  while (!refused && accepted < 100'000) {
    const Status status = linker_->flush_page(pages, bytes.data());
    if (status) {
      ++accepted;
      continue;
    }
    refused = true;
    EXPECT_EQ(status.error().code, ErrorCode::kUnavailable);
  }
  EXPECT_TRUE(refused);
  EXPECT_EQ(finish(*linker_, accepted).size(), accepted);
  EXPECT_TRUE(linker_->flush_page(pages, bytes.data()));  // there is room again
  finish(*linker_, 1);
}

TEST_P(IoLinkerContract, ContainersAreKeptApart) {
  const PageSet one{kOne, 5, 0xff};
  const PageSet two{kTwo, 5, 0xff};
  flush(one, 1);
  flush(two, 1);
  EXPECT_EQ(touch(one), bytes_of(one, 1));
  EXPECT_EQ(touch(two), bytes_of(two, 1));
}

TEST_P(ForgetfulIoLinkerContract, PagesTheDeviceHasNotAreNotFound) {
  const PageSet pages{kOne, 5, 0b0110};
  EXPECT_EQ(linker_->first_touch(pages).error().code, ErrorCode::kNotFound);
  flush(pages, 1);
  EXPECT_EQ(linker_->first_touch(pages.with(0b0111)).error().code, ErrorCode::kNotFound);
}

TEST_P(ForgetfulIoLinkerContract, FreedAndInvalidatedPagesAreForgotten) {
  const PageSet pages{kOne, 5, 0b1111};
  flush(pages, 1);
  linker_->free_page(pages.with(0b0001));
  linker_->invalidate_page(pages.with(0b0010));
  EXPECT_EQ(linker_->held(pages).mask, 0b1100u);
  EXPECT_EQ(touch(pages.with(0b1100)), bytes_of(pages.with(0b1100), 1));
  linker_->free_page(pages);
  linker_->free_page(pages);
  EXPECT_EQ(linker_->held(pages).mask, 0u);
}

TEST_P(ForgetfulIoLinkerContract, PageFreedWhileItIsFlushedStaysForgotten) {
  const PageSet pages{kOne, 5, 0b11};
  ASSERT_TRUE(linker_->flush_page(pages, bytes_of(pages, 1).data()));
  linker_->free_page(pages.with(0b01));
  ASSERT_EQ(finish(*linker_, 1).size(), 1u);
  EXPECT_EQ(linker_->held(pages).mask, 0b10u);
  // Freed and flushed again before the first flush ended: the second one counts.
  ASSERT_TRUE(linker_->flush_page(pages, bytes_of(pages, 2).data()));
  linker_->free_page(pages);
  ASSERT_TRUE(linker_->flush_page(pages, bytes_of(pages, 3).data()));
  ASSERT_EQ(finish(*linker_, 2).size(), 2u);
  EXPECT_EQ(touch(pages), bytes_of(pages, 3));
}

TEST_P(ForgetfulIoLinkerContract, FreedContainerIsForgottenAltogether) {
  for (std::uint64_t stripe = 0; stripe < 8; ++stripe) {
    flush({kOne, stripe, 0xffff}, 1);
    flush({kTwo, stripe, 0xffff}, 1);
  }
  ASSERT_TRUE(linker_->flush_page({kOne, 9, 1}, bytes_of({kOne, 9, 1}, 1).data()));
  linker_->free_container(kOne);
  finish(*linker_, 1);
  EXPECT_EQ(linker_->held({kOne, 9, 1}).mask, 0u);
  EXPECT_EQ(linker_->held_pages(), 8 * 16u);
  EXPECT_EQ(touch({kTwo, 3, 0xff}), bytes_of({kTwo, 3, 0xff}, 1));
}

TEST_P(ForgetfulIoLinkerContract, PageFreedWhileItIsReadIsReadAsItWas) {
  const PageSet pages{kOne, 0, 0xff};
  flush(pages, 1);
  ASSERT_TRUE(linker_->first_touch(pages));
  linker_->free_page(pages);
  const PageSet others{kTwo, 0, 0xff};  // may take the place of the freed ones
  ASSERT_TRUE(linker_->flush_page(others, bytes_of(others, 1).data()));
  const auto finished = finish(*linker_, 2);
  ASSERT_EQ(finished.size(), 2u);
  EXPECT_TRUE(finished[0].completion.status);
  EXPECT_EQ(finished[0].bytes, bytes_of(pages, 1));
}

TEST_P(IoLinkerContract, MayBeDestroyedWithWorkUnderWay) {
  for (std::uint64_t stripe = 0; stripe < 20; ++stripe) {
    const PageSet pages{kOne, stripe, ~std::uint64_t{0}};
    ASSERT_TRUE(linker_->flush_page(pages, bytes_of(pages, 1).data()));
  }
  linker_.reset();
}

}  // namespace gob::test
