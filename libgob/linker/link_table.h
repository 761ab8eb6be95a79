// LinkTable: what is to be done with requests of /dev/gob, by link. While a link is made the kernel may
// wait for programs that ask for pages of it already; those still belong to what is linked, and are left
// to it. Then all may have to wait until the link is served, or until their page was taken in. Any thread.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

#include "libgob/linker/gob_device.h"
#include "libgob/linker/mapping.h"

namespace gob {

class LinkTable {
 public:
  struct Known {
    MappingId mapping;
    ContainerId container;
  };
  enum class Verdict : std::uint8_t {
    kServe,     // by the container in `known`
    kWait,      // ask again when something has changed
    kRefuse,    // nobody serves that link
    kAnswered,  // the page was left to what is linked
  };

  // Around GOB_LINK, whose link is not known in between; hold() comes before the end.
  void begin_linking();
  void end_linking();
  // Who asks for a page waits.
  void hold(std::uint32_t link);
  // Who asks for a page that was not taken yet does not wait. The link is held, and has so many pages.
  void begin_taking(std::uint32_t link, std::uint64_t pages);
  // The pages of a run (of abi::kRun pages) that are taken now, and no others. Once this returns,
  // who asks for one of them waits.
  void set_taken(std::uint32_t link, std::uint64_t run, std::uint64_t mask);
  void serve(std::uint32_t link, Known known);
  // The container is not to be had (any more).
  void close(std::uint32_t link);
  // The link has ended.
  void remove(std::uint32_t link);

  [[nodiscard]] Verdict look_at(const abi::Request& request, const GobDevice& device,
                                Known& known) const;

 private:
  static constexpr std::uint64_t kRun = abi::kRun;
  static_assert(kRun == 64);
  struct Link {
    enum class State : std::uint8_t { kHeld, kTaking, kServed, kClosed } state = State::kHeld;
    Known known;
    std::vector<std::uint64_t> taken;  // a mask for each run
  };

  mutable std::mutex mutex_;
  unsigned linking_ = 0;
  std::map<std::uint32_t, Link> links_;
};

}  // namespace gob
