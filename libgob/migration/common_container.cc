#include "libgob/migration/common_container.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "libgob/base/ids.h"
#include "libgob/migration/shared_memory.h"
#include "libgob/migration/talk.h"

namespace gob::migration {
namespace {

constexpr int kKeepers = 64;

}  // namespace

Result<CommonContainer> CommonContainer::create(const gobelins::Connection& gob,
                                                const std::string& name, std::uint64_t bytes) {
  CommonContainer made(gob, name);
  try {
    made.gob_.create(name, bytes);
    made.memory_ = made.gob_.open(name).map();
  } catch (const std::system_error& error) {
    return error_of(error,
                    "making a container for " + std::to_string(bytes) + " bytes of shared memory");
  }
  return made;
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
    for (int keeper = 0; keeper < kKeepers && !life_; ++keeper) {
      gobelins::Mutex life = life_of(keeper);
      const auto taken = is_held(life);
      if (!taken) return taken.error();
      if (*taken) continue;
      life.lock();  // nobody else does, as long as the list is locked
      life_.emplace(std::move(life));
    }
  } catch (const std::system_error& error) {
    return error_of(error, "noting the use of container " + name_);
  }
  if (life_) return {};
  return make_error(ErrorCode::kNoSpace, "container " + name_ + " has more than " +
                                             std::to_string(kKeepers) + " keepers");
}

Status CommonContainer::leave() {
  if (!life_) return {};
  memory_ = gobelins::Mapping();
  try {
    gobelins::Mutex mutex = gob_.mutex(name_ + ".list");
    const Held held(mutex);
    life_->unlock();
    life_.reset();
    for (int keeper = 0; keeper < kKeepers; ++keeper) {
      gobelins::Mutex life = life_of(keeper);
      const auto used = is_held(life);
      if (!used) return used.error();
      if (*used) return {};
    }
    gob_.remove(name_);
  } catch (const std::system_error& error) {
    return error_of(error, "giving container " + name_ + " up");
  }
  return {};
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
