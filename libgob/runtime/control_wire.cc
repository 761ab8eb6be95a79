#include "libgob/runtime/control_wire.h"

#include <bit>
#include <cstring>

namespace gob {

static_assert(std::endian::native == std::endian::little, "the length prefix is little-endian");

Status append_frame(const google::protobuf::MessageLite& message, std::size_t max_bytes,
                    std::string& out) {
  const std::size_t bytes = message.ByteSizeLong();
  if (bytes > max_bytes) {
    return make_error(ErrorCode::kInvalidArgument,
                      "a control message of " + std::to_string(bytes) +
                          " bytes is over the limit of " + std::to_string(max_bytes),
                      EMSGSIZE);
  }
  const auto prefix = static_cast<std::uint32_t>(bytes);
  out.append(reinterpret_cast<const char*>(&prefix), sizeof prefix);
  if (!message.AppendToString(&out)) {
    return make_error(ErrorCode::kInvalidArgument, "a control message could not be encoded",
                      EINVAL);
  }
  return {};
}

Result<std::optional<std::string_view>> FrameReader::next() {
  if (begin_ == buffer_.size()) {
    buffer_.clear();
    begin_ = 0;
    constexpr std::size_t kKeepBytes = 4096;  // an idle connection keeps no more than this
    if (buffer_.capacity() > kKeepBytes) buffer_.shrink_to_fit();
    return std::optional<std::string_view>();
  }
  std::uint32_t bytes = 0;
  const std::size_t have = buffer_.size() - begin_;
  if (have >= sizeof bytes) {
    std::memcpy(&bytes, buffer_.data() + begin_, sizeof bytes);
    if (bytes > max_bytes_) {
      return make_error(ErrorCode::kProtocol, "a message of " + std::to_string(bytes) +
                                                  " bytes was announced; the limit is " +
                                                  std::to_string(max_bytes_));
    }
    if (have - sizeof bytes >= bytes) {
      const std::string_view message(buffer_.data() + begin_ + sizeof bytes, bytes);
      begin_ += sizeof bytes + bytes;
      return std::optional<std::string_view>(message);
    }
  }
  // An incomplete message: move it to the front, so that the buffer holds at most one of them
  // besides what the next read brings.
  buffer_.erase(0, begin_);
  begin_ = 0;
  return std::optional<std::string_view>();
}

namespace {

template <class Message>
Result<Message> parse(std::string_view bytes, const char* kind) {
  Message message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return make_error(ErrorCode::kProtocol,
                      "the bytes of a " + std::string(kind) + " make no sense");
  }
  if (message.fds() > kMaxControlFds) {
    return make_error(ErrorCode::kProtocol, "a " + std::string(kind) + " announces " +
                                                std::to_string(message.fds()) + " descriptors");
  }
  return message;
}

}  // namespace

Result<control::Request> parse_request(std::string_view bytes) {
  auto request = parse<control::Request>(bytes, "request");
  if (request.ok() && request->id() == 0) {
    return make_error(ErrorCode::kProtocol, "a request has no id");
  }
  return request;
}

Result<control::Reply> parse_reply(std::string_view bytes) {
  return parse<control::Reply>(bytes, "reply");
}

int errno_of(const Error& error) {
  if (error.errno_value > 0) return error.errno_value;
  switch (error.code) {
    case ErrorCode::kInvalidArgument:
      return EINVAL;
    case ErrorCode::kNotFound:
      return ENOENT;
    case ErrorCode::kAlreadyExists:
      return EEXIST;
    case ErrorCode::kPermissionDenied:
      return EACCES;
    case ErrorCode::kNoSpace:
      return ENOSPC;
    case ErrorCode::kUnavailable:
      return EHOSTUNREACH;
    case ErrorCode::kTimedOut:
      return ETIMEDOUT;
    case ErrorCode::kLost:
      return EIO;
    case ErrorCode::kProtocol:
      return EPROTO;
    case ErrorCode::kUnsupported:
      return ENOTSUP;
    case ErrorCode::kSystem:
      return EIO;
  }
  return EIO;
}

void set_error(const Error& error, control::Reply& reply) {
  reply.clear_body();
  control::Error& out = *reply.mutable_error();
  out.set_code(static_cast<std::uint32_t>(error.code));
  out.set_errno_value(errno_of(error));
  out.set_message(error.context);
}

Error error_of(const control::Error& error) {
  // A code of a later release counts as a system error; the errno still says what it was.
  const bool known = error.code() <= static_cast<std::uint32_t>(ErrorCode::kSystem);
  const auto code = known ? static_cast<ErrorCode>(error.code()) : ErrorCode::kSystem;
  return make_error(code, error.message(), error.errno_value());
}

std::string_view name_of(control::Request::BodyCase body) {
  using control::Request;
  switch (body) {
    case Request::kHello:
      return "hello";
    case Request::kCreateContainer:
      return "create_container";
    case Request::kOpenContainer:
      return "open_container";
    case Request::kRemoveContainer:
      return "remove_container";
    case Request::kListContainers:
      return "list_containers";
    case Request::kMapContainer:
      return "map_container";
    case Request::kMappingReady:
      return "mapping_ready";
    case Request::kUnmapContainer:
      return "unmap_container";
    case Request::kFlush:
      return "flush";
    case Request::kBarrier:
      return "barrier";
    case Request::kLock:
      return "lock";
    case Request::kUnlock:
      return "unlock";
    case Request::kCondWait:
      return "cond_wait";
    case Request::kCondNotify:
      return "cond_notify";
    case Request::kStat:
      return "stat";
    case Request::kNodes:
      return "nodes";
    case Request::kLeave:
      return "leave";
    case Request::kAttach:
      return "attach";
    case Request::kDetach:
      return "detach";
    case Request::kOpenFile:
      return "open_file";
    case Request::kSync:
      return "sync";
    case Request::kLendBuffer:
      return "lend_buffer";
    case Request::kTakePages:
      return "take_pages";
    case Request::kPutPages:
      return "put_pages";
    case Request::kCopyPages:
      return "copy_pages";
    case Request::kServeProcesses:
      return "serve_processes";
    case Request::BODY_NOT_SET:
      return "unknown";
  }
  return "unknown";
}

}  // namespace gob
