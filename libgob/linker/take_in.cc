#include "libgob/linker/take_in.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <string>
#include <vector>

#include "libgob/container/container_record.h"

namespace gob {
namespace {

off_t offset_of(std::uint64_t page) { return static_cast<off_t>(page * kPageSize); }

unsigned run_at(std::uint64_t first, std::uint64_t pages) {
  return static_cast<unsigned>(std::min<std::uint64_t>(abi::kRun, pages - first));
}

Status put(const UniqueFd& image, std::uint64_t first, std::uint64_t mask,
           const std::vector<std::byte>& bytes) {
  for (unsigned i = 0; i < abi::kRun; ++i) {
    if (((mask >> i) & 1) == 0) continue;
    if (::pwrite(image.get(), bytes.data() + i * kPageSize, kPageSize, offset_of(first + i)) !=
        static_cast<ssize_t>(kPageSize))
      return system_error("cannot store what is in what is being attached");
  }
  return {};
}

}  // namespace

Result<UniqueFd> take_in_segment(const GobDevice& device, std::uint32_t link,
                                 std::uint64_t pages) {
  UniqueFd image(::memfd_create("gob:segment", MFD_CLOEXEC));
  if (!image || ::ftruncate(image.get(), offset_of(pages)) != 0)
    return system_error("no memory for what is in the segment");
  std::vector<std::byte> bytes(abi::kRun * kPageSize);
  // Once to have the memory, once to have them all: the first time pages stay where they are.
  for (const bool drop : {false, true}) {
    for (std::uint64_t first = 0; first < pages; first += abi::kRun) {
      const auto taken =
          device.take(link, PageIndex{first}, run_at(first, pages), drop, bytes.data());
      if (!taken) return taken.error();
      if (Status stored = put(image, first, taken->present, bytes); !stored) return stored.error();
    }
  }
  return image;
}

Result<UniqueFd> take_in_file(const GobDevice& device, LinkTable& links, std::uint32_t link,
                              const Linkable& file, const std::function<void()>& retry) {
  const std::uint64_t pages = pages_of(file.size_bytes);
  const std::string folder = std::filesystem::path(file.path).parent_path();
  UniqueFd image(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!image) return system_error("cannot make an unnamed file in " + gob::quoted(folder));
  if (::fallocate(image.get(), 0, 0, offset_of(pages)) != 0)
    return system_error("no room for a copy of the file in " + gob::quoted(folder));
  links.begin_taking(link, pages);
  retry();
  std::vector<std::byte> bytes(abi::kRun * kPageSize);
  for (std::uint64_t first = 0; first < pages; first += abi::kRun) {
    const unsigned count = run_at(first, pages);
    const std::uint64_t all = ~std::uint64_t{0} >> (abi::kRun - count);
    // What the kernel drops between its being read and its being taken is read again.
    for (std::uint64_t taken = 0; taken != all;) {
      for (unsigned i = 0; i < count; ++i) {
        std::byte byte{};
        if (((taken >> i) & 1) == 0 && ::pread(file.file.get(), &byte, 1, offset_of(first + i)) < 0)
          return system_error("cannot read page " + std::to_string(first + i) + " of the file");
      }
      links.set_taken(link, first / abi::kRun, all);
      const auto got = device.take(link, PageIndex{first}, count, true, bytes.data());
      if (!got) return got.error();
      if (Status stored = put(image, first, got->present & ~taken, bytes); !stored)
        return stored.error();
      taken |= got->present;
      if (taken == all) break;
      links.set_taken(link, first / abi::kRun, taken);
      retry();
    }
  }
  return image;
}

}  // namespace gob
