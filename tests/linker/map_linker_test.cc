// The map linker against the real kernel: what programs see of installs, maps, downgrades,
// invalidations.
#include "libgob/linker/map_linker.h"

#include <sys/uio.h>

#include <thread>

#include "libgob/linker/stream_detector.h"
#include "tests/linker/linker_fixture.h"

namespace gob::test {
namespace {

using MapLinkerTest = LinkerTest;

TEST_F(MapLinkerTest, ReadFaultIsAnsweredWithBytes) {
  auto reader = program();
  reader->start({Op::kRead, 5});
  const Fault seen = fault(*reader);
  EXPECT_EQ(seen.page, (PageId{kContainer, PageIndex{5}}));
  EXPECT_EQ(seen.access, Access::kRead);
  EXPECT_EQ(seen.kind, FaultKind::kMissing);
  ASSERT_TRUE(install(pages(5), 4711, Access::kRead));
  EXPECT_EQ(answer(*reader).result, 4711);
  EXPECT_EQ(linker_.waiting(), 0u);
  EXPECT_EQ(linker_.counters().copied_pages, 1u);
  EXPECT_EQ(run(*reader, {Op::kRead, 5}).result, 4711);
}

TEST_F(MapLinkerTest, WriteFaultThenReadsNeedNothingMore) {
  auto writer = program();
  writer->start({Op::kWrite, 0, 17});
  const Fault seen = fault(*writer);
  EXPECT_EQ(seen.access, Access::kWrite);
  EXPECT_EQ(seen.kind, FaultKind::kMissing);
  ASSERT_TRUE(linker_.install_zero(pages(0), Access::kWrite));
  EXPECT_EQ(answer(*writer).error, 0);
  EXPECT_EQ(run(*writer, {Op::kRead, 0}).result, 17);
  EXPECT_EQ(word_of_frame(0), 17u);
}

TEST_F(MapLinkerTest, ZeroPageForReadingFaultsOnWrite) {
  auto both = program();
  both->start({Op::kRead, 1});
  fault(*both);
  ASSERT_TRUE(linker_.install_zero(pages(1), Access::kRead));
  EXPECT_EQ(answer(*both).result, 0);
  both->start({Op::kWrite, 1, 3});
  EXPECT_EQ(fault(*both).kind, FaultKind::kWriteProtect);
  ASSERT_TRUE(linker_.map(pages(1), Access::kWrite));
  EXPECT_EQ(answer(*both).error, 0);
}

TEST_F(MapLinkerTest, UpgradeOfAReadableCopy) {
  auto both = program();
  both->start({Op::kRead, 2});
  fault(*both);
  ASSERT_TRUE(install(pages(2), 9, Access::kRead));
  EXPECT_EQ(answer(*both).result, 9);
  both->start({Op::kWrite, 2, 10});
  const Fault seen = fault(*both);
  EXPECT_EQ(seen.kind, FaultKind::kWriteProtect);
  EXPECT_EQ(seen.access, Access::kWrite);
  EXPECT_FALSE(both->reply(50));  // it really waits
  ASSERT_TRUE(linker_.map(pages(2), Access::kWrite));
  EXPECT_EQ(answer(*both).error, 0);
  EXPECT_EQ(word_of_frame(2), 10u);
}

TEST_F(MapLinkerTest, WriterGrantedAReadFaultsAnew) {
  auto writer = program();
  writer->start({Op::kWrite, 2, 10});
  EXPECT_EQ(fault(*writer).kind, FaultKind::kMissing);
  ASSERT_TRUE(install(pages(2), 9, Access::kRead));
  const Fault again = fault(*writer);
  EXPECT_EQ(again.kind, FaultKind::kWriteProtect);
  ASSERT_TRUE(linker_.map(pages(2), Access::kWrite));
  EXPECT_EQ(answer(*writer).error, 0);
}

TEST_F(MapLinkerTest, UpgradeThatLostItsCopyGetsTheWholePage) {
  auto writer = program();
  writer->start({Op::kRead, 2});
  fault(*writer);
  ASSERT_TRUE(install(pages(2), 9, Access::kRead));
  answer(*writer);
  writer->start({Op::kWrite, 2, 10});
  fault(*writer);
  ASSERT_TRUE(linker_.invalidate(pages(2)));  // another node was first
  ASSERT_TRUE(install(pages(2), 11, Access::kWrite));
  EXPECT_EQ(answer(*writer).error, 0);
  EXPECT_EQ(word_of_frame(2), 10u);
}

TEST_F(MapLinkerTest, GrantInTwoStepsStoresThenMaps) {
  auto writer = program();
  writer->start({Op::kWrite, 3, 10});
  fault(*writer);
  ASSERT_TRUE(install(pages(3), 7, Access::kNone));
  EXPECT_FALSE(writer->reply(50));
  EXPECT_EQ(linker_.waiting(), 1u);
  ASSERT_TRUE(linker_.map(pages(3), Access::kWrite));
  EXPECT_EQ(answer(*writer).error, 0);
}

TEST_F(MapLinkerTest, WriteAfterDowngradeFaultsInEveryMapping) {
  auto first = program();
  auto second = program();
  first->start({Op::kWrite, 7, 1});
  fault(*first);
  ASSERT_TRUE(linker_.install_zero(pages(7), Access::kWrite));
  answer(*first);
  second->start({Op::kWrite, 7, 2});
  EXPECT_EQ(fault(*second).kind, FaultKind::kMinor);
  ASSERT_TRUE(linker_.map(pages(7), Access::kWrite));
  answer(*second);

  ASSERT_TRUE(linker_.downgrade(pages(7)));
  EXPECT_EQ(run(*first, {Op::kRead, 7}).result, 2);
  EXPECT_EQ(run(*second, {Op::kRead, 7}).result, 2);
  first->start({Op::kWrite, 7, 3});
  EXPECT_EQ(fault(*first).kind, FaultKind::kWriteProtect);
  second->start({Op::kWrite, 7, 4});
  EXPECT_EQ(fault(*second).kind, FaultKind::kWriteProtect);
  EXPECT_EQ(word_of_frame(7), 2u);
  ASSERT_TRUE(linker_.map(pages(7), Access::kWrite));
  answer(*first);
  answer(*second);
}

TEST_F(MapLinkerTest, InvalidationRemovesThePageFromAllPrograms) {
  auto first = program();
  auto second = program();
  for (TestProgram* each : {first.get(), second.get()}) each->start({Op::kRead, 8});
  fault(*first);
  fault(*second);
  ASSERT_TRUE(install(pages(8), 5, Access::kRead));
  EXPECT_EQ(answer(*first).result, 5);
  EXPECT_EQ(answer(*second).result, 5);
  ASSERT_TRUE(linker_.invalidate(pages(8)));
  EXPECT_FALSE(pool_->resident(PageIndex{8}));
  for (TestProgram* each : {first.get(), second.get()}) each->start({Op::kRead, 8});
  EXPECT_EQ(fault(*first).kind, FaultKind::kMissing);
  EXPECT_EQ(fault(*second).kind, FaultKind::kMissing);
  ASSERT_TRUE(install(pages(8), 6, Access::kRead));
  EXPECT_EQ(answer(*first).result, 6);
  EXPECT_EQ(answer(*second).result, 6);
}

TEST_F(MapLinkerTest, ProtectionRememberedAcrossInvalidationDoesNotBlockAWrite) {
  auto writer = program();
  writer->start({Op::kRead, 4});
  fault(*writer);
  ASSERT_TRUE(install(pages(4), 5, Access::kRead));
  answer(*writer);
  ASSERT_TRUE(linker_.invalidate(pages(4)));
  writer->start({Op::kWrite, 4, 6});
  fault(*writer);
  ASSERT_TRUE(install(pages(4), 5, Access::kWrite));
  EXPECT_EQ(answer(*writer).error, 0);
  EXPECT_EQ(word_of_frame(4), 6u);
}

TEST_F(MapLinkerTest, TakeCarriesTheLastWrite) {
  auto writer = program();
  writer->start({Op::kWriteRange, 10, 4});
  for (std::uint64_t page = 10; page < 14; ++page) {
    fault(*writer);
    ASSERT_TRUE(install(pages(page), page, Access::kWrite));
  }
  answer(*writer);
  std::vector<std::byte> bytes(4 * kPageSize);
  ASSERT_TRUE(linker_.take(pages(10, 4), bytes.data()));
  for (std::uint64_t i = 0; i < 4; ++i) {
    std::uint64_t value = 0;
    std::memcpy(&value, bytes.data() + i * kPageSize, sizeof value);
    EXPECT_EQ(value, 11 + i);
  }
  EXPECT_EQ(pool_->resident_count().value(), 0u);
  writer->start({Op::kRead, 10});
  EXPECT_EQ(fault(*writer).kind, FaultKind::kMissing);
}

TEST_F(MapLinkerTest, SubRangeOfTheContainerMapsItsOwnPages) {
  auto tail = program({.first = PageIndex{100}, .pages = 20});
  tail->start({Op::kRead, 3});
  EXPECT_EQ(fault(*tail).page.page, PageIndex{103});
  ASSERT_TRUE(install(pages(103), 42, Access::kRead));
  EXPECT_EQ(answer(*tail).result, 42);
  EXPECT_EQ(tail->mapping()->mask_of_stripe(0), 0u);
  EXPECT_EQ(tail->mapping()->mask_of_stripe(1), std::uint64_t{0xfffff} << 36);
}

TEST_F(MapLinkerTest, ReadOnlyMappingIsServed) {
  auto reader = program({.writable = false, .may_write = false});
  reader->start({Op::kRead, 0});
  fault(*reader);
  ASSERT_TRUE(install(pages(0), 12, Access::kRead));
  EXPECT_EQ(answer(*reader).result, 12);
  // A write grant that another program caused does not make it writable.
  auto writer = program();
  writer->start({Op::kWrite, 0, 13});
  EXPECT_EQ(fault(*writer).kind, FaultKind::kMinor);
  ASSERT_TRUE(linker_.map(pages(0), Access::kWrite));
  answer(*writer);
  EXPECT_EQ(run(*reader, {Op::kRead, 0}).result, 13);
}

TEST_F(MapLinkerTest, WriteWithoutTheRightToWriteGetsSigbus) {
  auto cheat = program({.writable = true, .may_write = false});
  cheat->start({Op::kWrite, 0, 1});
  fault(*cheat);
  EXPECT_EQ(answer(*cheat).error, kSigbus);
  // Also where the page is mapped for reading.
  cheat->start({Op::kRead, 1});
  fault(*cheat);
  ASSERT_TRUE(install(pages(1), 5, Access::kWrite));  // granted more than this mapping may have
  EXPECT_EQ(answer(*cheat).result, 5);
  cheat->start({Op::kWrite, 1, 1});
  fault(*cheat);
  EXPECT_EQ(answer(*cheat).error, kSigbus);
  EXPECT_EQ(word_of_frame(1), 5u);
  EXPECT_EQ(linker_.counters().denied_writes, 2u);
}

TEST_F(MapLinkerTest, KernelAccessesFaultLikeTheProgramsOwn) {
  auto user = program();
  user->start({Op::kReadInto, 0, 88});
  EXPECT_EQ(fault(*user).access, Access::kWrite);
  ASSERT_TRUE(linker_.install_zero(pages(0), Access::kWrite));
  EXPECT_EQ(answer(*user).result, 8);
  EXPECT_EQ(word_of_frame(0), 88u);

  user->start({Op::kWriteOut, 1});
  EXPECT_EQ(fault(*user).access, Access::kRead);
  ASSERT_TRUE(install(pages(1), 99, Access::kRead));
  EXPECT_EQ(answer(*user).result, 99);

  // A read(2) into a page that is mapped for reading.
  user->start({Op::kReadInto, 1, 77});
  EXPECT_EQ(fault(*user).kind, FaultKind::kWriteProtect);
  ASSERT_TRUE(linker_.map(pages(1), Access::kWrite));
  EXPECT_EQ(answer(*user).result, 8);
  EXPECT_EQ(word_of_frame(1), 77u);
}

TEST_F(MapLinkerTest, AnotherProcessReadsThroughTheMapping) {
  auto user = program();
  std::uint64_t seen = 0;
  std::thread observer([&] {
    iovec here = {&seen, sizeof seen};
    iovec there = {reinterpret_cast<void*>(user->address() + 6 * kPageSize), sizeof seen};
    EXPECT_EQ(::process_vm_readv(user->pid(), &here, 1, &there, 1, 0),
              static_cast<ssize_t>(sizeof seen))
        << std::strerror(errno);
  });
  EXPECT_EQ(fault(*user).page.page, PageIndex{6});
  EXPECT_TRUE(install(pages(6), 1234, Access::kRead));
  observer.join();
  EXPECT_EQ(seen, 1234u);
}

TEST_F(MapLinkerTest, AllThreadsThatWaitWakeUp) {
  auto many = program();
  many->start({Op::kManyReads, 9, 8});
  // Their faults come when they come; none is news after the first.
  unsigned news = 0;
  std::vector<Fault> faults;
  std::size_t seen = 0;
  while (seen < 8) {
    ASSERT_TRUE(fault_comes(*many, 10'000));
    faults.clear();
    ASSERT_TRUE(many->mapping()->drain(faults));
    seen += faults.size();
    for (const Fault& each : faults) news += linker_.note(each, 1) ? 1 : 0;
  }
  EXPECT_EQ(news, 1u);
  EXPECT_EQ(linker_.waiting(), 1u);
  ASSERT_TRUE(install(pages(9), 3, Access::kRead));
  EXPECT_EQ(answer(*many).result, 24);
}

TEST_F(MapLinkerTest, RunIsMappedWithOneCallAndReadWithoutFaults) {
  auto reader = program();
  reader->start({Op::kReadRange, 0, 16});
  fault(*reader);
  linker_.expect(reader->mapping()->id(), pages(0, 16), 0);
  ASSERT_TRUE(install(pages(0, 16), 2, Access::kRead));
  EXPECT_EQ(answer(*reader).result, 32);
  EXPECT_EQ(linker_.counters().missing_faults + linker_.counters().minor_faults, 1u);
}

TEST_F(MapLinkerTest, PagesAheadArriveWithNobodyWaiting) {
  auto reader = program();
  linker_.expect(reader->mapping()->id(), pages(0, 16), pages(8).mask);
  ASSERT_TRUE(install(pages(0, 16), 2, Access::kRead));
  reader->start({Op::kReadRange, 0, 16});
  const Fault marker = fault(*reader);
  EXPECT_EQ(marker.page.page, PageIndex{8});  // kept unmapped, to tell that the stream goes on
  EXPECT_EQ(marker.kind, FaultKind::kMinor);
  ASSERT_TRUE(linker_.map(pages(8), Access::kRead));
  EXPECT_EQ(answer(*reader).result, 32);
  EXPECT_EQ(linker_.counters().ahead_pages, 15u);
}

TEST_F(MapLinkerTest, PagesAheadAreUpgradedWithTheOneWaitedFor) {
  auto both = program();
  linker_.expect(both->mapping()->id(), pages(0, 8), 0);
  ASSERT_TRUE(install(pages(0, 8), 2, Access::kRead));
  both->start({Op::kWriteRange, 0, 8});
  EXPECT_EQ(fault(*both).kind, FaultKind::kWriteProtect);
  linker_.expect(both->mapping()->id(), pages(1, 7), 0);
  ASSERT_TRUE(linker_.map(pages(0, 8), Access::kWrite));
  EXPECT_EQ(answer(*both).result, 8);
  EXPECT_EQ(linker_.counters().write_protect_faults, 1u);
  EXPECT_EQ(linker_.counters().minor_faults, 0u);
  // All of them are known to be writable: a downgrade reaches them.
  ASSERT_TRUE(linker_.downgrade(pages(0, 8)));
  both->start({Op::kWrite, 7, 1});
  EXPECT_EQ(fault(*both).kind, FaultKind::kWriteProtect);
}

TEST_F(MapLinkerTest, OverdueFaultsAreNamed) {
  auto first = program();
  auto second = program();
  first->start({Op::kRead, 1});
  fault(*first);  // at time 1
  second->start({Op::kRead, 70 - 64});
  fault(*second);  // at time 2
  std::vector<PageSet> late;
  linker_.overdue(2, late);
  ASSERT_EQ(late.size(), 1u);
  EXPECT_EQ(late[0], pages(1));
  late.clear();
  linker_.overdue(3, late);
  ASSERT_EQ(late.size(), 1u);
  EXPECT_EQ(late[0].mask, pages(1).mask | pages(6).mask);
}

TEST_F(MapLinkerTest, MoreMappingsThanExactSlotsAreAllDowngraded) {
  std::vector<std::unique_ptr<TestProgram>> programs;
  for (int i = 0; i < 10; ++i) programs.push_back(program());
  for (std::size_t i = 0; i < programs.size(); ++i) {
    programs[i]->start({Op::kWrite, 0, i});
    fault(*programs[i]);
    if (i == 0)
      ASSERT_TRUE(linker_.install_zero(pages(0), Access::kWrite));
    else
      ASSERT_TRUE(linker_.map(pages(0), Access::kWrite));
    answer(*programs[i]);
  }
  ASSERT_TRUE(linker_.downgrade(pages(0)));
  for (auto& each : programs) {
    each->start({Op::kWrite, 0, 99});
    EXPECT_EQ(fault(*each).kind, FaultKind::kWriteProtect);
  }
  EXPECT_EQ(word_of_frame(0), 9u);
  ASSERT_TRUE(linker_.map(pages(0), Access::kWrite));
  for (auto& each : programs) answer(*each);
}

// Detector, ahead list and linker together: a program reads the whole container in order while its
// pages arrive as they are asked for.
TEST_F(MapLinkerTest, StreamFaultsOnceForEachRun) {
  auto reader = program({.pages = 256});
  StreamDetector streams(kContainer, PageIndex{0}, 256, 64);
  reader->start({Op::kReadRange, 0, 256});
  std::optional<Reply> reply;
  std::vector<Fault> faults;
  unsigned seen = 0;
  while (!(reply = reader->reply(0))) {
    if (!fault_comes(*reader, 1)) continue;
    faults.clear();
    ASSERT_TRUE(reader->mapping()->drain(faults));
    for (const Fault& each : faults) {
      ++seen;
      ASSERT_TRUE(linker_.note(each, 1));
      const auto advice = streams.on_fault(each.page.page, each.access);
      const PageSet page = PageSet::of(each.page);
      ASSERT_TRUE(each.kind == FaultKind::kMissing ? install(page, 1, Access::kRead)
                                                   : linker_.map(page, Access::kRead));
      for (unsigned i = 0; i < advice.count; ++i) {
        linker_.expect(reader->mapping()->id(), advice.runs[i].pages, advice.runs[i].unmapped);
        ASSERT_TRUE(install(advice.runs[i].pages, 1, Access::kRead));
      }
    }
  }
  EXPECT_EQ(reply->result, 256);
  // Runs of 4, 8, 16, 32, 64, 64, ... A run that arrives late may cost a fault more.
  EXPECT_LE(seen, 30u);
  EXPECT_EQ(pool_->resident_count().value(), 256u);
}

// Two programs of two threads write one page as fast as they can, while it is write-protected, cut
// out, moved away and back. No write is lost, and none lands while nobody may write.
TEST_F(MapLinkerTest, NoWriteIsLostAndNoneSlipsThrough) {
  constexpr std::uint64_t kWrites = 1'000'000;
  auto first = program();
  auto second = program();
  ASSERT_TRUE(install(pages(0), 0, Access::kNone));
  std::vector<TestProgram*> working = {first.get(), second.get()};
  for (TestProgram* each : working) each->start({Op::kHammer, 0, kWrites});
  std::vector<std::byte> bytes(kPageSize);
  std::vector<Fault> faults;
  unsigned rounds = 0;
  while (!working.empty()) {
    std::vector<pollfd> ready;
    for (TestProgram* each : working) ready.push_back({each->mapping()->uffd(), POLLIN, 0});
    ::poll(ready.data(), ready.size(), 1);
    faults.clear();
    for (TestProgram* each : working) ASSERT_TRUE(each->mapping()->drain(faults));
    for (const Fault& each : faults) linker_.note(each, 1);
    if (!faults.empty()) {
      ASSERT_TRUE(linker_.map(pages(0), Access::kWrite));
    }
    std::erase_if(working, [](TestProgram* each) { return each->reply(0).has_value(); });
    switch (rounds++ % 3) {
      case 0: {
        ASSERT_TRUE(linker_.downgrade(pages(0)));
        const std::uint64_t before = word_of_frame(0);
        for (int i = 0; i < 20; ++i) ASSERT_EQ(word_of_frame(0), before);
        break;
      }
      case 1:
        ASSERT_TRUE(linker_.take(pages(0), bytes.data()));
        ASSERT_TRUE(linker_.install(pages(0), PageBytes{pages(0), bytes.data()}, Access::kWrite));
        break;
      case 2:
        ASSERT_TRUE(linker_.take(pages(0), bytes.data()));
        ASSERT_TRUE(linker_.install(pages(0), PageBytes{pages(0), bytes.data()}, Access::kRead));
        break;
    }
  }
  EXPECT_EQ(word_of_frame(0), 4 * kWrites);
  EXPECT_GT(rounds, 10u);
}

}  // namespace
}  // namespace gob::test
