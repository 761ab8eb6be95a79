// VerbsQueue: the completion queue of one channel, for all its links. Polled by the channel's
// owner; arm() makes fd() readable at the next completion. One thread owns it.
#pragma once

#include <infiniband/verbs.h>

#include <cstdint>
#include <memory>
#include <span>

#include "libgob/base/result.h"
#include "libgob/transport/verbs_device.h"

namespace gob {

// What a link may have under way, scaled so that the completions of all links fit in one queue even
// if all of them fail at once.
struct VerbsLimits {
  unsigned chunks = 0;    // writes with messages, unacknowledged
  unsigned receives = 0;  // chunks + acknowledgements that may be under way
  unsigned sends = 0;     // of the send queue
  [[nodiscard]] unsigned completions() const { return receives + sends; }
};

class VerbsQueue {
 public:
  static Result<std::unique_ptr<VerbsQueue>> open(std::shared_ptr<VerbsDevice> device,
                                                  std::size_t nodes);
  ~VerbsQueue();
  VerbsQueue(const VerbsQueue&) = delete;
  VerbsQueue& operator=(const VerbsQueue&) = delete;

  [[nodiscard]] VerbsDevice& device() const { return *device_; }
  [[nodiscard]] ibv_cq* get() const { return queue_; }
  [[nodiscard]] int fd() const { return notifier_->fd; }
  [[nodiscard]] const VerbsLimits& limits() const { return limits_; }

  // Room for one more link's completions; give_back() when it is gone.
  Status reserve();
  void give_back() { --links_; }

  // Up to completions.size() completions; returns how many. Fails only if the device does.
  [[nodiscard]] int poll(std::span<ibv_wc> completions) const {
    return ::ibv_poll_cq(queue_, static_cast<int>(completions.size()), completions.data());
  }
  [[nodiscard]] bool armed() const { return armed_; }
  // The next completion makes fd() readable. One that came just before may not: poll() again.
  Status arm();
  // Takes the notification if there is one, which makes fd() unreadable and the queue not armed.
  void take_notification();

 private:
  VerbsQueue() = default;

  std::shared_ptr<VerbsDevice> device_;
  ibv_comp_channel* notifier_ = nullptr;
  ibv_cq* queue_ = nullptr;
  VerbsLimits limits_;
  unsigned max_links_ = 0;
  unsigned links_ = 0;
  bool armed_ = false;
};

}  // namespace gob
