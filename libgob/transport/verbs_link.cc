// Set-up, end and completions of an RDMA link.
#include "libgob/transport/verbs_link.h"

#include <arpa/inet.h>
#include <spdlog/fmt/fmt.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace gob {
namespace {

constexpr std::size_t kRingBytes = kMinVerbsRingBytes;
constexpr unsigned kWantedInline = 128;  // a frame without pages is 64 bytes
// A lost packet is sent again after 4.096 us * 2^14 = 67 ms (a device may take up to four times as
// long), six times: a path that is gone is noticed after 0.5 to 1.9 s. Not 7, which some devices
// take for ever.
constexpr std::uint8_t kTimeout = 14;
constexpr std::uint8_t kRetries = 6;
// There is always a receive posted; if there is none, that is an error worth to be seen.
constexpr std::uint8_t kRetriesNotReady = 0;
constexpr std::uint8_t kMinRnrTimer = 12;
constexpr std::uint8_t kHopLimit = 64;

}  // namespace

Result<std::unique_ptr<VerbsLink>> VerbsLink::create(VerbsQueue& queue, std::uint64_t id) {
  VerbsDevice& device = queue.device();
  auto out = std::make_unique<RegisteredRing>();
  if (Status opened = out->open(device, kRingBytes, 0); !opened) return opened.error();
  if (Status reserved = queue.reserve(); !reserved) return reserved.error();
  // From here on the destructor gives the reservation back.
  std::unique_ptr<VerbsLink> link(new VerbsLink(queue, id, out->bytes()));
  link->out_memory_ = std::move(out);
  link->in_memory_ = std::make_unique<RegisteredRing>();
  if (Status opened = link->in_memory_->open(device, kRingBytes,
                                             IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
      !opened) {
    return opened.error();
  }

  const VerbsLimits& limits = queue.limits();
  ibv_qp_init_attr wanted{};
  wanted.send_cq = wanted.recv_cq = queue.get();
  wanted.qp_type = IBV_QPT_RC;
  wanted.cap.max_send_wr = limits.sends;
  wanted.cap.max_recv_wr = limits.receives;
  wanted.cap.max_send_sge = wanted.cap.max_recv_sge = 1;
  wanted.cap.max_inline_data = kWantedInline;
  link->pair_ = ::ibv_create_qp(device.domain(), &wanted);
  if (link->pair_ == nullptr) {
    return system_error("RDMA device " + device.name() + ": no queue pair");
  }
  link->max_inline_ = wanted.cap.max_inline_data;

  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_INIT;
  attributes.port_num = device.port();
  attributes.qp_access_flags = IBV_ACCESS_REMOTE_WRITE;
  if (Status done = link->modify(
          attributes, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS, "INIT");
      !done) {
    return done.error();
  }
  link->used_receives_ = limits.receives;
  link->refill();
  if (link->failed()) return make_error(ErrorCode::kSystem, link->failure());
  std::uint32_t random = 0;
  if (::getrandom(&random, sizeof random, 0) != sizeof random) {
    return system_error("RDMA: no random number");
  }
  link->first_psn_ = random & 0xffffff;
  return link;
}

VerbsLink::VerbsLink(VerbsQueue& queue, std::uint64_t id, std::span<std::byte> out)
    : queue_(queue), id_(id), out_(out, queue.limits().chunks) {}

VerbsLink::~VerbsLink() { shut(); }

void VerbsLink::shut() {
  if (out_memory_ == nullptr || out_memory_->region() == nullptr) return;
  if (pair_ != nullptr) ::ibv_destroy_qp(std::exchange(pair_, nullptr));
  out_memory_->deregister();
  if (in_memory_ != nullptr) in_memory_->deregister();
  queue_.give_back();
  if (!failed()) failure_ = "it was closed";
}

VerbsOffer VerbsLink::offer() const {
  const VerbsDevice& device = queue_.device();
  VerbsOffer offer;
  offer.mtu = static_cast<std::uint8_t>(device.mtu());
  offer.lid = device.lid();
  offer.queue_pair = pair_->qp_num;
  offer.first_psn = first_psn_;
  std::memcpy(offer.gid.data(), device.gid().raw, offer.gid.size());
  offer.ring_address = reinterpret_cast<std::uintptr_t>(in_memory_->bytes().data());
  offer.ring_bytes = static_cast<std::uint32_t>(in_memory_->bytes().size());
  offer.ring_key = in_memory_->region()->rkey;
  offer.chunks = queue_.limits().chunks;
  return offer;
}

Status VerbsLink::modify(ibv_qp_attr& attributes, int mask, const char* what) {
  const int error = ::ibv_modify_qp(pair_, &attributes, mask);
  if (error == 0) return {};
  return make_error(ErrorCode::kSystem,
                    "RDMA device " + queue_.device().name() + ": queue pair to " + what, error);
}

Status VerbsLink::connect(const VerbsOffer& theirs) {
  if (failed()) return make_error(ErrorCode::kUnavailable, "its queue pair: " + failure());
  if (theirs.ring_bytes != kRingBytes || theirs.chunks != queue_.limits().chunks) {
    return make_error(ErrorCode::kProtocol, "the rings of the two ends differ");
  }
  theirs_ = theirs;
  const VerbsDevice& device = queue_.device();
  mtu_ = std::min(device.mtu(), static_cast<ibv_mtu>(theirs.mtu));

  ibv_qp_attr receive{};
  receive.qp_state = IBV_QPS_RTR;
  receive.path_mtu = mtu_;
  receive.dest_qp_num = theirs.queue_pair;
  receive.rq_psn = theirs.first_psn;
  receive.max_dest_rd_atomic = 0;
  receive.min_rnr_timer = kMinRnrTimer;
  receive.ah_attr.port_num = device.port();
  receive.ah_attr.dlid = theirs.lid;
  if (device.routed()) {
    receive.ah_attr.is_global = 1;
    std::memcpy(receive.ah_attr.grh.dgid.raw, theirs.gid.data(), theirs.gid.size());
    receive.ah_attr.grh.sgid_index = static_cast<std::uint8_t>(device.gid_index());
    receive.ah_attr.grh.hop_limit = kHopLimit;
  }
  Status done = modify(receive,
                       IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
                           IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER,
                       "receive");
  if (!done) return done;

  ibv_qp_attr send{};
  send.qp_state = IBV_QPS_RTS;
  send.sq_psn = first_psn_;
  send.timeout = kTimeout;
  send.retry_cnt = kRetries;
  send.rnr_retry = kRetriesNotReady;
  return modify(send,
                IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
                    IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC,
                "send");
}

void VerbsLink::fail(std::string why) {
  if (!failed()) failure_ = std::move(why);
}

void VerbsLink::on_completion(const ibv_wc& completion) {
  if (completion.status != IBV_WC_SUCCESS) {
    // The first error tells why; then the rest of the queues is flushed.
    ++errors_;
    fail(::ibv_wc_status_str(completion.status));
    return;
  }
  if (completion.opcode == IBV_WC_RECV_RDMA_WITH_IMM) {
    arrived(completion);
  } else if (completion.opcode == IBV_WC_RDMA_WRITE && !signalled_.empty()) {
    const Signalled done = signalled_.front();
    signalled_.pop_front();
    sends_done_ = done.sends;
    out_.complete(done.chunks);
  }
}

void VerbsLink::refill() {
  if (used_receives_ == 0 || failed()) return;
  // What arrives lies in the ring: the receives themselves have no memory.
  std::array<ibv_recv_wr, 64> requests{};
  while (used_receives_ > 0) {
    const std::size_t count = std::min<std::size_t>(used_receives_, requests.size());
    for (std::size_t i = 0; i < count; ++i) {
      requests[i].wr_id = id_ << 1;
      requests[i].next = i + 1 < count ? &requests[i + 1] : nullptr;
    }
    ibv_recv_wr* bad = nullptr;
    if (const int error = ::ibv_post_recv(pair_, requests.data(), &bad); error != 0) {
      return fail(std::string("receives cannot be posted: ") + std::strerror(error));
    }
    used_receives_ -= static_cast<unsigned>(count);
  }
}

PathInfo VerbsLink::info() const {
  PathInfo info;
  const VerbsDevice& device = queue_.device();
  info.transport = "verbs";
  info.device = device.name();
  info.port = device.port();
  info.gid = device.gid_text();
  info.mtu_bytes = mtu_bytes(mtu_);
  ibv_qp_attr attributes{};
  ibv_qp_init_attr initial{};
  static constexpr const char* kStates[] = {"RESET", "INIT", "RTR", "RTS", "SQD", "SQE", "ERR"};
  if (pair_ != nullptr && ::ibv_query_qp(pair_, &attributes, IBV_QP_STATE, &initial) == 0 &&
      attributes.qp_state <= IBV_QPS_ERR) {
    info.queue_pair = pair_->qp_num;
    info.queue_pair_state = kStates[attributes.qp_state];
  }
  info.chunks_out = out_.closed();
  info.acknowledgements_out = acknowledgements_;
  info.no_room = no_room_;
  info.completion_errors = errors_;
  return info;
}

}  // namespace gob
