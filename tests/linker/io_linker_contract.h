// What every I/O linker must do, whatever its device. A test file instantiates the suite with a
// factory of its linker: INSTANTIATE_TEST_SUITE_P(Memory, IoLinkerContract, Values(factory)).
// Linkers whose device is only a place for pages without a frame, and forgets those that are freed
// or invalidated, instantiate ForgetfulIoLinkerContract as well.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "libgob/linker/io_linker.h"

namespace gob::test {

struct IoLinkerFactory {
  std::string name;
  // An empty linker whose device has room for 4096 pages or more.
  std::function<std::unique_ptr<IoLinker>()> make;
};

// Pages of bytes that differ for each page and version.
std::vector<std::byte> bytes_of(PageSet pages, unsigned version);
// Waits for `count` completions; fails the test if they do not come within 10 s.
struct Finished {
  IoCompletion completion;
  std::vector<std::byte> bytes;  // a copy
};
std::vector<Finished> finish(IoLinker& linker, std::size_t count);

class IoLinkerContract : public ::testing::TestWithParam<IoLinkerFactory> {
 protected:
  IoLinkerContract() : linker_(GetParam().make()) {}
  void flush(PageSet pages, unsigned version);
  std::vector<std::byte> touch(PageSet pages);

  std::unique_ptr<IoLinker> linker_;
};

class ForgetfulIoLinkerContract : public IoLinkerContract {};

}  // namespace gob::test
