#include "libgob/migration/page_mover.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "libgob/runtime/control_wire.h"

namespace gob::migration {
namespace {

template <class Message>
void place(Message& wanted, std::uint32_t container, std::uint64_t first, std::uint64_t pages,
           std::size_t lane) {
  wanted.set_container_id(container);
  wanted.set_first_page(first);
  wanted.set_pages(pages);
  wanted.set_at(lane * PageMover::kLanePages * kPageSize);
}

}  // namespace

Result<std::unique_ptr<PageMover>> PageMover::open(const std::string& socket, std::size_t lanes) {
  const std::size_t bytes = lanes * kLanePages * kPageSize;
  const UniqueFd buffer(::memfd_create("gob-pages", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!buffer || ::ftruncate(buffer.get(), static_cast<off_t>(bytes)) != 0 ||
      ::fcntl(buffer.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0)
    return system_error("making a buffer for pages");
  auto gobd = ControlClient::connect(socket, "gobmigrate");
  if (!gobd) return gobd.error();
  control::Request request;
  request.mutable_lend_buffer()->set_bytes(bytes);
  if (auto lent = (*gobd)->call(std::move(request), std::array{buffer.get()}); !lent)
    return lent.error();
  void* const memory =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, buffer.get(), 0);
  if (memory == MAP_FAILED) return system_error("mapping a buffer for pages");
  return std::unique_ptr<PageMover>(
      new PageMover(std::move(*gobd), static_cast<std::byte*>(memory), bytes));
}

PageMover::~PageMover() { ::munmap(memory_, bytes_); }

Result<std::uint32_t> PageMover::find(const std::string& name, Use use) const {
  control::Request request;
  auto& wanted = *request.mutable_open_container();
  wanted.set_name(name);
  wanted.set_read(true);
  wanted.set_write(use == Use::kMove);
  const auto answer = gobd_->call(std::move(request));
  if (!answer) return answer.error();
  return answer->reply.container().container().id();
}

// For ever: gobd answers within its page timeout, or its end ends the connection. An answer after a
// time-out of our own would write to a lane that is in use again.
Status PageMover::take(std::uint32_t container, std::uint64_t first, std::uint64_t pages,
                       std::size_t lane, std::uint64_t ahead) const {
  control::Request request;
  control::TakePages& wanted = *request.mutable_take_pages();
  place(wanted, container, first, pages, lane);
  wanted.set_ahead(ahead);
  const auto answer = gobd_->call(std::move(request), {}, ControlClient::kForever);
  return answer ? Status() : Status(answer.error());
}

Status PageMover::copy(std::uint32_t container, std::uint64_t first, std::uint64_t pages,
                       std::size_t lane, std::uint64_t at) const {
  control::Request request;
  control::CopyPages& wanted = *request.mutable_copy_pages();
  place(wanted, container, first, pages, lane);
  wanted.set_at(wanted.at() + at * kPageSize);
  const auto answer = gobd_->call(std::move(request), {}, ControlClient::kForever);
  return answer ? Status() : Status(answer.error());
}

Status PageMover::put(std::uint32_t container, std::uint64_t first, std::uint64_t pages,
                      std::size_t lane) const {
  control::Request request;
  place(*request.mutable_put_pages(), container, first, pages, lane);
  const auto answer = gobd_->call(std::move(request), {}, ControlClient::kForever);
  return answer ? Status() : Status(answer.error());
}

Status PageMover::serve(const std::string& name, std::span<const int> processes) const {
  while (true) {
    const auto some = processes.first(std::min(processes.size(), kMaxControlFds));
    processes = processes.subspan(some.size());
    control::Request request;
    request.mutable_serve_processes()->set_name(name);
    request.mutable_serve_processes()->set_more(!processes.empty());
    const auto answer = gobd_->call(std::move(request), some);
    if (!answer) return answer.error();
    if (processes.empty()) return {};
  }
}

}  // namespace gob::migration
