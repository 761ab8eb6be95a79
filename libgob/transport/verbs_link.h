// VerbsLink: the RDMA side of one link: a reliable queue pair, and a ring in each end's memory that
// the other end writes its messages into. One RDMA WRITE WITH IMMEDIATE carries a chunk of whole
// frames and tells of it; its immediate value says where in the ring it lies and acknowledges what
// came the other way. The sender never has more under way than there is room for and receives
// posted at the other end, so a receiver never runs dry. One thread owns it.
//
// Nothing is lost with the queue pair: what came can still be read here, and what the other end has
// not acknowledged can still be sent, over TCP.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>

#include "libgob/transport/channel.h"
#include "libgob/transport/registered_ring.h"
#include "libgob/transport/send_ring.h"
#include "libgob/transport/verbs_queue.h"
#include "libgob/transport/verbs_record.h"

namespace gob {

class VerbsLink {
 public:
  // `id`: in every completion of this link (see id_of).
  static Result<std::unique_ptr<VerbsLink>> create(VerbsQueue& queue, std::uint64_t id);
  ~VerbsLink();
  VerbsLink(const VerbsLink&) = delete;
  VerbsLink& operator=(const VerbsLink&) = delete;

  [[nodiscard]] static std::uint64_t id_of(const ibv_wc& completion) {
    return completion.wr_id >> 1;
  }
  [[nodiscard]] std::uint64_t id() const { return id_; }

  // --- set-up: offer() to the other end, connect() with its offer, then both say that they did
  [[nodiscard]] VerbsOffer offer() const;
  Status connect(const VerbsOffer& theirs);

  // --- output
  // Takes a frame: a copy of its parts, together `bytes` long. False: no room now.
  bool put(std::span<const iovec> frame, std::size_t bytes);
  // Sends what was put.
  void post();
  [[nodiscard]] bool unposted() const { return out_.open_bytes() != 0; }

  // --- completions
  void on_completion(const ibv_wc& completion);
  // After a batch of completions and before anything else: posts the receives that were used up.
  void refill();
  // The queue pair is of no use any more; failure() says why.
  [[nodiscard]] bool failed() const { return !failure_.empty(); }
  [[nodiscard]] const std::string& failure() const { return failure_; }
  // The other end broke the rules.
  [[nodiscard]] bool violated() const { return violated_; }

  // --- input
  [[nodiscard]] bool has_input() const { return !arrived_.empty(); }
  // What is left of the oldest chunk.
  [[nodiscard]] std::span<const std::byte> input() const;
  void consume(std::size_t bytes);
  // Tells the other end what was consumed, if it may be waiting for that and no message will.
  void acknowledge();

  // --- the end
  // Ends the queue pair and the device's hold on the memory. What has arrived can still be read.
  void shut();
  [[nodiscard]] const SendRing& sent() const { return out_; }

  // --- statistics
  [[nodiscard]] PathInfo info() const;

 private:
  struct Arrived {
    std::size_t offset;
    std::size_t bytes;  // not yet consumed
    std::size_t place;  // what it takes of the ring
  };
  // A signalled send: when it is complete, so are the chunks and sends before it.
  struct Signalled {
    std::uint64_t chunks;
    std::uint64_t sends;
  };

  VerbsLink(VerbsQueue& queue, std::uint64_t id, std::span<std::byte> out);
  Status modify(ibv_qp_attr& attributes, int mask, const char* what);
  bool send(ibv_send_wr& request, std::size_t bytes);
  void arrived(const ibv_wc& completion);
  void fail(std::string why);

  VerbsQueue& queue_;
  const std::uint64_t id_;
  std::unique_ptr<RegisteredRing> out_memory_;
  std::unique_ptr<RegisteredRing> in_memory_;
  ibv_qp* pair_ = nullptr;
  std::uint32_t first_psn_ = 0;
  unsigned max_inline_ = 0;
  VerbsOffer theirs_;
  ibv_mtu mtu_ = IBV_MTU_1024;  // agreed

  SendRing out_;
  std::uint64_t sends_ = 0;       // posted
  std::uint64_t sends_done_ = 0;  // known to be complete
  unsigned unsignalled_ = 0;
  std::size_t unsignalled_bytes_ = 0;
  std::deque<Signalled> signalled_;

  std::deque<Arrived> arrived_;
  unsigned used_receives_ = 0;
  std::uint64_t consumed_ = 0;  // chunks
  std::uint64_t announced_ = 0;
  std::size_t unannounced_bytes_ = 0;  // of the ring

  std::string failure_;
  bool violated_ = false;
  std::uint64_t acknowledgements_ = 0;  // sent without a message
  std::uint64_t no_room_ = 0;
  std::uint64_t errors_ = 0;  // completions
};

}  // namespace gob
