#include "libgob/file/fetch_ahead.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/prctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <system_error>
#include <vector>

#include "libgob/base/ids.h"
#include "libgob/base/unique_fd.h"

namespace gob::file {

namespace {

constexpr std::uint64_t kSmallBytes = 8 * kPageSize;  // of a read that is none of a reader in order
constexpr std::uint64_t kShare = 256;  // one page in so many was read: the rest is worth its while
constexpr std::uint64_t kFewestStrays = 16;
constexpr unsigned kMaxDoublings = 16;
// Enough for the network not to wait, and little: whoever reads a page that is not here yet waits
// behind all of it, and what programs could have read meanwhile is left for when all has come.
constexpr std::uint64_t kStepBytes = std::uint64_t{256} << 10;
constexpr std::uint64_t kUnderWayBytes = std::uint64_t{1} << 20;
constexpr std::size_t kMaxWaiting = 64;  // fetches

bool covers(std::uint64_t offset, std::uint64_t bytes, std::uint64_t byte) {
  return byte >= offset && byte - offset < bytes;
}

// How the kernel's FUSE names an inode in a file handle (FILEID_INO64_GEN): its number, high word
// first, and its generation, which this mount leaves at 0.
constexpr int kInodeHandle = 0x81;
constexpr std::size_t kHandleWords = 3;

UniqueFd open_inode(const std::string& mount, std::uint64_t inode) {
  const UniqueFd root(::open(mount.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct statfs system {};
  if (!root || ::fstatfs(root.get(), &system) != 0 || system.f_type != FUSE_SUPER_MAGIC) return {};
  alignas(file_handle) std::array<char, sizeof(file_handle) + kHandleWords * 4> room{};
  auto* const handle = reinterpret_cast<file_handle*>(room.data());
  handle->handle_bytes = kHandleWords * 4;
  handle->handle_type = kInodeHandle;
  const std::array<std::uint32_t, kHandleWords> words = {static_cast<std::uint32_t>(inode >> 32),
                                                         static_cast<std::uint32_t>(inode), 0};
  std::memcpy(room.data() + offsetof(file_handle, f_handle), words.data(), sizeof words);
  return UniqueFd(::open_by_handle_at(root.get(), handle, O_RDONLY | O_CLOEXEC));
}

}  // namespace

Status FetchAhead::start(std::size_t step_bytes) {
  if (largest_bytes_ == 0) return {};
  step_bytes_ = std::min<std::size_t>(step_bytes, kStepBytes);
  try {
    releaser_ = std::thread([this] { release_overdue(); });
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& error) {
    return make_error(ErrorCode::kSystem, "cannot start the thread that fetches files",
                      error.code().value());
  }
  return {};
}

void FetchAhead::stop() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_one();
  held_changed_.notify_one();
  if (thread_.joinable()) thread_.join();
  if (releaser_.joinable()) releaser_.join();
  let_all_go_on();
}

bool FetchAhead::note(std::uint64_t inode, std::uint64_t offset, std::uint64_t bytes,
                      std::uint64_t size, std::function<void()> go_on) {
  if (size > largest_bytes_ || bytes == 0) return false;
  {
    const std::lock_guard lock(mutex_);
    Pattern& pattern = patterns_[inode];
    const bool in_order = offset == pattern.next;
    pattern.next = offset + bytes;
    if (in_order || bytes > kSmallBytes) return false;
    if (fetched_ == inode) {
      if (ends_ || covers(offset, bytes, awaited_offset_)) return false;
      held_.push_back({offset, bytes, Clock::now() + kLongestHold, std::move(go_on)});
      if (held_.size() == 1) held_changed_.notify_one();
      return true;
    }
    // A file whose pages are taken away again and again is fetched ever more rarely.
    const std::uint64_t enough = std::max(size / kPageSize / kShare, kFewestStrays)
                                 << std::min(pattern.fetches, kMaxDoublings);
    if (++pattern.strays < enough || fetches_.size() >= kMaxWaiting) return false;
    pattern.strays = 0;
    ++pattern.fetches;
    fetches_.push_back({inode, size});
  }
  changed_.notify_one();
  return false;
}

void FetchAhead::forget(std::uint64_t inode) {
  const std::lock_guard lock(mutex_);
  patterns_.erase(inode);
}

bool FetchAhead::ends() {
  const std::lock_guard lock(mutex_);
  return ends_;
}

void FetchAhead::run() {
  ::prctl(PR_SET_NAME, "gob-mount-fetch");
  thread_id_ = ::gettid();
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return ends_ || !fetches_.empty(); });
    if (ends_) return;
    const Fetch next = fetches_.front();
    fetches_.pop_front();
    fetched_ = next.inode;
    awaited_offset_ = 0;
    lock.unlock();
    fetch(next);
    lock.lock();
    fetched_.reset();
    lock.unlock();
    let_all_go_on();
    lock.lock();
  }
}

void FetchAhead::wait_for_byte(std::uint64_t offset) {
  std::vector<Held> due;
  {
    const std::lock_guard lock(mutex_);
    awaited_offset_ = offset;
    const auto kept = std::stable_partition(held_.begin(), held_.end(), [&](const Held& held) {
      return !covers(held.offset, held.bytes, offset);
    });
    std::move(kept, held_.end(), std::back_inserter(due));
    held_.erase(kept, held_.end());
  }
  for (const Held& held : due) held.go_on();
}

void FetchAhead::let_all_go_on() {
  std::deque<Held> due;
  {
    const std::lock_guard lock(mutex_);
    due.swap(held_);
  }
  for (const Held& held : due) held.go_on();
}

// The fetch may be waiting for a node that is slow or dead; that is no reason for reads of other
// pages to wait with it.
void FetchAhead::release_overdue() {
  ::prctl(PR_SET_NAME, "gob-mount-hold");
  std::unique_lock lock(mutex_);
  while (!ends_) {
    if (held_.empty()) {
      held_changed_.wait(lock);
      continue;
    }
    const Clock::time_point until = held_.front().until;
    if (Clock::now() < until) {
      held_changed_.wait_until(lock, until);
      continue;
    }
    const Held held = std::move(held_.front());
    held_.pop_front();
    lock.unlock();
    held.go_on();
    lock.lock();
  }
}

// By this program's own mount, so that the kernel asks for what it does not have. Whatever fails,
// programs read as if this had not been tried.
void FetchAhead::fetch(const Fetch& wanted) {
  const UniqueFd file = open_inode(mount_, wanted.inode);
  if (!file) return;
  char byte = 0;
  for (std::uint64_t at = 0; at < wanted.size && !ends(); at += step_bytes_) {
    if (::readahead(file.get(), static_cast<off64_t>(at), step_bytes_) != 0) return;
    // Only so much is under way, so that nobody's read waits behind the whole file.
    if (at < kUnderWayBytes) continue;
    wait_for_byte(at - kUnderWayBytes);
    if (::pread(file.get(), &byte, 1, static_cast<off_t>(at - kUnderWayBytes)) != 1) return;
  }
}

}  // namespace gob::file
