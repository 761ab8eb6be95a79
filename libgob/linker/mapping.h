// Mapping: one program's memory mapping of a part of a container, and the faults it reports. Shared
// by the shards; constant but for `dead`. One thread, which polls uffd(), drains it. A segment that
// the patched kernel links stands for all its programs as one mapping: its faults are requests of
// /dev/gob, and it has no uffd.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "libgob/base/ids.h"
#include "libgob/base/page_set.h"
#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/linker/gob_device.h"
#include "libgob/protocol/event.h"

namespace gob {

// Never reused while the daemon runs. 0 is no mapping.
using MappingId = StrongId<struct MappingTag, std::uint64_t>;

enum class FaultKind : std::uint8_t {
  kMissing,       // the page has no frame here
  kMinor,         // it has a frame that is not mapped
  kWriteProtect,  // it is mapped for reading; the program writes
};

// What the kernel asked about a page of a linked segment, to be answered once.
struct KernelRequest {
  std::uint32_t slot = 0;
  std::uint64_t serial = 0;
  bool fill = false;  // it has not the page; else it asks for the right to write
};

// What a mapping with news tells whoever made it in the program, by a message of this.
struct MappingNews {
  enum Kind : std::uint64_t {
    kForked,  // with a descriptor: the userfaultfd of the child's copy, at the same address
    kMoved,   // by mremap(2): nothing of it is served any more
  };
  std::uint64_t mapping = 0;
  std::uint64_t kind = kForked;
  std::uint64_t from = 0, to = 0, bytes = 0;  // kMoved: addresses
};

// A thread of a program stands still until the page is mapped for `access`.
struct Fault {
  MappingId mapping;
  PageId page;
  Access access = Access::kRead;
  FaultKind kind = FaultKind::kMissing;  // as it was when the kernel spoke
  KernelRequest request{};               // of a linked segment
};

class Mapping {
 public:
  struct Config {
    MappingId id;
    ContainerId container;
    std::uint64_t address = 0;  // in the program
    PageIndex first;
    std::uint64_t pages = 0;
    bool writable = false;  // the program may write; if not, a write gets SIGBUS whatever it mapped
  };

  // Takes a userfaultfd that a program sent, and refuses what is none, or not one made as
  // create_uffd() makes it: the sender is not trusted. With `news`, a socket that keeps messages
  // apart, it has kUffdNewsFeatures.
  static Result<std::shared_ptr<Mapping>> create(UniqueFd uffd, const Config& config,
                                                 UniqueFd news = {});
  // A linked segment: the whole container, at address 0.
  static std::shared_ptr<Mapping> of_link(KernelLink link, const Config& config);

  [[nodiscard]] const Config& config() const { return config_; }
  [[nodiscard]] MappingId id() const { return config_.id; }
  // Readable when faults wait. -1: a linked segment.
  [[nodiscard]] int uffd() const { return uffd_.get(); }
  [[nodiscard]] const std::optional<KernelLink>& link() const { return link_; }
  [[nodiscard]] bool contains(PageIndex page) const {
    return page >= config_.first && page.value() - config_.first.value() < config_.pages;
  }
  // Copies of it may be in children that this node has not been told of yet, and have its rights.
  [[nodiscard]] bool has_news() const { return static_cast<bool>(news_); }
  // Those pages of `stripe` that lie in the mapping.
  [[nodiscard]] std::uint64_t mask_of_stripe(std::uint64_t stripe) const;
  // Where the program sees the page.
  [[nodiscard]] std::uint64_t address_of(PageIndex page) const {
    return config_.address + (page.value() - config_.first.value()) * kPageSize;
  }

  // Appends the faults that wait, at most a few batches of 16; never blocks. An Error means that
  // the descriptor does not behave as a linked mapping's: the mapping is dead then.
  Status drain(std::vector<Fault>& out);
  // This process had no descriptor left for a child of the program, which waits in fork(2): to be
  // drained again a little later. No event says when, and uffd() stays readable.
  [[nodiscard]] bool lacks_descriptor() const { return lacks_descriptor_; }

  // News that the socket has no room for. Whoever polls uffd() calls send_news() when news() can be
  // written to, until nothing is unsent, also if the mapping has ended meanwhile.
  [[nodiscard]] bool has_unsent_news() const { return !unsent_.empty(); }
  // It is the kernel that has no room, and no event says when: again a little later.
  [[nodiscard]] bool kernel_lacks_room() const { return kernel_lacks_room_; }
  // The program moved the memory: it is not at config().address any more.
  [[nodiscard]] bool moved() const { return moved_; }
  [[nodiscard]] int news() const { return news_.get(); }
  void send_news();
  // Userfaultfds of children of which nobody will ever read: for LostMemory.
  [[nodiscard]] std::vector<UniqueFd> take_refused() { return std::exchange(refused_, {}); }

  // The program is gone or misbehaves: nothing is to be done for it any more. Any thread.
  [[nodiscard]] bool dead() const { return dead_.load(std::memory_order_relaxed); }
  void mark_dead() { dead_.store(true, std::memory_order_relaxed); }

 private:
  Mapping(UniqueFd uffd, UniqueFd news, std::optional<KernelLink> link, const Config& config)
      : uffd_(std::move(uffd)), news_(std::move(news)), link_(std::move(link)), config_(config) {}

  const UniqueFd uffd_;
  const UniqueFd news_;
  const std::optional<KernelLink> link_;
  const Config config_;
  std::atomic<bool> dead_ = false;
  // Not sent yet. A child whose descriptor were closed would read zeros.
  struct News {
    MappingNews message;
    UniqueFd fd;
  };
  std::vector<News> unsent_;
  std::vector<UniqueFd> refused_;
  bool moved_ = false;
  bool lacks_descriptor_ = false;
  bool kernel_lacks_room_ = false;
};

}  // namespace gob
