// The data path of an RDMA link.
#include <arpa/inet.h>

#include <cstring>
#include <utility>

#include "libgob/transport/verbs_link.h"

namespace gob {
namespace {

// The immediate value: which of the sender's chunks were acknowledged (modulo 2^16) in the upper
// half, where this chunk lies in the lower half, in units of the ring's alignment.
constexpr std::uint32_t kNoChunk = 0xffff;
static_assert(kMaxVerbsRingBytes / SendRing::kAlignment <= std::size_t{kNoChunk} + 1);

std::uint32_t immediate(std::uint64_t acknowledged, std::uint32_t place) {
  return htonl((static_cast<std::uint32_t>(acknowledged & 0xffff) << 16) | place);
}

std::size_t place_bytes(std::size_t bytes) {
  return (bytes + SendRing::kAlignment - 1) / SendRing::kAlignment * SendRing::kAlignment;
}

}  // namespace

bool VerbsLink::put(std::span<const iovec> frame, std::size_t bytes) {
  if (failed()) return false;
  if (out_.open_bytes() != 0 && !out_.extends(bytes)) {
    post();
    if (out_.open_bytes() != 0) return false;
  }
  std::byte* at = out_.append(bytes);
  if (at == nullptr) {
    ++no_room_;
    return false;
  }
  for (const iovec& part : frame) {
    if (part.iov_len != 0) std::memcpy(at, part.iov_base, part.iov_len);
    at += part.iov_len;
  }
  return true;
}

void VerbsLink::post() {
  if (out_.open_bytes() == 0 || failed()) return;
  if (sends_ - sends_done_ >= queue_.limits().sends)
    return;  // a completion is due, and calls again
  const SendRing::Chunk chunk = out_.close();
  ibv_sge part{};
  part.addr = reinterpret_cast<std::uintptr_t>(out_memory_->bytes().data() + chunk.offset);
  part.length = static_cast<std::uint32_t>(chunk.bytes);
  part.lkey = out_memory_->region()->lkey;
  ibv_send_wr request{};
  request.sg_list = &part;
  request.num_sge = 1;
  request.send_flags = chunk.bytes <= max_inline_ ? IBV_SEND_INLINE : 0;
  request.imm_data =
      immediate(consumed_, static_cast<std::uint32_t>(chunk.offset / SendRing::kAlignment));
  request.wr.rdma.remote_addr = theirs_.ring_address + chunk.offset;
  send(request, chunk.bytes);
}

// Sends a chunk or, with 0 bytes, only an acknowledgement.
bool VerbsLink::send(ibv_send_wr& request, std::size_t bytes) {
  request.wr_id = id_ << 1 | 1;
  request.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
  request.wr.rdma.rkey = theirs_.ring_key;
  ++sends_;
  ++unsignalled_;
  unsignalled_bytes_ += bytes;
  // Seldom enough to be cheap, often enough that neither queue nor ring waits for a completion.
  if (unsignalled_ >= queue_.limits().chunks / 8 ||
      unsignalled_bytes_ >= out_memory_->bytes().size() / 8) {
    request.send_flags |= IBV_SEND_SIGNALED;
    signalled_.push_back({out_.closed(), sends_});
    unsignalled_ = 0;
    unsignalled_bytes_ = 0;
  }
  ibv_send_wr* bad = nullptr;
  if (const int error = ::ibv_post_send(pair_, &request, &bad); error != 0) {
    fail(std::string("a send cannot be posted: ") + std::strerror(error));
    return false;
  }
  announced_ = consumed_;
  unannounced_bytes_ = 0;
  return true;
}

void VerbsLink::arrived(const ibv_wc& completion) {
  ++used_receives_;
  const std::uint32_t value = ntohl(completion.imm_data);
  const std::uint64_t known = out_.acknowledged();
  const std::uint16_t more = static_cast<std::uint16_t>((value >> 16) - (known & 0xffff));
  if (!out_.acknowledge(known + more)) {
    violated_ = true;
    return fail("the other end acknowledges what was never sent");
  }
  const std::uint32_t place = value & 0xffff;
  if (place == kNoChunk && completion.byte_len == 0) return;
  const std::size_t offset = place * SendRing::kAlignment;
  if (completion.byte_len == 0 || offset + completion.byte_len > in_memory_->bytes().size()) {
    violated_ = true;
    return fail("the other end wrote beyond the ring");
  }
  arrived_.push_back({offset, completion.byte_len, place_bytes(completion.byte_len)});
}

std::span<const std::byte> VerbsLink::input() const {
  const Arrived& oldest = arrived_.front();
  return in_memory_->bytes().subspan(oldest.offset, oldest.bytes);
}

void VerbsLink::consume(std::size_t bytes) {
  Arrived& oldest = arrived_.front();
  oldest.offset += bytes;
  oldest.bytes -= bytes;
  if (oldest.bytes != 0) return;
  unannounced_bytes_ += oldest.place;
  arrived_.pop_front();
  ++consumed_;
}

void VerbsLink::acknowledge() {
  if (failed() || announced_ == consumed_ || unposted()) return;
  const bool many = consumed_ - announced_ >= queue_.limits().chunks / 4;
  const bool much = unannounced_bytes_ >= in_memory_->bytes().size() / 8;
  if (!many && !much) return;
  if (sends_ - sends_done_ >= queue_.limits().sends) return;
  ibv_send_wr request{};
  request.imm_data = immediate(consumed_, kNoChunk);
  request.wr.rdma.remote_addr = theirs_.ring_address;
  if (send(request, 0)) ++acknowledgements_;
}

}  // namespace gob
