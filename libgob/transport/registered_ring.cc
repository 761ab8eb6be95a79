#include "libgob/transport/registered_ring.h"

#include <sys/mman.h>

#include <utility>

#include "libgob/base/size.h"

namespace gob {

Status RegisteredRing::open(VerbsDevice& device, std::size_t bytes, int access) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return system_error("no memory of " + format_size(bytes));
  bytes_ = {static_cast<std::byte*>(memory), bytes};
  region_ = ::ibv_reg_mr(device.domain(), memory, bytes, access);
  if (region_ == nullptr) {
    return system_error("RDMA device " + device.name() + ": cannot register " + format_size(bytes) +
                        " (is the limit of locked memory, ulimit -l, high enough?)");
  }
  return {};
}

void RegisteredRing::deregister() {
  if (ibv_mr* region = std::exchange(region_, nullptr)) ::ibv_dereg_mr(region);
}

RegisteredRing::~RegisteredRing() {
  deregister();
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

}  // namespace gob
