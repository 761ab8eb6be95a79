#include "gobbench/files/read_plan.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

#include "gobbench/page_pattern.h"
#include "libgob/base/unique_fd.h"

namespace gob::bench {
namespace {

Error wrong_bytes(const std::string& path, std::uint64_t offset) {
  return make_error(ErrorCode::kLost,
                    path + " holds wrong bytes near offset " + std::to_string(offset));
}

// One reader: takes the next offset until there are no more.
Status read_parts(const std::string& path, const UniqueFd& file, const ReadPlan& plan,
                  const std::vector<std::uint64_t>& offsets, std::atomic<std::size_t>& next) {
  std::vector<std::byte> buffer(plan.request_bytes);
  for (std::size_t i = next++; i < offsets.size(); i = next++) {
    const std::uint64_t offset = offsets[i];
    const std::uint64_t wanted = std::min(plan.request_bytes, plan.file_bytes - offset);
    std::uint64_t done = 0;
    while (done < wanted) {
      const ssize_t got = ::pread(file.get(), buffer.data() + done, wanted - done,
                                  static_cast<off_t>(offset + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return system_error("cannot read " + path);
      if (got == 0) return wrong_bytes(path, offset + done);
      done += static_cast<std::uint64_t>(got);
    }
    if (!right_bytes(std::span(buffer).first(wanted), offset)) return wrong_bytes(path, offset);
  }
  return {};
}

}  // namespace

std::vector<std::uint64_t> read_offsets(const ReadPlan& plan) {
  const std::uint64_t parts = (plan.file_bytes + plan.request_bytes - 1) / plan.request_bytes;
  std::vector<std::uint64_t> offsets;
  for (const std::uint32_t part : page_order(parts, plan.random, plan.seed))
    offsets.push_back(part * plan.request_bytes);
  return offsets;
}

bool right_bytes(std::span<const std::byte> bytes, std::uint64_t offset) {
  for (std::size_t at = 0; at < bytes.size(); at += kPageSize) {
    const auto* const words = reinterpret_cast<const std::uint64_t*>(bytes.data() + at);
    const std::size_t page = (offset + at) / kPageSize;
    if (words[0] != pattern(page, 0) || words[kPageWords - 1] != pattern(page, kPageWords - 1))
      return false;
  }
  return true;
}

Status write_pattern_file(const std::string& path, std::uint64_t bytes, std::uint64_t at_once) {
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!file) return system_error("cannot create " + path);
  std::vector<std::uint64_t> words;
  for (std::uint64_t offset = 0; offset < bytes; offset += at_once) {
    const std::uint64_t size = std::min(at_once, bytes - offset);
    words.clear();
    for (std::size_t page = offset / kPageSize; page < (offset + size) / kPageSize; ++page)
      for (std::size_t w = 0; w < kPageWords; ++w) words.push_back(pattern(page, w));
    const auto* const from = reinterpret_cast<const std::byte*>(words.data());
    for (std::uint64_t done = 0; done < size;) {
      const ssize_t put = ::write(file.get(), from + done, size - done);
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return system_error("cannot write " + path);
      done += static_cast<std::uint64_t>(put);
    }
  }
  if (::fsync(file.get()) != 0) return system_error("cannot write " + path + " to disk");
  return {};
}

Result<double> read_file(const std::string& path, const ReadPlan& plan) {
  const std::vector<std::uint64_t> offsets = read_offsets(plan);
  std::atomic<std::size_t> next = 0;
  std::mutex guard;
  Status failure;
  std::vector<UniqueFd> files;
  for (unsigned i = 0; i < plan.depth; ++i) {
    files.emplace_back(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!files.back()) return system_error("cannot open " + path);
  }
  const auto begin = std::chrono::steady_clock::now();
  {
    std::vector<std::jthread> readers;
    for (unsigned i = 0; i < plan.depth; ++i)
      readers.emplace_back([&, i] {
        const Status done = read_parts(path, files[i], plan, offsets, next);
        if (done) return;
        const std::lock_guard lock(guard);
        failure = done;
        next = offsets.size();
      });
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  if (!failure) return failure.error();
  return took.count();
}

Status drop_from_cache(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct statfs system = {};
  if (!file || ::fstatfs(file.get(), &system) != 0) return system_error("cannot open " + path);
  if (system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC)
    return make_error(ErrorCode::kUnsupported, path + " lies in memory, not on a disk");
  const int error = ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
  if (error != 0)
    return make_error(ErrorCode::kSystem, "cannot drop " + path + " from the cache", error);
  return {};
}

}  // namespace gob::bench
