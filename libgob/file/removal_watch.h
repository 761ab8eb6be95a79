// RemovalWatch: notices when the last name of a file may be gone, whoever removed it. Of files that
// are added, by inotify(7): a host says that a file's number of names changed, which is an event of
// its attributes; the listener looks itself. Of all others the listener looks now and then.
//
// Threads: any may call; the listener is called on a thread of the watch.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob::file {

class RemovalWatch {
 public:
  // At the least between two looks at everything; and it takes no more than a hundredth of the
  // time.
  static constexpr std::chrono::seconds kLook{5};

  // `changed`: attributes of the file with this number changed. `look`: at everything. Both may
  // call the watch.
  RemovalWatch(std::function<void(std::uint64_t)> changed, std::function<void()> look)
      : changed_(std::move(changed)), look_(std::move(look)) {}
  ~RemovalWatch() { stop(); }
  RemovalWatch(const RemovalWatch&) = delete;
  RemovalWatch& operator=(const RemovalWatch&) = delete;

  Status start();
  // Nothing is called after this.
  void stop();

  // A file that the host cannot watch (too many are: fs.inotify.max_user_watches) is not.
  void add(std::uint64_t number, const std::string& path);
  void remove(std::uint64_t number);

 private:
  void run();
  void read_events();

  const std::function<void(std::uint64_t)> changed_;
  const std::function<void()> look_;
  UniqueFd events_;  // constant after start()
  UniqueFd end_;     // an eventfd: the thread shall end
  std::mutex mutex_;
  // Guarded by mutex_. One that is forgotten and found again has two numbers for a while, and one
  // watch.
  std::map<int, std::set<std::uint64_t>> numbers_;
  std::map<std::uint64_t, int> watches_;
  std::thread thread_;
};

}  // namespace gob::file
