#include "libgob/runtime/page_trace.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "libgob/linker/page_checksum.h"
#include "libgob/runtime/clock.h"

namespace gob {
namespace {

constexpr std::size_t kChunkRecords = std::size_t{1} << 15;
constexpr std::size_t kChunkBytes = kChunkRecords * sizeof(TraceRecord);
constexpr std::uint64_t kMaxChunks = 1024;  // 1 GiB, 32 million records

// Room is reserved first: a full disk is an error here, not a SIGBUS at the store.
Result<void*> map_part(int fd, std::uint64_t offset, std::size_t bytes) {
  if (const int error =
          ::posix_fallocate(fd, static_cast<off_t>(offset), static_cast<off_t>(bytes));
      error != 0)
    return make_error(ErrorCode::kNoSpace, "no room for more", error);
  void* part =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(offset));
  if (part == MAP_FAILED) return system_error("cannot map more of it");
  return part;
}

}  // namespace

Result<std::unique_ptr<PageTrace>> PageTrace::create(const std::string& directory,
                                                     const std::string& node_name, NodeId node,
                                                     unsigned shard) {
  const auto pid = static_cast<std::uint32_t>(::getpid());
  std::string path = directory + "/" + node_name + "." + std::to_string(shard) + "." +
                     std::to_string(pid) + ".gobtrace";
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd)
    return system_error("cannot make the trace " + path +
                        " (trace_dir has to be a directory that gobd may write)");
  const Result<void*> mapped = map_part(fd.get(), 0, kTraceHeaderBytes);
  if (!mapped)
    return make_error(mapped.error().code,
                      "cannot write the trace " + path + ": " + mapped.error().context,
                      mapped.error().errno_value);
  auto* header = static_cast<TraceHeader*>(*mapped);
  std::memcpy(header->magic, kTraceMagic, sizeof kTraceMagic);
  header->version = kTraceVersion;
  header->record_bytes = sizeof(TraceRecord);
  header->pid = pid;
  header->node = node.value();
  header->shard = static_cast<std::uint16_t>(shard);
  header->end = TraceEnd::kOpen;
  return std::unique_ptr<PageTrace>(new PageTrace(std::move(fd), header, std::move(path)));
}

PageTrace::~PageTrace() {
  if (chunk_ != nullptr) ::munmap(chunk_, kChunkBytes);
  if (header_->end == TraceEnd::kOpen) header_->end = TraceEnd::kClosed;
  ::munmap(header_, kTraceHeaderBytes);
}

Status PageTrace::grow() {
  if (chunk_ != nullptr) {
    ::munmap(chunk_, kChunkBytes);
    chunk_ = nullptr;
    ++chunks_;
  }
  if (chunks_ == kMaxChunks)
    return make_error(ErrorCode::kNoSpace, "it has reached the largest size of a trace");
  const Result<void*> part =
      map_part(fd_.get(), kTraceHeaderBytes + chunks_ * kChunkBytes, kChunkBytes);
  if (!part) return part.error();
  chunk_ = static_cast<TraceRecord*>(*part);
  used_ = 0;
  return {};
}

void PageTrace::add(TraceRecord record) {
  if (header_->end != TraceEnd::kOpen) return;
  if (chunk_ == nullptr || used_ == kChunkRecords) {
    if (const Status grown = grow(); !grown) {
      header_->end = TraceEnd::kCut;
      spdlog::error("the trace {} ends here: {}", path_, grown.error().message());
      return;
    }
  }
  const TraceKind kind = record.kind;
  record.kind = TraceKind::kEnd;
  TraceRecord& slot = chunk_[used_++];
  slot = record;
  // Whoever reads the file after this process was killed sees whole records only.
  std::atomic_ref(slot.kind).store(kind, std::memory_order_release);
}

void PageTrace::note(TraceKind kind, PageSet pages, Access access) {
  const std::uint64_t now = monotonic_ns();
  for_each_page(pages, [&](PageId page) {
    add({now, key_of(page), 0, 0, 0, static_cast<std::uint8_t>(access), kind});
  });
}

void PageTrace::note_bytes(TraceKind kind, PageSet pages, PageSet layout, const std::byte* bytes) {
  const std::uint64_t now = monotonic_ns();
  for_each_page(pages, [&](PageId page) {
    const std::byte* at = bytes + layout.rank(page.page) * kPageSize;
    add({now, key_of(page), page_checksum(key_of(page), at), 0, 0, 0, kind});
  });
}

void PageTrace::dropped(ContainerId id) {
  add({monotonic_ns(), key_of({id, PageIndex{0}}), 0, 0, 0, 0, TraceKind::kDropped});
}

void PageTrace::view(const View& view) {
  const std::uint64_t now = monotonic_ns();
  for (const NodeId member : view.members)
    add({now, 0, view.epoch.value(), static_cast<std::uint32_t>(view.members.size()),
         member.value(), 0, TraceKind::kMember});
}

}  // namespace gob
