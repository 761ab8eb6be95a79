// RemovalWatch: notices when the last name of a file may be gone, whoever removed it, by
// inotify(7). A host says that a file's number of names changed, which is an event of its
// attributes; the listener looks itself.
//
// Threads: any may call; the listener is called on a thread of the watch.
#pragma once

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
  // `changed`: attributes of the file with this number changed; it may call the watch.
  explicit RemovalWatch(std::function<void(std::uint64_t)> changed)
      : changed_(std::move(changed)) {}
  ~RemovalWatch() { stop(); }
  RemovalWatch(const RemovalWatch&) = delete;
  RemovalWatch& operator=(const RemovalWatch&) = delete;

  Status start();
  // Nothing is called after this.
  void stop();

  // A file that the host cannot watch (too many are: fs.inotify.max_user_watches) is not; errno.
  int add(std::uint64_t number, const std::string& path);
  void remove(std::uint64_t number);

 private:
  void run();
  void read_events();

  const std::function<void(std::uint64_t)> changed_;
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
