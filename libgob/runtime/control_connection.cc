#include "libgob/runtime/control_connection.h"

#include <sys/socket.h>

#include <algorithm>

#include "libgob/runtime/control_socket.h"

namespace gob {
namespace {

constexpr std::size_t kMaxOutputBytes = 4 * kMaxControlReplyBytes;  // a client that does not read
constexpr std::size_t kCongestedBytes = 1 << 20;
constexpr std::size_t kCongestedReplies = 64;

}  // namespace

std::string ControlConnection::describe() const {
  return "control client " + std::to_string(id_.value()) + " (pid " + std::to_string(peer_.pid) +
         ", uid " + std::to_string(peer_.uid) + ")";
}

Result<bool> ControlConnection::read(std::span<char> scratch) {
  auto received = receive_some(socket_.get(), scratch, incoming_fds_);
  if (!received.ok()) return received.error();
  switch (received->what) {
    case Received::What::kNothingNow:
      return false;
    case Received::What::kEnd:
      return make_error(ErrorCode::kUnavailable, "the program closed its connection");
    case Received::What::kBytes:
      reader_.append({scratch.data(), received->bytes});
      return true;
  }
  return false;
}

Result<std::optional<ControlConnection::Incoming>> ControlConnection::next_request() {
  auto bytes = reader_.next();
  if (!bytes.ok()) return bytes.error();
  if (!bytes->has_value()) {
    // What is left can only belong to the one message that is not whole yet.
    if (incoming_fds_.size() > kMaxControlFds) {
      return make_error(ErrorCode::kProtocol, "descriptors came that no request announces");
    }
    return std::optional<Incoming>();
  }
  auto request = parse_request(**bytes);
  if (!request.ok()) return request.error();
  auto fds = take_fds(incoming_fds_, request->fds());
  if (fds.ok()) return std::optional<Incoming>(Incoming{std::move(*request), std::move(*fds), {}});
  if (fds.error().code != ErrorCode::kNoSpace) return fds.error();
  return std::optional<Incoming>(
      Incoming{std::move(*request),
               {},
               make_error(ErrorCode::kNoSpace,
                          "gobd had no file descriptor left for what came with the request; raise "
                          "its limit of open files",
                          EMFILE)});
}

Status ControlConnection::send(const control::Reply& reply, std::vector<UniqueFd> fds) {
  Output output;
  if (Status framed = append_frame(reply, kMaxControlReplyBytes, output.bytes); !framed.ok()) {
    return framed;
  }
  output.fds = std::move(fds);
  output_bytes_ += output.bytes.size();
  output_.push_back(std::move(output));
  if (Status flushed = flush(); !flushed.ok()) return flushed;
  if (output_bytes_ > kMaxOutputBytes) {
    return make_error(ErrorCode::kProtocol, "it does not read its replies: " +
                                                std::to_string(output_bytes_) + " bytes wait");
  }
  return {};
}

Status ControlConnection::flush() {
  while (!output_.empty()) {
    Output& front = output_.front();
    std::vector<int> raw;
    for (const UniqueFd& fd : front.fds) raw.push_back(fd.get());
    auto sent = send_some(socket_.get(), std::string_view(front.bytes).substr(front.sent), raw,
                          /*wait=*/false);
    if (!sent.ok()) return sent.error();
    if (*sent == 0) return {};
    front.fds.clear();
    front.sent += *sent;
    output_bytes_ -= *sent;
    if (front.sent == front.bytes.size()) output_.pop_front();
  }
  return {};
}

bool ControlConnection::congested() const {
  return output_bytes_ > kCongestedBytes || output_.size() > kCongestedReplies;
}

Result<PeerCredentials> peer_credentials(int socket) {
  PeerCredentials peer;
  ucred credentials{};
  socklen_t bytes = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &bytes) != 0) {
    return system_error("reading the credentials of a control client");
  }
  peer.uid = credentials.uid;
  peer.gid = credentials.gid;
  peer.pid = credentials.pid;
  peer.groups.resize(32);
  while (true) {
    bytes = static_cast<socklen_t>(peer.groups.size() * sizeof(gid_t));
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, peer.groups.data(), &bytes) == 0) break;
    const std::size_t needed = bytes / sizeof(gid_t);  // the kernel says how much, at most 65,536
    if (errno != ERANGE || needed <= peer.groups.size()) {
      return system_error("reading the groups of a control client");
    }
    peer.groups.resize(needed);
  }
  peer.groups.resize(bytes / sizeof(gid_t));
  std::sort(peer.groups.begin(), peer.groups.end());
  return peer;
}

}  // namespace gob
