// The bytes of the control protocol: limits, framing, and errors as messages. Prose and schema are
// in control.proto. Values and pure functions: no thread affinity.
#pragma once

#include <google/protobuf/message_lite.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "libgob/base/result.h"
#include "libgob/runtime/control.pb.h"

namespace gob {

inline constexpr std::uint32_t kControlVersion = 1;
inline constexpr std::size_t kControlPrefixBytes = 4;
inline constexpr std::size_t kMaxControlRequestBytes = 64 << 10;
inline constexpr std::size_t kMaxControlReplyBytes = 16 << 20;
inline constexpr std::size_t kMaxControlFds = 4;  // of one message

// Appends prefix and bytes of `message` to `out`; kInvalidArgument if it is larger than
// `max_bytes`.
Status append_frame(const google::protobuf::MessageLite& message, std::size_t max_bytes,
                    std::string& out);

// Cuts a stream back into messages. Memory grows with the bytes that came, never with a length
// that was only claimed.
class FrameReader {
 public:
  explicit FrameReader(std::size_t max_bytes) : max_bytes_(max_bytes) {}

  void append(std::string_view bytes) { buffer_.append(bytes); }
  // The next whole message, if there is one: valid until the next call of any kind. kProtocol if
  // the stream claims a message longer than the limit; the reader is of no use after that.
  Result<std::optional<std::string_view>> next();
  [[nodiscard]] std::size_t buffered_bytes() const { return buffer_.size() - begin_; }

 private:
  std::size_t max_bytes_;
  std::string buffer_;
  std::size_t begin_ = 0;  // bytes before it were handed out
};

// kProtocol unless `bytes` is a request with an id and a number of descriptors within the limits.
// A request whose body this release does not know passes: it deserves an answer (BODY_NOT_SET).
Result<control::Request> parse_request(std::string_view bytes);
Result<control::Reply> parse_reply(std::string_view bytes);

// The errno a program sees for an error: its own, or the one that fits its code. Never 0.
int errno_of(const Error& error);
void set_error(const Error& error, control::Reply& reply);
Error error_of(const control::Error& error);
// For logs: the name of the request's body.
std::string_view name_of(control::Request::BodyCase body);

}  // namespace gob
