// RegisteredRing: page-aligned memory that an RDMA device may read or write. The registration can
// be given up before the memory, which then is just memory. One thread owns it.
#pragma once

#include <infiniband/verbs.h>

#include <cstddef>
#include <span>

#include "libgob/base/result.h"
#include "libgob/transport/verbs_device.h"

namespace gob {

class RegisteredRing {
 public:
  RegisteredRing() = default;
  ~RegisteredRing();
  RegisteredRing(const RegisteredRing&) = delete;
  RegisteredRing& operator=(const RegisteredRing&) = delete;

  // `access`: of enum ibv_access_flags. Once.
  Status open(VerbsDevice& device, std::size_t bytes, int access);
  void deregister();

  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }
  [[nodiscard]] const ibv_mr* region() const { return region_; }  // null once deregistered

 private:
  std::span<std::byte> bytes_;
  ibv_mr* region_ = nullptr;
};

}  // namespace gob
