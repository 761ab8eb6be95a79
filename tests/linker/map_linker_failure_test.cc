// The map linker when pages cannot be had, and when programs do what they like with their mappings.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "libgob/linker/uffd_abi.h"
#include "libgob/linker/uffd_client.h"
#include "tests/linker/linker_fixture.h"

namespace gob::test {
namespace {

using MapLinkerFailureTest = LinkerTest;

TEST_F(MapLinkerFailureTest, RefusedPageIsSigbusToAllWhoWait) {
  auto first = program();
  auto second = program();
  first->start({Op::kRead, 0});
  second->start({Op::kWrite, 0, 1});
  fault(*first);
  fault(*second);
  ASSERT_TRUE(linker_.refuse(pages(0)));
  EXPECT_EQ(answer(*first).error, kSigbus);
  EXPECT_EQ(answer(*second).error, kSigbus);
  EXPECT_EQ(linker_.waiting(), 0u);
  EXPECT_EQ(linker_.counters().refused_pages, 2u);
  // It stays so, with no fault that anyone has to answer.
  EXPECT_EQ(run(*first, {Op::kRead, 0}).error, kSigbus);
  // Neighbours are well.
  first->start({Op::kRead, 1});
  fault(*first);
  ASSERT_TRUE(install(pages(1), 5, Access::kRead));
  EXPECT_EQ(answer(*first).result, 5);
}

TEST_F(MapLinkerFailureTest, RefusedKernelAccessIsEfault) {
  auto user = program();
  user->start({Op::kReadInto, 0, 1});
  fault(*user);
  ASSERT_TRUE(linker_.refuse(pages(0)));
  const Reply reply = answer(*user);
  EXPECT_EQ(reply.result, -1);
  EXPECT_EQ(reply.error, EFAULT);
}

TEST_F(MapLinkerFailureTest, ProgramMayTryAgainAfterDontNeed) {
  auto user = program();
  user->start({Op::kRead, 0});
  fault(*user);
  ASSERT_TRUE(linker_.refuse(pages(0)));
  EXPECT_EQ(answer(*user).error, kSigbus);
  EXPECT_EQ(run(*user, {Op::kDontNeed, 0, 1}).result, 0);
  user->start({Op::kRead, 0});
  fault(*user);
  ASSERT_TRUE(install(pages(0), 6, Access::kRead));
  EXPECT_EQ(answer(*user).result, 6);
}

TEST_F(MapLinkerFailureTest, RefusedUpgradeIsSigbusAndLeavesTheCopyToOthers) {
  auto reader = program();
  auto writer = program();
  reader->start({Op::kRead, 3});
  writer->start({Op::kRead, 3});
  fault(*reader);
  fault(*writer);
  ASSERT_TRUE(install(pages(3), 8, Access::kRead));
  answer(*reader);
  answer(*writer);
  writer->start({Op::kWrite, 3, 9});
  fault(*writer);
  ASSERT_TRUE(linker_.refuse(pages(3)));
  EXPECT_EQ(answer(*writer).error, kSigbus);
  EXPECT_EQ(word_of_frame(3), 8u);
  reader->start({Op::kRead, 3});
  EXPECT_EQ(fault(*reader).kind, FaultKind::kMinor);
  ASSERT_TRUE(linker_.map(pages(3), Access::kRead));
  EXPECT_EQ(answer(*reader).result, 8);
  // Its right to read has not become a right to write on the way.
  reader->start({Op::kWrite, 3, 1});
  EXPECT_EQ(fault(*reader).kind, FaultKind::kWriteProtect);
}

TEST_F(MapLinkerFailureTest, RefusalWorksWhereAProtectionIsRemembered) {
  auto user = program();
  user->start({Op::kRead, 2});
  fault(*user);
  ASSERT_TRUE(install(pages(2), 8, Access::kRead));
  answer(*user);
  ASSERT_TRUE(linker_.invalidate(pages(2)));
  user->start({Op::kRead, 2});
  fault(*user);
  ASSERT_TRUE(linker_.refuse(pages(2)));
  EXPECT_EQ(answer(*user).error, kSigbus);
  EXPECT_FALSE(pool_->resident(PageIndex{2}));
}

TEST_F(MapLinkerFailureTest, ProgramThatZapsItsMappingFaultsOnFramesInPlace) {
  auto user = program();
  user->start({Op::kRead, 2});
  fault(*user);
  ASSERT_TRUE(install(pages(2), 8, Access::kRead));
  answer(*user);
  EXPECT_EQ(run(*user, {Op::kDontNeed, 0, 64}).result, 0);
  user->start({Op::kRead, 2});
  EXPECT_EQ(fault(*user).kind, FaultKind::kMinor);
  ASSERT_TRUE(linker_.map(pages(2), Access::kRead));
  EXPECT_EQ(answer(*user).result, 8);
  user->start({Op::kWrite, 2, 1});
  EXPECT_EQ(fault(*user).kind, FaultKind::kWriteProtect);
}

TEST_F(MapLinkerFailureTest, FrameRemovedByAProgramIsSigbusNotZeros) {
  auto vandal = program();
  auto victim = program();
  vandal->start({Op::kWrite, 2, 5});
  fault(*vandal);
  ASSERT_TRUE(linker_.install_zero(pages(2), Access::kWrite));
  answer(*vandal);
  EXPECT_EQ(run(*vandal, {Op::kRemove, 2}).result, 0);
  victim->start({Op::kRead, 2});
  fault(*victim);
  ASSERT_TRUE(linker_.map(pages(2), Access::kRead));  // the core believes that it is here
  EXPECT_EQ(answer(*victim).error, kSigbus);
  EXPECT_EQ(linker_.counters().vanished_frames, 1u);
}

TEST_F(MapLinkerFailureTest, FrameThatExistsAlreadyIsOverwritten) {
  auto user = program();
  user->start({Op::kRead, 2});
  fault(*user);
  ASSERT_TRUE(pool_->store(PageIndex{2}, 1, page_of_value(1).data()));
  ASSERT_TRUE(install(pages(2), 2, Access::kRead));
  EXPECT_EQ(answer(*user).result, 2);
}

TEST_F(MapLinkerFailureTest, HolesInAMappingDoNotStopARun) {
  auto user = program();
  EXPECT_EQ(run(*user, {Op::kUnmap, 3, 2}).result, 0);
  linker_.expect(user->mapping()->id(), pages(0, 8), 0);
  ASSERT_TRUE(install(pages(0, 8), 2, Access::kWrite));
  EXPECT_EQ(run(*user, {Op::kReadRange, 0, 3}).result, 6);
  EXPECT_EQ(run(*user, {Op::kReadRange, 5, 3}).result, 6);
  EXPECT_EQ(pool_->resident_count().value(), 8u);
  ASSERT_TRUE(linker_.downgrade(pages(0, 8)));
  for (const std::uint32_t page : {0u, 7u}) {
    user->start({Op::kWrite, page, 1});
    EXPECT_EQ(fault(*user).kind, FaultKind::kWriteProtect);
    ASSERT_TRUE(linker_.map(pages(page), Access::kWrite));
    answer(*user);
  }
}

TEST_F(MapLinkerFailureTest, KilledProgramHurtsNobody) {
  auto victim = program();
  auto other = program();
  victim->start({Op::kWrite, 0, 4});
  fault(*victim);
  ASSERT_TRUE(linker_.install_zero(pages(0), Access::kWrite));
  answer(*victim);
  victim->start({Op::kRead, 1});
  other->start({Op::kRead, 1});
  fault(*victim);
  fault(*other);
  linker_.expect(victim->mapping()->id(), pages(2, 4), 0);
  victim->kill();
  ASSERT_TRUE(install(pages(1), 3, Access::kRead));
  EXPECT_EQ(answer(*other).result, 3);
  EXPECT_TRUE(victim->mapping()->dead());
  ASSERT_TRUE(install(pages(2, 4), 3, Access::kWrite));
  ASSERT_TRUE(linker_.downgrade(pages(0, 6)));
  EXPECT_EQ(word_of_frame(0), 4u);
  ASSERT_TRUE(linker_.refuse(pages(0, 6)));
  linker_.remove_mapping(victim->mapping()->id());
  ASSERT_TRUE(linker_.invalidate(pages(0, 6)));
}

TEST_F(MapLinkerFailureTest, RemovedMappingIsForgotten) {
  auto user = program();
  user->start({Op::kRead, 1});
  fault(*user);
  EXPECT_EQ(linker_.waiting(), 1u);
  linker_.expect(user->mapping()->id(), pages(1, 3), 0);
  linker_.remove_mapping(user->mapping()->id());
  EXPECT_EQ(linker_.waiting(), 0u);
  EXPECT_FALSE(linker_.note({user->mapping()->id(), {kContainer, PageIndex{1}}}, 1));
  ASSERT_TRUE(install(pages(1, 3), 3, Access::kRead));
  EXPECT_EQ(linker_.counters().copied_pages, 0u);
}

TEST_F(MapLinkerFailureTest, DroppedContainerFreesItsFramesAndStillRefusesFaults) {
  auto user = program();
  user->start({Op::kWrite, 1, 1});
  fault(*user);
  ASSERT_TRUE(linker_.install_zero(pages(1), Access::kWrite));
  answer(*user);
  ASSERT_TRUE(linker_.drop_container(kContainer));
  EXPECT_EQ(pool_->resident_count().value(), 0u);
  user->start({Op::kRead, 1});
  fault(*user);
  ASSERT_TRUE(linker_.refuse(pages(1)));
  EXPECT_EQ(answer(*user).error, kSigbus);
  linker_.remove_mapping(user->mapping()->id());
  EXPECT_FALSE(linker_.downgrade(pages(1)));  // nothing is left of it
  EXPECT_TRUE(linker_.refuse(pages(1)));      // so nobody can wait for it
}

TEST_F(MapLinkerFailureTest, MappingBeyondTheContainerIsRefused) {
  TestProgram outside(*pool_, {.first = PageIndex{200}, .pages = 57, .id = 50});
  const Status added = linker_.add_mapping(outside.mapping());
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code, ErrorCode::kInvalidArgument);
  TestProgram unknown(*pool_, {.id = 51, .container = 77});
  EXPECT_FALSE(linker_.add_mapping(unknown.mapping()));
}

TEST_F(MapLinkerFailureTest, ForkedChildHasNoMapping) {
  auto user = program();
  EXPECT_EQ(run(*user, {Op::kFork}).result, 1);
}

TEST_F(MapLinkerFailureTest, ProgramCannotBlockTheDaemonsReads) {
  auto user = program();
  EXPECT_EQ(run(*user, {Op::kClearNonBlock}).result, 0);
  std::vector<Fault> faults;
  ASSERT_TRUE(user->mapping()->drain(faults));  // would stand still if it could
  EXPECT_TRUE(faults.empty());
}

TEST_F(MapLinkerFailureTest, DescriptorsThatAreNoLinkedUserfaultfdAreRefused) {
  const Mapping::Config config{MappingId{9}, kContainer, 1 << 20, PageIndex{0}, 64, true};
  const auto refused = [&](UniqueFd fd) {
    const auto mapping = Mapping::create(std::move(fd), config);
    return !mapping && mapping.error().code == ErrorCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused(UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC))));
  EXPECT_TRUE(refused(UniqueFd()));
  // Before its handshake, and with events enabled.
  EXPECT_TRUE(refused(UniqueFd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC)))));
  UniqueFd with_events(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC)));
  uffdio_api api = {};
  api.api = UFFD_API;
  api.features = kUffdFeatures | UFFD_FEATURE_EVENT_UNMAP;
  ASSERT_EQ(0, ::ioctl(with_events.get(), UFFDIO_API, &api));
  EXPECT_TRUE(refused(std::move(with_events)));
  auto good = create_uffd(-1);
  ASSERT_TRUE(good);
  EXPECT_TRUE(Mapping::create(std::move(good).value(), config));
}

TEST_F(MapLinkerFailureTest, MappingsOfImpossibleShapeAreRefused) {
  const auto refused = [&](std::uint64_t address, std::uint64_t first, std::uint64_t count) {
    auto uffd = create_uffd(-1);
    return !Mapping::create(std::move(uffd).value(),
                            {MappingId{9}, kContainer, address, PageIndex{first}, count, true});
  };
  EXPECT_TRUE(refused(4097, 0, 1));
  EXPECT_TRUE(refused(0, 0, 1));
  EXPECT_TRUE(refused(4096, 0, 0));
  EXPECT_TRUE(refused(4096, 0, ~std::uint64_t{0}));
  EXPECT_TRUE(refused(~std::uint64_t{0} - 4095, 0, 2));
  EXPECT_TRUE(refused(4096, ~std::uint64_t{0}, 2));
}

TEST(UffdClientTest, DeviceServesAsWellAsTheSystemCall) {
  const UniqueFd device(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(device) << "/dev/userfaultfd: " << std::strerror(errno);
  EXPECT_TRUE(create_uffd(device.get()));
  EXPECT_TRUE(create_uffd(-1));
  EXPECT_TRUE(check_uffd_support());
  // A device that is none is no obstacle where the system call works.
  const UniqueFd wrong(::open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_TRUE(create_uffd(wrong.get()));
}

// As an ordinary user, in a process of its own: the exit status tells which expectation failed.
TEST(UffdClientTest, OrdinaryUserNeedsTheDeviceAndIsToldSo) {
  const UniqueFd device(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) ::_exit(1);
    const auto alone = create_uffd(-1);
    if (!alone) {  // vm.unprivileged_userfaultfd is 0
      if (alone.error().code != ErrorCode::kPermissionDenied) ::_exit(2);
      const std::string words = alone.error().message();
      if (words.find("vm.unprivileged_userfaultfd") == std::string::npos) ::_exit(3);
      if (words.find("/dev/userfaultfd") == std::string::npos) ::_exit(4);
    }
    if (device && !create_uffd(device.get())) ::_exit(5);
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(UffdClientTest, UnlinkableMappingIsAnErrorWithWords) {
  auto uffd = create_uffd(-1);
  ASSERT_TRUE(uffd);
  const Status linked = register_mapping(uffd->get(), reinterpret_cast<void*>(4096), kPageSize);
  ASSERT_FALSE(linked);
  EXPECT_NE(linked.error().message().find("memfd"), std::string::npos);
}

}  // namespace
}  // namespace gob::test
