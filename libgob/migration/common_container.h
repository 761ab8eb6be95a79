// CommonContainer: a container in which processes have memory in common. Each keeper that has it in
// use holds a lock with a number, so that the last of them, on whatever node, removes it, whichever
// pages are left of it. Used by one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <gob.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "libgob/base/result.h"

namespace gob::migration {

class CommonContainer {
 public:
  // Entered. On an error nothing is left of it.
  static Result<CommonContainer> create(const gobelins::Connection& gob, const std::string& name,
                                        std::uint64_t bytes);
  static Result<CommonContainer> open(const gobelins::Connection& gob, const std::string& name);
  CommonContainer(CommonContainer&&) noexcept = default;
  CommonContainer& operator=(CommonContainer&&) = delete;

  [[nodiscard]] const std::string& name() const { return name_; }
  // This connection's program uses it from now on, as long as it lives.
  Status enter();
  // Instead of a program that has died, whose lock had that number: waits until gobd knows of its
  // end, or whoever leaves last would still see it there, and leave the container to it. kTimedOut:
  // another program has got the number meanwhile, and will leave.
  Status succeed(int keeper);
  // The number of the lock, once entered; of whoever makes the container it is kMaker.
  static constexpr int kMaker = 0;
  [[nodiscard]] int keeper() const { return keeper_; }
  // It does not any more. If nobody does, the container is gone.
  Status leave();
  // By anybody: if no program uses it, it is gone. False: one does, or its list was locked for all
  // of `limit`, or somebody else has removed it.
  static Result<bool> remove_unused(const gobelins::Connection& gob, const std::string& name,
                                    std::chrono::milliseconds limit);
  // Brings over what `file` has, for the first time or again; its size is that of the container.
  // Bytes that were copied.
  Result<std::uint64_t> copy(int file);
  void copied() { memory_ = gobelins::Mapping(); }  // it will not be called again

 private:
  CommonContainer(gobelins::Connection gob, std::string name)
      : gob_(std::move(gob)), name_(std::move(name)) {}
  gobelins::Mutex life_of(int keeper);
  Status take_place();
  Result<bool> remove_if_unused();

  gobelins::Connection gob_;
  std::string name_;
  gobelins::Mapping memory_;
  std::optional<gobelins::Mutex> life_;  // held
  int keeper_ = -1;
  // Of memory_, what was not all holes when it was looked at: begin and end.
  std::vector<std::pair<std::uint64_t, std::uint64_t>> filled_;
};

}  // namespace gob::migration
