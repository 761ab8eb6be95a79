#include "libgob/migration/keeper.h"

#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "libgob/migration/talk.h"

namespace gob::migration {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kPatience{2000};  // with a program that was stopped while it held a lock
constexpr milliseconds kLook{1000};

}  // namespace

// What the listening thread has. It may be left behind at the end, waiting for a lock whose holder
// is stopped.
struct Keeper::Ear {
  UniqueFd said{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<Order> order;
  std::uint64_t heard = 0;
  bool stopping = false;
  bool ended = false;

  bool is_stopping() {
    const std::lock_guard lock(mutex);
    return stopping;
  }
  // Notes an order that was not heard yet; false: no more.
  bool take(const MigrantRecord& record) {
    const auto last = record.order();
    const std::lock_guard lock(mutex);
    if (stopping || !last) return false;
    if (last->number > heard) {
      heard = last->number;
      order = *last;
      static_cast<void>(::eventfd_write(said.get(), 1));
    }
    return true;
  }
  void run(const std::string& socket, const std::string& name) {
    try {
      const gobelins::Connection gob(socket);
      const auto record = MigrantRecord::open(gob, name);
      const std::string lock = orders_lock(name);
      auto taken = record ? take_lock(gob, lock, kLook) : record.error();
      while (taken && !*taken && !is_stopping()) taken = take_lock(gob, lock, kLook);
      while (taken && *taken && take(*record)) {
        const int got = ::gob_cond_wait(gob.get(), orders_changed(name).c_str(), lock.c_str(),
                                        GOB_FOREVER);
        if (got != 0 && got != -EOWNERDEAD) break;
      }
    } catch (const std::system_error& error) {
      spdlog::debug("no signals for {}: {}", name, error.what());
    }
    const std::lock_guard lock(mutex);
    ended = true;
    changed.notify_all();
  }
};

Result<std::unique_ptr<Keeper>> Keeper::open(const std::string& socket, const std::string& record,
                                             const std::string& session) {
  try {
    gobelins::Connection gob(socket);
    auto opened = MigrantRecord::open(gob, record);
    if (!opened) return opened.error();
    const std::string lock = keeper_lock(record, session);
    const auto taken = take_lock(gob, lock, kPatience);
    if (!taken) return taken.error();
    if (!*taken) return make_error(ErrorCode::kUnavailable, "somebody else keeps " + record);
    return std::unique_ptr<Keeper>(
        new Keeper(socket, lock, std::move(gob), std::move(*opened)));
  } catch (const std::system_error& error) {
    return error_of(error, "connecting to gobd at " + socket);
  }
}

Keeper::~Keeper() {
  if (!ear_) return;
  {
    const std::lock_guard lock(ear_->mutex);
    ear_->stopping = true;
  }
  wake();
  std::unique_lock lock(ear_->mutex);
  static_cast<void>(ear_->changed.wait_for(lock, kPatience, [this] { return ear_->ended; }));
}

// Under the lock, so that nobody is between a look and waiting.
void Keeper::wake() {
  const std::string lock = orders_lock(record_.name());
  const auto taken = take_lock(gob_, lock, kPatience);
  ::gob_cond_broadcast(gob_.get(), orders_changed(record_.name()).c_str(), lock.c_str());
  if (taken && *taken) ::gob_unlock(gob_.get(), lock.c_str());
}

void Keeper::write() {
  if (!keeps_) return;
  if (const Status written = record_.write(migrant_); !written) {
    spdlog::warn("{}: gobctl ps will not know of the process: {}", record_.name(),
                 written.error().message());
    keeps_ = false;
  }
}

void Keeper::change(Migrant::State state) {
  migrant_.set_state(state);
  migrant_.set_since_ms(wall_clock_ms());
  write();
}

void Keeper::runs(const std::string& node, pid_t pid, std::uint64_t out_pages) {
  auto migrant = record_.read();
  if (!migrant) {
    spdlog::warn("{}: gobctl ps will not know of the process: {}", record_.name(),
                 migrant.error().message());
    return;
  }
  migrant_ = std::move(*migrant);
  keeps_ = true;
  Migrant::Stay& stay = *migrant_.add_stays();
  stay.set_node(node);
  stay.set_pid(pid);
  migrant_.set_moves(migrant_.moves() + 1);
  migrant_.set_out_pages(out_pages);
  migrant_.set_keeper(lock_);
  migrant_.clear_target();
  change(Migrant::RUNNING);
  ear_ = std::make_shared<Ear>();
  ear_->heard = migrant_.answered();
  std::thread([ear = ear_, socket = socket_, name = record_.name()] { ear->run(socket, name); })
      .detach();
}

void Keeper::out_pages(std::uint64_t pages) {
  if (pages == migrant_.out_pages()) return;
  migrant_.set_out_pages(pages);
  write();
}

void Keeper::moves_to(const std::string& node) {
  migrant_.set_target(node);
  change(Migrant::MOVING);
}

void Keeper::does_not_move() {
  migrant_.clear_target();
  change(Migrant::RUNNING);
}

void Keeper::ended(int wait_status, const std::string& why) {
  migrant_.set_wait_status(wait_status);
  migrant_.set_why(why);
  migrant_.set_out_pages(0);
  change(Migrant::ENDED);
  ::gob_unlock(gob_.get(), lock_.c_str());  // who waits for news has some
  wake();                                   // who wanted to send it a signal
}

void Keeper::gives_up() { keeps_ = false; }

int Keeper::fd() const { return ear_ ? ear_->said.get() : -1; }

std::optional<Order> Keeper::next() {
  eventfd_t ignored = 0;
  static_cast<void>(::eventfd_read(ear_->said.get(), &ignored));
  const std::lock_guard lock(ear_->mutex);
  return std::exchange(ear_->order, std::nullopt);
}

void Keeper::answer(const Order& order, const std::string& error) {
  migrant_.set_answered(order.number);
  migrant_.set_answer(error);
  write();
  wake();
}

}  // namespace gob::migration
