#include "libgob/migration/common_container.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "libgob/base/ids.h"
#include "libgob/migration/shared_memory.h"
#include "libgob/migration/talk.h"

namespace gob::migration {
namespace {

constexpr int kKeepers = 64;
constexpr std::chrono::milliseconds kKnown = std::chrono::minutes(1);  // a program's death

}  // namespace

Result<CommonContainer> CommonContainer::create(const gobelins::Connection& gob,
                                                const std::string& name, std::uint64_t bytes) {
  CommonContainer made(gob, name);
  try {
    {
      gobelins::Mutex mutex = made.gob_.mutex(name + ".list");
      const Held held(mutex);  // or whoever looks for what nobody uses would find it
      made.gob_.create(name, bytes);
      if (Status entered = made.take_place(); !entered) {
        made.gob_.remove(name);
        return entered.error();
      }
    }
    made.memory_ = made.gob_.open(name).map();
    return made;
  } catch (const std::system_error& error) {
    static_cast<void>(made.leave().ok());  // the first error says more
    return error_of(error,
                    "making a container for " + std::to_string(bytes) + " bytes of shared memory");
  }
}

Result<CommonContainer> CommonContainer::open(const gobelins::Connection& gob,
                                              const std::string& name) {
  CommonContainer opened(gob, name);
  try {
    static_cast<void>(opened.gob_.open(name));
  } catch (const std::system_error& error) {
    return error_of(error, "opening container " + name + " of shared memory");
  }
  return opened;
}

gobelins::Mutex CommonContainer::life_of(int keeper) {
  return gob_.mutex(name_ + ".keeper." + std::to_string(keeper));
}

Status CommonContainer::enter() {
  if (life_) return {};
  try {
    gobelins::Mutex mutex = gob_.mutex(name_ + ".list");
    const Held held(mutex);
    return take_place();
  } catch (const std::system_error& error) {
    return error_of(error, "noting the use of container " + name_);
  }
}

// With the list locked.
Status CommonContainer::take_place() {
  for (int keeper = 0; keeper < kKeepers; ++keeper) {
    gobelins::Mutex life = life_of(keeper);
    const auto taken = try_take(life);
    if (!taken) return taken.error();
    if (!*taken) continue;
    life_.emplace(std::move(life));
    keeper_ = keeper;
    return {};
  }
  return make_error(ErrorCode::kNoSpace, "container " + name_ + " has more than " +
                                             std::to_string(kKeepers) + " keepers");
}

Status CommonContainer::succeed(int keeper) {
  gobelins::Mutex life = life_of(keeper);
  const int taken = gob_lock(gob_.get(), life.name().c_str(), kKnown.count());
  if (taken != 0 && taken != -EOWNERDEAD)
    return make_error(taken == -ETIMEDOUT ? ErrorCode::kTimedOut : ErrorCode::kUnavailable,
                      "taking over the use of container " + name_, -taken);
  life_.emplace(std::move(life));
  keeper_ = keeper;
  return {};
}

Status CommonContainer::leave() {
  if (!life_) return {};
  memory_ = gobelins::Mapping();
  try {
    gobelins::Mutex mutex = gob_.mutex(name_ + ".list");
    const Held held(mutex);
    life_->unlock();
    life_.reset();
    const auto removed = remove_if_unused();
    return removed ? Status() : Status(removed.error());
  } catch (const std::system_error& error) {
    return error_of(error, "giving container " + name_ + " up");
  }
}

Result<bool> CommonContainer::remove_unused(const gobelins::Connection& gob,
                                            const std::string& name,
                                            std::chrono::milliseconds limit) {
  CommonContainer container(gob, name);
  const std::string list = name + ".list";
  // Whoever makes one holds it from before the container is there until it has its place.
  const int taken = gob_lock(gob.get(), list.c_str(), limit.count());
  if (taken == -ETIMEDOUT) return false;
  if (taken != 0 && taken != -EOWNERDEAD)
    return make_error(ErrorCode::kUnavailable, "locking the list of keepers of container " + name,
                      -taken);
  const auto removed = container.remove_if_unused();
  gob_unlock(gob.get(), list.c_str());
  return removed;
}

// With the list locked.
Result<bool> CommonContainer::remove_if_unused() {
  for (int keeper = 0; keeper < kKeepers; ++keeper) {
    gobelins::Mutex life = life_of(keeper);
    const auto used = is_held(life);
    if (!used) return used.error();
    if (*used) return false;
  }
  try {
    gob_.remove(name_);
  } catch (const std::system_error& error) {
    if (error.code().value() == ENOENT) return false;
    return error_of(error, "removing container " + name_ + ", which nobody uses");
  }
  return true;
}

Result<std::uint64_t> CommonContainer::copy(int file) {
  struct stat info {};
  if (::fstat(file, &info) != 0) return system_error("looking at shared memory");
  // What was filled before may be a hole by now, which reads as zeros.
  auto ranges = filled_;
  for (off_t at = 0; at < info.st_size;) {
    const off_t begin = ::lseek(file, at, SEEK_DATA);
    if (begin < 0) break;
    const off_t end = ::lseek(file, begin, SEEK_HOLE);
    if (end <= begin) break;
    ranges.emplace_back(begin, std::min(end, info.st_size));
    at = end;
  }
  std::ranges::sort(ranges);
  filled_.clear();
  for (const auto& range : ranges) {
    if (!filled_.empty() && range.first <= filled_.back().second)
      filled_.back().second = std::max(filled_.back().second, range.second);
    else
      filled_.push_back(range);
  }
  std::uint64_t copied = 0;
  char* const memory = static_cast<char*>(memory_.data());
  for (const auto& [begin, end] : filled_) {
    for (std::uint64_t at = begin; at < end;) {
      // read(2) makes an error of a page that cannot be had.
      const ssize_t step = ::pread(file, memory + at, end - at, static_cast<off_t>(at));
      if (step <= 0) return system_error("copying shared memory into container " + name_);
      at += static_cast<std::uint64_t>(step);
    }
    copied += end - begin;
  }
  return copied;
}

}  // namespace gob::migration
