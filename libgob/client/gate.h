// Gate: what a connection's threads pass on their way to gobd, so that its process can move at a moment
// when none of them is there, and none holds a lock that gobd keeps for the connection. Any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "libgob/base/result.h"

namespace gob::client {

class Gate {
 public:
  // A thread is inside as long as it has one. It may have several.
  class Pass {
   public:
    explicit Pass(Gate& gate) : gate_(gate) { gate_.enter(); }
    ~Pass() { gate_.leave(); }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;

   private:
    Gate& gate_;
  };

  // The calling thread, which is inside, took or released a lock. Until it has released all, it enters
  // without waiting.
  void took_lock();
  void released_lock();

  // Waits until nobody is inside or holds a lock; from then on all wait, until open(). An error says
  // what was in the way for so long, and all go on.
  Status close(std::chrono::milliseconds limit);
  void open();

 private:
  void enter();
  void leave();

  std::mutex mutex_;
  std::condition_variable changed_;
  // Protected by mutex_:
  bool closed_ = false;  // or about to be
  int inside_ = 0;
  int locks_ = 0;
};

}  // namespace gob::client
