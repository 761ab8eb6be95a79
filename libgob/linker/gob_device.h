// GobDevice: gobd's end of /dev/gob, by which the patched kernel asks for the pages of linked
// segments. Every call may be made by any thread, but for next(): one thread reads the requests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "libgob/base/ids.h"
#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/linker/gob_abi.h"
#include "libgob/linker/lost_pages.h"
#include "libgob/linker/taken_pages.h"

namespace gob {

class GobDevice {
 public:
  struct Found {
    std::uint32_t link;
    std::uint64_t cookie;
  };
  struct Taken {
    unsigned count = 0;         // pages from the first that were dealt with
    std::uint64_t present = 0;  // bit i: page first + i was in the segment
  };

  // `service`: at most 15 bytes, the same for every life of this gobd: links of an earlier one are
  // found again. `patience_ms`: how long programs wait for a gobd to come back. kUnsupported: there
  // is no such device; kPermissionDenied; kUnavailable: another gobd serves under this name.
  static Result<std::shared_ptr<GobDevice>> open(const std::string& service,
                                                 std::uint32_t patience_ms);
  ~GobDevice();
  GobDevice(const GobDevice&) = delete;
  GobDevice& operator=(const GobDevice&) = delete;

  // Readable when requests wait.
  [[nodiscard]] int fd() const { return fd_.get(); }
  // False: none waits.
  bool next(abi::Request& request);
  // The page of a request that was not answered yet: where its bytes go.
  [[nodiscard]] std::byte* data(std::uint32_t slot) const {
    return area_ + (abi::kDataPages + slot) * kPageSize;
  }
  // At most kSlots. Afterwards `error` is -ECANCELED where nobody had waited any more: such a page
  // was not taken in.
  Status reply(std::span<abi::Reply> replies) const;
  void refuse(const abi::Request& request) const;  // EIO, in the program SIGBUS

  // Waits for accesses that are under way: requests must be served meanwhile. Of a plain file, with
  // `keep`, the kernel drops no page that it was given.
  Result<std::uint32_t> link(int fd, std::uint64_t cookie, bool keep) const;
  // What is in memory stays; accesses under way that need a page end in EIO.
  Status unlink(std::uint32_t link) const;
  [[nodiscard]] std::vector<Found> links() const;
  // `count` <= kRun. Takes the right to write, and with `drop` the pages themselves, from all
  // programs; with `save` copies those that were there to count pages of memory (the place of one
  // that was not is left alone). Waits for devices that write into a page, for seconds at most.
  Result<Taken> take(std::uint32_t link, PageIndex first, unsigned count, bool drop,
                     std::byte* save) const;

 private:
  GobDevice(UniqueFd fd, std::byte* area) : fd_(std::move(fd)), area_(area) {}
  [[nodiscard]] abi::Ring& ring() const { return *reinterpret_cast<abi::Ring*>(area_); }

  const UniqueFd fd_;
  std::byte* const area_;
};

// A link with its device: what a shard needs of it.
struct KernelLink {
  std::shared_ptr<GobDevice> device;
  std::uint32_t id = 0;
  std::shared_ptr<LostPages> lost;
  std::shared_ptr<TakenPages> taken;
};

}  // namespace gob
