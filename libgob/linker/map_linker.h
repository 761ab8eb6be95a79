// MapLinker: the memory map linker (paper §4.1.1), one for each shard. It connects the frames of
// this node to the mappings of its programs: faults go in, and the core's actions on frames come
// out as kernel calls. One thread owns it; it speaks of pages of its shard's stripes only. Mappings
// and frame pools are shared with the other shards.
//
//   mapping->drain(faults);                       // the thread that polls mapping->uffd()
//   if (linker.note(fault, now)) core.step(event::Touch{...});
//   linker.install / map / downgrade / ...        // action by action, in order
//
// A call returns an Error only where memory is exhausted or the kernel breaks its word; what
// programs do to their mappings (exit, unmap, zap, wrong descriptors) is never an error here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "libgob/base/page_set.h"
#include "libgob/base/page_table.h"
#include "libgob/base/result.h"
#include "libgob/container/frame_pool.h"
#include "libgob/linker/ahead_list.h"
#include "libgob/linker/mapping.h"
#include "libgob/linker/uffd_calls.h"
#include "libgob/linker/waiting_list.h"

namespace gob {

// Page bytes packed in the order of `layout`, as a message carries them.
struct PageBytes {
  PageSet layout;
  const std::byte* base = nullptr;
  [[nodiscard]] const std::byte* at(PageIndex page) const {
    return base + layout.rank(page) * kPageSize;
  }
};

struct MapLinkerCounters {
  std::uint64_t missing_faults = 0;
  std::uint64_t minor_faults = 0;
  std::uint64_t write_protect_faults = 0;
  std::uint64_t denied_writes = 0;    // by mappings without the right to write
  std::uint64_t copied_pages = 0;     // stored and mapped in one call
  std::uint64_t stored_pages = 0;     // stored without being mapped
  std::uint64_t ahead_pages = 0;      // mapped although nobody waited
  std::uint64_t refused_pages = 0;    // waiting programs that got SIGBUS, counted by page
  std::uint64_t vanished_frames = 0;  // removed behind our back (MADV_REMOVE by a program)
  std::uint64_t forced_unmaps = 0;    // write-protect was impossible, the mappings were cut instead
  std::uint64_t segment_pages = 0;    // given to a linked segment
  std::uint64_t segment_rights = 0;   // to write pages that it had
};

class MapLinker {
 public:
  static Result<MapLinker> create();

  void add_container(ContainerId id, std::shared_ptr<const FramePool> pool);
  // action::DropContainer: frees every frame. Mappings stay, for the core to refuse their faults,
  // and keep the pool until the last of them is removed.
  Status drop_container(ContainerId id);
  // The container must be there, and the mapping lie inside it. A linked segment is the only
  // mapping of its container: its frames are its own, so no other mapping would see them.
  Status add_mapping(std::shared_ptr<Mapping> mapping);
  // Faults of it are forgotten: a living program whose threads wait must be woken by whoever also
  // holds the userfaultfd.
  void remove_mapping(MappingId id);

  // A fault of one of this shard's pages. True: the core has to be told. False: it knows already,
  // or the fault was answered here.
  bool note(const Fault& fault, std::uint64_t now_ns);
  // Pages were asked for ahead of need on behalf of a mapping: map them when they arrive, but for
  // those in `unmapped`, which must fault when they are touched.
  void expect(MappingId mapping, PageSet pages, std::uint64_t unmapped);
  // Pages that some program has waited for since before `since_ns`.
  void overdue(std::uint64_t since_ns, std::vector<PageSet>& out) const {
    waiting_.overdue(since_ns, out);
  }
  // Faults not yet resolved.
  [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }

  // A linked segment is to be cut off, with the bytes it has: from now on no page is taken away
  // from it. What would be stays in it as its own, to be read and written.
  void begin_cut(ContainerId id);
  // The pages of the container that are in the segment become its own, and the pool has copies. At
  // most so many; true: all are done.
  Result<bool> cut_some(ContainerId id, std::size_t pages);

  [[nodiscard]] bool has_mappings(ContainerId id) const;
  // Is it a segment's or file's, in which its pages are?
  [[nodiscard]] bool is_linked(ContainerId id) const;
  // Somebody waits for one of these pages.
  [[nodiscard]] bool waits_for(PageSet pages) const;

  // action::Install. Access::kNone only stores. Every page of `pages` is in bytes.layout.
  Status install(PageSet pages, const PageBytes& bytes, Access access);
  Status install_zero(PageSet pages, Access access);
  // action::Map. Everybody who waits for these pages tries again; a writer granted a read faults
  // anew.
  Status map(PageSet pages, Access access);
  // action::Downgrade: once it returns, no program can write to the pages.
  Status downgrade(PageSet pages);
  // Out of all programs' memories; the frames stay, and who touches them asks anew.
  Status cut(PageSet pages);
  // action::Invalidate: once it returns, no program can read the old pages.
  Status invalidate(PageSet pages);
  // The bytes of frames that stay, packed; a writable page must be downgraded first.
  Status load(PageSet pages, std::byte* out) const;
  // The bytes of frames that leave, packed: out of every mapping first, then read, then freed.
  Status take(PageSet pages, std::byte* out);
  // action::Refuse: waiting accesses end in SIGBUS, or EFAULT inside the kernel. The page stays so
  // in that mapping until the program unmaps it or calls madvise(MADV_DONTNEED), or until it is
  // mapped ahead of need. In a container that was removed nobody waits. `for_good`: the bytes are lost;
  // a segment that is being cut off may get zeros instead (LostPages).
  Status refuse(PageSet pages, bool for_good = false);

  [[nodiscard]] const MapLinkerCounters& counters() const { return counters_; }
  // Bytes of the structures that grow with frames.
  [[nodiscard]] std::size_t memory_bytes() const {
    return writable_.memory_bytes() + places_.memory_bytes();
  }

 private:
  // Mappings are told apart in a byte for each page: 0..6 each by its bit, all others by bit 7.
  static constexpr std::uint8_t kExactSlots = 7;
  struct Linked {
    std::shared_ptr<Mapping> mapping;
    std::uint8_t slot;  // <= kExactSlots
  };
  // A linked segment: what the kernel waits for, by page.
  struct Segment {
    Mapping* mapping;
    std::unordered_map<std::uint64_t, std::vector<KernelRequest>> requests;
    bool cut = false;
  };
  // Where a page is that has a frame here: without an entry in the pool, else in the segment.
  enum class Place : std::uint8_t {
    kPool,
    kToRead,   // in the segment
    kToWrite,  // in the segment, with the right to write it
    kOwn,  // the segment's own since it is being cut off; the container's page may be in the pool
  };
  struct Container {
    std::shared_ptr<const FramePool> pool;
    std::map<MappingId, Linked> mappings;
    std::optional<Segment> segment;
    std::uint8_t next_slot = 0;
    bool dropped = false;
    bool news = false;  // it had a mapping with news: nobody knows all that may write
  };
  // Where the bytes of a run are: packed in a message, or zeros everywhere.
  struct Source {
    const PageBytes* bytes;  // null: zeros
    const std::byte* zeros;
    [[nodiscard]] const std::byte* at(PageIndex page) const {
      return bytes == nullptr ? zeros : bytes->at(page);
    }
  };

  MapLinker(PagePipe pipe, const std::byte* zeros) : pipe_(std::move(pipe)), zeros_(zeros) {}

  [[nodiscard]] Container* find_container(ContainerId id);
  // Those who want some of these pages, in demands_ until the next call.
  void collect(PageSet pages);
  Status install_from(PageSet pages, const Source& source, Access access);
  // Tells which of `wanted` it stored and mapped.
  std::uint64_t copy_to(Container& container, Mapping& mapping, PageSet wanted,
                        const Source& source, Access access);
  void grant(Container& container, const Demand& demand, PageSet pages, Access access);
  void grant_run(Container& container, Mapping& mapping, PageIndex first, unsigned count,
                 Access access, std::uint64_t waiting);
  void grant_page(Container& container, Mapping& mapping, PageIndex page, Access access);
  void allow_write(Container& container, Mapping& mapping, PageIndex first, unsigned count);
  // Returns the mask of pages that may still be writable.
  std::uint64_t protect(Mapping& mapping, PageSet pages);
  Status refuse_page(Container& container, Mapping& mapping, PageIndex page);
  void note_writable(Container& container, Mapping& mapping, PageIndex first, unsigned count);
  void left_mappings(PageSet pages);

  // map_linker_segment.cc
  bool note_request(Container& container, const Fault& fault, std::uint64_t now_ns);
  [[nodiscard]] std::uint64_t in_segment(PageSet pages, bool writable_only = false) const;
  Result<std::uint64_t> answer(Container& container, PageSet pages, Access access,
                               const Source* source);
  Status answer_from_pool(Container& container, PageSet pages, Access access);
  Status refuse_requests(Container& container, PageSet pages, bool for_good);
  static Status take_from_segment(const Container& container, PageSet pages, bool drop,
                                  PageSet layout, std::byte* save);
  void leave_segment(Container& container, PageSet pages);
  Status drop_segment(ContainerId id, Container& container);

  PagePipe pipe_;
  const std::byte* zeros_;  // a stripe of zeros, mapped for the life of the process
  std::map<ContainerId, Container> containers_;
  WaitingList waiting_;
  AheadList ahead_;
  // Through which mappings' slots a page may be written now. A page without an entry: none.
  PageTable<std::uint8_t> writable_;
  PageTable<Place> places_;  // of containers with a linked segment
  std::vector<Demand> demands_;
  MapLinkerCounters counters_;
};

}  // namespace gob
