#include "libgob/transport/verbs_queue.h"

#include <fcntl.h>

#include <algorithm>
#include <utility>

namespace gob {
namespace {

constexpr unsigned kMostChunks = 256;
constexpr unsigned kFewestChunks = 16;
constexpr std::size_t kChunksOfAllLinks = 12000;
// Acknowledgements without a message: at most one for each quarter of the chunks or eighth of the
// ring that the other side can have sent meanwhile.
constexpr unsigned kAcknowledgements = 16;

}  // namespace

Result<std::unique_ptr<VerbsQueue>> VerbsQueue::open(std::shared_ptr<VerbsDevice> device,
                                                     std::size_t nodes) {
  std::unique_ptr<VerbsQueue> made(new VerbsQueue);
  made->device_ = std::move(device);
  VerbsLimits& limits = made->limits_;
  limits.chunks = static_cast<unsigned>(std::clamp<std::size_t>(
      kChunksOfAllLinks / std::max<std::size_t>(nodes, 1), kFewestChunks, kMostChunks));
  limits.receives = limits.chunks + kAcknowledgements;
  limits.sends = limits.receives + kAcknowledgements;
  const std::size_t wanted = limits.completions() * std::max<std::size_t>(nodes, 2);
  const auto entries = std::min<std::size_t>(wanted, made->device_->max_completions());
  made->max_links_ = static_cast<unsigned>(entries / limits.completions());

  made->notifier_ = ::ibv_create_comp_channel(made->device_->context());
  if (made->notifier_ == nullptr) {
    return system_error("RDMA device " + made->device_->name() + ": no completion notifier");
  }
  const int flags = ::fcntl(made->notifier_->fd, F_GETFL);
  if (flags < 0 || ::fcntl(made->notifier_->fd, F_SETFL, flags | O_NONBLOCK) != 0) {
    return system_error("RDMA device " + made->device_->name() + ": its notifier would block");
  }
  made->queue_ = ::ibv_create_cq(made->device_->context(), static_cast<int>(entries), nullptr,
                                 made->notifier_, 0);
  if (made->queue_ == nullptr) {
    return system_error("RDMA device " + made->device_->name() + ": no completion queue of " +
                        std::to_string(entries) + " entries");
  }
  return made;
}

VerbsQueue::~VerbsQueue() {
  if (queue_ != nullptr) ::ibv_destroy_cq(queue_);
  if (notifier_ != nullptr) ::ibv_destroy_comp_channel(notifier_);
}

Status VerbsQueue::reserve() {
  if (links_ >= max_links_) {
    return make_error(ErrorCode::kNoSpace,
                      "RDMA device " + device_->name() +
                          ": its completion queues are too short for more than " +
                          std::to_string(max_links_) + " peers");
  }
  ++links_;
  return {};
}

Status VerbsQueue::arm() {
  if (armed_) return {};
  if (const int error = ::ibv_req_notify_cq(queue_, 0); error != 0) {
    return make_error(ErrorCode::kSystem,
                      "RDMA device " + device_->name() + ": no notification of completions", error);
  }
  armed_ = true;
  return {};
}

void VerbsQueue::take_notification() {
  ibv_cq* queue = nullptr;
  void* context = nullptr;
  if (::ibv_get_cq_event(notifier_, &queue, &context) != 0) return;
  ::ibv_ack_cq_events(queue, 1);
  armed_ = false;
}

}  // namespace gob
