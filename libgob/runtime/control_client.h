// ControlClient: the program's end of the control protocol (libgob, gobctl). Any number of threads
// may call at once; it has no thread of its own: while calls wait, one of them reads for all.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/runtime/control_wire.h"

namespace gob {

class ControlClient {
 public:
  using Milliseconds = std::chrono::milliseconds;
  // For requests that wait by themselves (barriers, locks): the connection's end still ends them.
  static constexpr Milliseconds kForever{-1};
  static constexpr Milliseconds kDefaultTimeout{30'000};

  // Connects and says hello. `client_name` is for gobd's logs.
  static Result<std::unique_ptr<ControlClient>> connect(const std::string& path,
                                                        const std::string& client_name,
                                                        Milliseconds timeout = kDefaultTimeout);
  // No call may be running.
  ~ControlClient() = default;
  ControlClient(const ControlClient&) = delete;
  ControlClient& operator=(const ControlClient&) = delete;

  struct Answer {
    control::Reply reply;  // without error
    std::vector<UniqueFd> fds;
  };
  // Sends `request` (id and fds are filled in here) with copies of `fds`, waits for the reply. An
  // error of gobd comes back as it was given; kTimedOut when no reply came in time (a late one is
  // dropped); kNoSpace, EMFILE if this process has no room for the reply's descriptors;
  // kUnavailable with ENOTCONN once the connection is gone. A mapping whose reply is dropped is
  // given back.
  Result<Answer> call(control::Request request, std::span<const int> fds = {},
                      Milliseconds timeout = kDefaultTimeout);

  // What gobd said of itself.
  [[nodiscard]] const control::HelloReply& hello() const { return hello_; }
  // The socket, to watch for a hang-up (POLLRDHUP) only.
  [[nodiscard]] int fd() const { return socket_.get(); }
  // Ends the connection: every call, running or to come, gets kUnavailable.
  void shut_down();
  // In a forked child only, which must do nothing else with this object: closes its copy of the
  // socket, so that gobd sees the end of the parent.
  void close_in_child() { socket_.reset(); }

 private:
  using Clock = std::chrono::steady_clock;
  struct Waiter {
    std::condition_variable wake;
    bool asleep = false;  // on `wake`: can be asked to read for all
    std::optional<Answer> answer;
  };

  ControlClient(std::string path, UniqueFd socket)
      : path_(std::move(path)), socket_(std::move(socket)) {}
  Status say_hello(const std::string& client_name, Milliseconds timeout);
  Status send(const control::Request& request, std::span<const int> fds);
  Result<Answer> await(std::uint64_t id, Waiter& waiter, std::optional<Clock::time_point> deadline);
  // Reads once for everybody; with `lock` released while it waits.
  void read_for_all(std::unique_lock<std::mutex>& lock, std::optional<Clock::time_point> deadline);
  Status take_replies();
  // Tells gobd of mappings that nobody got; with `lock` released while it sends.
  void give_back(std::unique_lock<std::mutex>& lock);
  void break_connection(const std::string& why);
  void wake_next_reader();

  const std::string path_;
  UniqueFd socket_;
  control::HelloReply hello_;

  std::mutex send_mutex_;  // one message at a time; never held together with mutex_

  std::mutex mutex_;
  // Protected by mutex_:
  std::uint64_t next_id_ = 1;
  std::map<std::uint64_t, Waiter*> waiters_;
  bool reading_ = false;                 // a caller reads; then reader_, fds_, scratch_ are its own
  std::optional<std::string> broken_;    // why the connection is gone
  std::vector<std::uint64_t> unwanted_;  // mappings whose replies came to nothing

  FrameReader reader_{kMaxControlReplyBytes};
  std::vector<UniqueFd> fds_;
  std::vector<char> scratch_ = std::vector<char>(16 << 10);
};

}  // namespace gob
