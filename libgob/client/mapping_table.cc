#include "libgob/client/mapping_table.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "libgob/linker/uffd_client.h"

namespace gob::client {
namespace {

struct Linked {
  void* address = nullptr;
  UniqueFd uffd;
};

// Maps as asked, and registers that with a new userfaultfd.
Result<Linked> link(const MappingRequest& request, const std::string& what) {
  auto uffd = create_uffd(request.uffd_device);
  if (!uffd.ok()) return uffd.error();
  const int protection = request.writable ? PROT_READ | PROT_WRITE : PROT_READ;
  const int flags = MAP_SHARED | MAP_NORESERVE | (request.where != nullptr ? MAP_FIXED : 0);
  void* address = ::mmap(request.where, request.bytes, protection, flags, request.memfd,
                         static_cast<off_t>(request.offset));
  if (address == MAP_FAILED) return system_error(what);
  // A child would share the frames without its faults going to gobd: it gets no such mapping.
  Status ready;
  if (::madvise(address, request.bytes, MADV_DONTFORK) != 0) {
    ready = system_error(what + ": keeping it from forked children");
  } else {
    ready = register_mapping(uffd->get(), address, request.bytes);
  }
  if (!ready.ok()) {
    ::munmap(address, request.bytes);
    return ready.error();
  }
  return Linked{address, std::move(*uffd)};
}

Status keep_free(void* address, std::size_t bytes) {
  if (::mmap(address, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
             0) == MAP_FAILED)
    return system_error("taking a container's mapping away");
  return {};
}

}  // namespace

Result<UniqueFd> MappingTable::make_empty_file(const std::string& name) {
  UniqueFd file(::memfd_create(name.c_str(), MFD_CLOEXEC));
  if (!file) return system_error("creating the memory file for lost mappings");
  return file;
}

Result<MappingTable::Mapped> MappingTable::map(const MappingRequest& request) {
  const std::string what = "mapping " + std::to_string(request.bytes) + " bytes of container \"" +
                           request.container + "\"";
  const std::lock_guard guard(mutex_);
  if (poisoned_) return make_error(ErrorCode::kUnavailable, what + ": gobd has ended", ENOTCONN);
  auto linked = link(request, what);
  if (!linked.ok()) return linked.error();
  const Mapped mapped{linked->address, linked->uffd.get()};
  mappings_.emplace(mapped.address,
                    Mapping{request.id, request.container, request.container_id, request.offset,
                            request.bytes, request.writable ? PROT_READ | PROT_WRITE : PROT_READ,
                            std::move(linked->uffd), request.file});
  return mapped;
}

Result<std::uint64_t> MappingTable::unmap(void* address) {
  const std::lock_guard guard(mutex_);
  const auto found = mappings_.find(address);
  if (found == mappings_.end()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "no mapping of a container begins at this address", EINVAL);
  }
  const std::uint64_t id = found->second.id;
  if (::munmap(address, found->second.bytes) != 0) {
    return system_error("unmapping container \"" + found->second.container + "\"");
  }
  mappings_.erase(found);
  return id;
}

void MappingTable::unmap_all() {
  const std::lock_guard guard(mutex_);
  for (const auto& [address, mapping] : mappings_) ::munmap(address, mapping.bytes);
  mappings_.clear();
}

std::vector<std::string> MappingTable::poison() {
  std::vector<std::string> containers;
  const std::lock_guard guard(mutex_);
  poisoned_ = true;
  for (auto& [address, mapping] : mappings_) {
    const void* replaced = ::mmap(address, mapping.bytes, mapping.protection,
                                  MAP_SHARED | MAP_FIXED | MAP_NORESERVE, empty_file_.get(), 0);
    if (replaced == MAP_FAILED) {
      // Without this the next access would read zeros: better no program than a wrong one.
      constexpr std::string_view kWhy = "gob: gobd ended and a lost mapping cannot be taken away\n";
      (void)!::write(STDERR_FILENO, kWhy.data(), kWhy.size());
      std::abort();
    }
    // Only now may waiting threads wake: they retry and meet the empty file.
    mapping.uffd.reset();
  }
  for (const auto& [address, mapping] : mappings_) {
    if (std::find(containers.begin(), containers.end(), mapping.container) == containers.end()) {
      containers.push_back(mapping.container);
    }
  }
  return containers;
}

std::vector<MappingTable::Place> MappingTable::places() const {
  std::vector<Place> all;
  for (const auto& [address, mapping] : mappings_)
    all.push_back({address, mapping.container, mapping.container_id, mapping.offset, mapping.bytes,
                   (mapping.protection & PROT_WRITE) != 0, mapping.uffd.get(), mapping.file});
  return all;
}

Status MappingTable::leave() {
  for (auto& [address, mapping] : mappings_) {
    if (Status kept = keep_free(address, mapping.bytes); !kept.ok()) return kept;
    mapping.uffd.reset();
  }
  return {};
}

Result<int> MappingTable::join(const MappingRequest& request) {
  Mapping& mapping = mappings_.at(request.where);
  auto linked = link(request, "mapping container \"" + request.container + "\" again");
  if (!linked.ok()) {
    // Nothing else may come to lie there.
    if (Status kept = keep_free(request.where, request.bytes); !kept.ok()) return kept.error();
    return linked.error();
  }
  mapping.id = request.id;
  mapping.container_id = request.container_id;
  mapping.uffd = std::move(linked->uffd);
  return mapping.uffd.get();
}

Status MappingTable::lose(void* address) {
  Mapping& mapping = mappings_.at(address);
  if (::mmap(address, mapping.bytes, mapping.protection, MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
             empty_file_.get(), 0) == MAP_FAILED)
    return system_error("taking away what was mapped of container \"" + mapping.container + "\"");
  mapping.uffd.reset();
  return {};
}

void MappingTable::close_in_child() {
  empty_file_.reset();
  // The memory itself was not inherited (MADV_DONTFORK), or shows the empty file.
  for (auto& [address, mapping] : mappings_) mapping.uffd.reset();
  mappings_.clear();
  mutex_.unlock();
}

}  // namespace gob::client
