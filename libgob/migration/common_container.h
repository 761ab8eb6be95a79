// CommonContainer: a container in which processes have memory in common. Each keeper that has it in
// use holds a lock with a number, so that the last of them, on whatever node, removes it, whichever
// pages are left of it. Used by one thread.
#pragma once

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
  static Result<CommonContainer> create(const gobelins::Connection& gob, const std::string& name,
                                        std::uint64_t bytes);
  static Result<CommonContainer> open(const gobelins::Connection& gob, const std::string& name);
  CommonContainer(CommonContainer&&) noexcept = default;
  CommonContainer& operator=(CommonContainer&&) = delete;

  [[nodiscard]] const std::string& name() const { return name_; }
  // This connection's program uses it from now on, as long as it lives.
  Status enter();
  // It does not any more. If nobody does, the container is gone.
  Status leave();
  // Brings over what `file` has, for the first time or again; its size is that of the container.
  // Bytes that were copied.
  Result<std::uint64_t> copy(int file);
  void copied() { memory_ = gobelins::Mapping(); }  // it will not be called again

 private:
  CommonContainer(gobelins::Connection gob, std::string name)
      : gob_(std::move(gob)), name_(std::move(name)) {}
  gobelins::Mutex life_of(int keeper);

  gobelins::Connection gob_;
  std::string name_;
  gobelins::Mapping memory_;
  std::optional<gobelins::Mutex> life_;  // held
  // Of memory_, what was not all holes when it was looked at: begin and end.
  std::vector<std::pair<std::uint64_t, std::uint64_t>> filled_;
};

}  // namespace gob::migration
