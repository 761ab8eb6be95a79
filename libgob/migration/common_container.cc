#include "libgob/migration/common_container.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <span>

#include "libgob/base/ids.h"
#include "libgob/migration/shared_memory.h"
#include "libgob/migration/talk.h"

namespace gob::migration {
namespace {

constexpr std::size_t kKeepers = kPageSize / sizeof(std::uint64_t);

}  // namespace

Result<CommonContainer> CommonContainer::create(const gobelins::Connection& gob,
                                                const std::string& name, std::uint64_t bytes) {
  CommonContainer made(gob, name);
  try {
    made.gob_.create(name, bytes + kPageSize);
    made.memory_ = made.gob_.open(name).map(0, bytes);
  } catch (const std::system_error& error) {
    return error_of(error,
                    "making a container for " + std::to_string(bytes) + " bytes of shared memory");
  }
  if (Status mapped = made.map_list(); !mapped) return mapped.error();
  return made;
}

Result<CommonContainer> CommonContainer::open(const gobelins::Connection& gob,
                                              const std::string& name) {
  CommonContainer opened(gob, name);
  if (Status mapped = opened.map_list(); !mapped) return mapped.error();
  return opened;
}

Status CommonContainer::map_list() {
  try {
    gobelins::Container container = gob_.open(name_);
    list_ = container.map(container.size_bytes() - kPageSize, kPageSize);
  } catch (const std::system_error& error) {
    return error_of(error, "opening container " + name_ + " of shared memory");
  }
  return {};
}

std::string CommonContainer::life_of(std::uint64_t keeper) const {
  return name_ + ".keeper." + std::to_string(keeper);
}

Result<bool> CommonContainer::lives(std::uint64_t keeper) {
  gobelins::Mutex life = gob_.mutex(life_of(keeper));
  return is_held(life);
}

Status CommonContainer::enter() {
  if (self_ != 0) return {};
  std::random_device random;
  const std::uint64_t self = (std::uint64_t{random()} << 32) | random() | 1;
  try {
    life_.emplace(gob_.mutex(life_of(self)));
    life_->lock();
    gobelins::Mutex mutex = gob_.mutex(name_ + ".list");
    const Held held(mutex);
    for (std::uint64_t& word : list_.as<std::uint64_t>()) {
      const auto keeper = load(&word);
      if (!keeper) return keeper.error();
      if (*keeper != 0) {
        const auto alive = lives(*keeper);
        if (!alive) return alive.error();
        if (*alive) continue;
      }
      if (Status written = store(&word, self); !written) return written;
      self_ = self;
      return {};
    }
  } catch (const std::system_error& error) {
    return error_of(error, "noting the use of container " + name_);
  }
  return make_error(ErrorCode::kNoSpace, "container " + name_ + " has more than " +
                                             std::to_string(kKeepers) + " keepers");
}

Status CommonContainer::leave() {
  if (self_ == 0) return {};
  memory_ = gobelins::Mapping();
  try {
    gobelins::Mutex mutex = gob_.mutex(name_ + ".list");
    const Held held(mutex);
    bool used = false;
    for (std::uint64_t& word : list_.as<std::uint64_t>()) {
      const auto keeper = load(&word);
      if (!keeper) return keeper.error();
      if (*keeper == self_) {
        if (Status written = store(&word, std::uint64_t{0}); !written) return written;
      } else if (*keeper != 0 && !used) {
        const auto alive = lives(*keeper);
        if (!alive) return alive.error();
        used = *alive;
      }
    }
    self_ = 0;
    life_->unlock();
    if (!used) {
      list_ = gobelins::Mapping();
      gob_.remove(name_);
    }
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
