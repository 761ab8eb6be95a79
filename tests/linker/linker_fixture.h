// One shard's map linker over one container, with the test in the place of the core.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>

#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "libgob/linker/map_linker.h"
#include "tests/linker/test_program.h"

namespace gob::test {

class LinkerTest : public ::testing::Test {
 protected:
  static constexpr ContainerId kContainer{1};

  LinkerTest() : linker_(make_linker()) {
    auto pool = FramePool::create("linker-test", 256);
    if (!pool) throw std::runtime_error(pool.error().message());
    pool_ = std::make_shared<const FramePool>(std::move(pool).value());
    linker_.add_container(kContainer, pool_);
  }

  static MapLinker make_linker() {
    auto linker = MapLinker::create();
    if (!linker) throw std::runtime_error(linker.error().message());
    return std::move(linker).value();
  }

  std::unique_ptr<TestProgram> program(TestProgram::Config config = {}) {
    config.id = ++last_id_;
    auto made = std::make_unique<TestProgram>(*pool_, config);
    const Status added = linker_.add_mapping(made->mapping());
    if (!added) throw std::runtime_error(added.error().message());
    return made;
  }

  static PageSet pages(std::uint64_t first, unsigned count = 1) {
    return {kContainer, first / kStripePages,
            (~std::uint64_t{0} >> (kStripePages - count)) << (first % kStripePages)};
  }

  // A page that begins with `value`.
  static std::vector<std::byte> page_of_value(std::uint64_t value, unsigned count = 1) {
    std::vector<std::byte> bytes(count * kPageSize);
    for (unsigned i = 0; i < count; ++i)
      std::memcpy(bytes.data() + i * kPageSize, &value, sizeof value);
    return bytes;
  }
  Status install(PageSet set, std::uint64_t value, Access access) {
    const auto bytes = page_of_value(value, set.size());
    return linker_.install(set, PageBytes{set, bytes.data()}, access);
  }
  std::uint64_t word_of_frame(std::uint64_t page) {
    std::vector<std::byte> bytes(kPageSize);
    EXPECT_TRUE(linker_.load(pages(page), bytes.data()));
    std::uint64_t value = 0;
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }

  // Whether a fault comes within the time.
  static bool fault_comes(TestProgram& program, int timeout_ms) {
    pollfd ready = {program.mapping()->uffd(), POLLIN, 0};
    return ::poll(&ready, 1, timeout_ms) == 1;
  }
  // The next fault of the program, noted.
  Fault fault(TestProgram& program) {
    if (!fault_comes(program, 10'000)) throw std::runtime_error("no fault came");
    std::vector<Fault> faults;
    const Status drained = program.mapping()->drain(faults);
    if (!drained) throw std::runtime_error(drained.error().message());
    if (faults.size() != 1) throw std::runtime_error("not one fault");
    linker_.note(faults[0], ++now_);
    return faults[0];
  }
  // The answer of a program that should need nothing more.
  static Reply answer(TestProgram& program) {
    const auto reply = program.reply();
    if (!reply) throw std::runtime_error("the program does not answer");
    return *reply;
  }
  Reply run(TestProgram& program, const Command& command) {
    program.start(command);
    return answer(program);
  }

  std::shared_ptr<const FramePool> pool_;
  MapLinker linker_;
  std::uint64_t now_ = 0;
  std::uint64_t last_id_ = 0;
};

}  // namespace gob::test
