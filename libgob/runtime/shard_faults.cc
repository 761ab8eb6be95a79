// Programs' side of a shard: faults come in, streams are recognised, the core is told.
#include <spdlog/spdlog.h>

#include "libgob/runtime/clock.h"
#include "libgob/runtime/shard.h"

namespace gob {

void Shard::drain_mapping(MappingId id) {
  const auto found = polled_.find(id);
  if (found == polled_.end()) return;
  PolledMapping& polled = found->second;
  faults_.clear();
  if (const Status status = polled.mapping->drain(faults_); !status) {
    spdlog::warn("a program's mapping is given up: {}", status.error().message());
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, polled.mapping->uffd(), nullptr);
    return;
  }
  for (const Fault& fault : faults_) {
    const StreamDetector::Advice advice =
        polled.streams.on_fault(fault.page.page, fault.access, polled.mapping->config());
  }
}

}  // namespace gob
