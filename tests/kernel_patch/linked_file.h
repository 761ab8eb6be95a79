// A file on the guest's disk, as programs see it, and as its blocks are.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "libgob/base/unique_fd.h"

namespace gob {

// A file of one node's disk, open and mapped here. Programs that are forked have it, too.
class File {
 public:
  static constexpr std::size_t kPages = 150;  // three stripes, the last one cut
  static constexpr std::size_t kBytes = kPages * 4096 - 100;

  explicit File(const std::string& name) : path("/mnt/" + name) {}
  ~File() {
    if (bytes_ != nullptr) ::munmap(bytes_, length_);
    ::unlink(path.c_str());
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  void make(std::size_t bytes = kBytes) const {
    const UniqueFd made(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640));
    ASSERT_EQ(::ftruncate(made.get(), static_cast<off_t>(bytes)), 0) << std::strerror(errno);
  }
  void open() {
    fd_.reset(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    struct stat status {};
    ASSERT_EQ(::fstat(fd_.get(), &status), 0) << path << ": " << std::strerror(errno);
    length_ = static_cast<std::size_t>(status.st_size);
    void* const at = ::mmap(nullptr, length_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
    ASSERT_NE(at, MAP_FAILED);
    bytes_ = static_cast<std::uint8_t*>(at);
  }

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] std::uint8_t* bytes() const { return bytes_; }
  [[nodiscard]] std::size_t length() const { return length_; }
  [[nodiscard]] std::atomic<std::uint64_t>& word(std::size_t page, std::size_t index = 0) const {
    return *reinterpret_cast<std::atomic<std::uint64_t>*>(bytes_ + page * 4096 + index * 8);
  }
  // By system calls.
  [[nodiscard]] std::uint64_t read(std::size_t page, std::size_t index = 0) const {
    std::uint64_t value = 0;
    EXPECT_EQ(::pread(fd(), &value, 8, static_cast<off_t>(page * 4096 + index * 8)), 8);
    return value;
  }
  void write(std::size_t page, std::uint64_t value, std::size_t index = 0) const {
    EXPECT_EQ(::pwrite(fd(), &value, 8, static_cast<off_t>(page * 4096 + index * 8)), 8);
  }
  // What is on the disk.
  [[nodiscard]] std::uint64_t on_disk(std::size_t page) const {
    const UniqueFd direct(::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    alignas(4096) static std::array<std::uint64_t, 512> words;
    EXPECT_GT(::pread(direct.get(), words.data(), 4096, static_cast<off_t>(page * 4096)), 0)
        << std::strerror(errno);
    return words[0];
  }

  // The same while it is linked and cannot be read so: what is in its blocks, by the file that the
  // guest's file system lies in. 0: it has none there yet.
  [[nodiscard]] std::uint64_t in_blocks(std::size_t page) const {
    alignas(fiemap) std::array<std::byte, sizeof(fiemap) + sizeof(fiemap_extent)> room{};
    auto& map = *reinterpret_cast<fiemap*>(room.data());
    map.fm_start = page * 4096;
    map.fm_length = 4096;
    map.fm_extent_count = 1;
    EXPECT_EQ(::ioctl(fd(), FS_IOC_FIEMAP, &map), 0) << std::strerror(errno);
    constexpr std::uint32_t kNowhere =
        FIEMAP_EXTENT_UNWRITTEN | FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_UNKNOWN;
    const fiemap_extent& extent = map.fm_extents[0];
    if (map.fm_mapped_extents == 0 || (extent.fe_flags & kNowhere) != 0) return 0;
    const UniqueFd disk(::open("/disk", O_RDONLY | O_CLOEXEC));
    std::uint64_t value = 0;
    const std::uint64_t at = extent.fe_physical + page * 4096 - extent.fe_logical;
    EXPECT_EQ(::pread(disk.get(), &value, 8, static_cast<off_t>(at)), 8) << std::strerror(errno);
    return value;
  }

  const std::string path;

 private:
  UniqueFd fd_;
  std::uint8_t* bytes_ = nullptr;
  std::size_t length_ = 0;
};

}  // namespace gob
