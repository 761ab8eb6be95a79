// Result<T>: a value or an Error. The one way functions of this project report failure to each
// other; exceptions of libraries stop where we call them.
#pragma once

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <variant>

namespace gob {

// What went wrong, in classes that a caller can act on. `errno_value` keeps the system's own word.
enum class ErrorCode {
  kInvalidArgument,   // the caller's request can never work
  kNotFound,          // no such container, node, file
  kAlreadyExists,     // the name is taken
  kPermissionDenied,  // mode, owner or capability forbids it
  kNoSpace,           // memory budget, swap or disk is full
  kUnavailable,       // a peer or the daemon cannot be reached now
  kTimedOut,          // no answer within the configured time
  kLost,              // bytes died with their node
  kProtocol,          // the other side sent what no correct side sends
  kUnsupported,       // this kernel or machine lacks what is needed
  kSystem,            // a system call failed: see errno_value
};

struct Error {
  ErrorCode code = ErrorCode::kSystem;
  int errno_value = 0;
  std::string context;  // what was tried, on what, why it failed, what to do

  [[nodiscard]] std::string message() const {
    if (errno_value == 0) return context;
    return context + ": " + std::strerror(errno_value);
  }
};

inline Error make_error(ErrorCode code, std::string context, int errno_value = 0) {
  return Error{code, errno_value, std::move(context)};
}
// For a system call that just failed: takes errno.
inline Error system_error(std::string context) {
  return Error{ErrorCode::kSystem, errno, std::move(context)};
}

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  [[nodiscard]] T& value() & { return std::get<0>(state_); }
  [[nodiscard]] const T& value() const& { return std::get<0>(state_); }
  [[nodiscard]] T&& value() && { return std::get<0>(std::move(state_)); }
  [[nodiscard]] T& operator*() & { return value(); }
  [[nodiscard]] const T& operator*() const& { return value(); }
  [[nodiscard]] T* operator->() { return &value(); }
  [[nodiscard]] const T* operator->() const { return &value(); }
  [[nodiscard]] const Error& error() const { return std::get<1>(state_); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error)
      : error_(std::move(error)), ok_(false) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool ok() const { return ok_; }
  explicit operator bool() const { return ok_; }
  [[nodiscard]] const Error& error() const { return error_; }

 private:
  Error error_;
  bool ok_ = true;
};

using Status = Result<void>;

}  // namespace gob
