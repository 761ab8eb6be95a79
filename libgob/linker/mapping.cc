#include "libgob/linker/mapping.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "libgob/linker/uffd_abi.h"
#include "libgob/linker/uffd_calls.h"

namespace gob {
namespace {

constexpr unsigned kBatch = 16;
constexpr unsigned kMaxBatches = 4;  // then others get their turn; poll says if more wait

// Features the kernel shows of a userfaultfd, in /proc/self/fdinfo; 0 if the descriptor is none, or
// cannot be looked at (errno; else 0).
std::uint64_t features_of(int fd) {
  errno = 0;
  const std::string path = "/proc/self/fdinfo/" + std::to_string(fd);
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::array<char, 1024> text{};
  if (!file || ::read(file.get(), text.data(), text.size() - 1) <= 0) return 0;
  // "API:\t<api>:<enabled features>:<known features>", all hexadecimal.
  const char* line = std::strstr(text.data(), "\nAPI:");
  unsigned long long api = 0;
  unsigned long long features = 0;
  if (line == nullptr || std::sscanf(line + 5, " %llx:%llx", &api, &features) != 2) return 0;
  return api == UFFD_API ? features : 0;
}

}  // namespace

Result<std::shared_ptr<Mapping>> Mapping::create(UniqueFd uffd, const Config& config,
                                                 UniqueFd news) {
  const auto invalid = [&](const std::string& why) {
    return make_error(ErrorCode::kInvalidArgument,
                      "cannot link mapping " + std::to_string(config.id.value()) + ": " + why,
                      EINVAL);
  };
  if (config.address % kPageSize != 0) return invalid("its address is not that of a page");
  if (config.pages == 0 || config.pages > kMaxPages || config.first.value() > kMaxPages)
    return invalid("it has an impossible size");
  if (config.address == 0 || config.pages > (~std::uint64_t{0} - config.address) / kPageSize)
    return invalid("it does not fit the program's address space");
  // The kernel keeps a flag of its own in the uppermost bit of these 32.
  const std::uint64_t features = features_of(uffd.get()) & 0x7fffffffu;
  if (features == 0 && (errno == EMFILE || errno == ENFILE))
    return system_error("cannot look at the userfaultfd of mapping " +
                        std::to_string(config.id.value()));
  if (features == 0) return invalid("the descriptor sent is not a userfaultfd after its handshake");
  if (features != (news ? kUffdNewsFeatures : kUffdFeatures))
    return invalid(
        "its userfaultfd has other features than libgob asks for; is the program linked "
        "with the libgob of this gobd?");
  return std::shared_ptr<Mapping>(
      new Mapping(std::move(uffd), std::move(news), std::nullopt, config));
}

std::shared_ptr<Mapping> Mapping::of_link(KernelLink link, const Config& config) {
  return std::shared_ptr<Mapping>(new Mapping({}, {}, std::move(link), config));
}

std::uint64_t Mapping::mask_of_stripe(std::uint64_t stripe) const {
  const std::uint64_t begin = stripe * kStripePages;
  const std::uint64_t first = std::max(begin, config_.first.value());
  const std::uint64_t end = std::min(begin + kStripePages, config_.first.value() + config_.pages);
  if (first >= end) return 0;
  return (~std::uint64_t{0} >> (kStripePages - (end - first))) << (first - begin);
}

void Mapping::send_news() {
  std::size_t sent = 0;
  kernel_lacks_room_ = false;
  for (; sent < unsent_.size(); ++sent) {
    News& news = unsent_[sent];
    iovec part{&news.message, sizeof news.message};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    if (news.fd) {
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      cmsghdr* const header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int));
      const int fd = news.fd.get();
      std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
    }
    if (::sendmsg(news_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) continue;
    if (errno == EAGAIN || errno == EINTR) break;
    // ETOOMANYREFS: too many descriptors wait to be read, in whatever sockets.
    kernel_lacks_room_ = errno == ENOBUFS || errno == ENOMEM || errno == ETOOMANYREFS;
    if (kernel_lacks_room_) break;
    if (news.fd) refused_.push_back(std::move(news.fd));
  }
  unsent_.erase(unsent_.begin(), unsent_.begin() + static_cast<std::ptrdiff_t>(sent));
}

Status Mapping::drain(std::vector<Fault>& out) {
  std::array<uffd_msg, kBatch> batch;
  lacks_descriptor_ = false;
  for (unsigned round = 0; round < kMaxBatches; ++round) {
    const std::int64_t got = uffd_read(uffd_.get(), batch);
    if (got == -EAGAIN || got == -EINTR) return {};
    // The event stays with the kernel, behind all faults.
    if (news_ && (got == -EMFILE || got == -ENFILE || got == -ENOMEM)) {
      lacks_descriptor_ = true;
      return {};
    }
    if (got < 0) {
      mark_dead();
      errno = static_cast<int>(-got);
      return system_error("cannot read faults of mapping " + std::to_string(id().value()));
    }
    const auto count = static_cast<std::size_t>(got);
    for (std::size_t i = 0; i < count; ++i) {
      const uffd_msg& message = batch[i];
      if (news_ && message.event == UFFD_EVENT_FORK) {
        unsent_.push_back({{id().value(), MappingNews::kForked, 0, 0, 0},
                           UniqueFd(static_cast<int>(message.arg.fork.ufd))});
        send_news();
        continue;
      }
      if (news_ && message.event == UFFD_EVENT_REMAP) {
        const auto& remap = message.arg.remap;
        unsent_.push_back(
            {{id().value(), MappingNews::kMoved, remap.from, remap.to, remap.len}, {}});
        moved_ = true;
        send_news();
        continue;
      }
      if (message.event != UFFD_EVENT_PAGEFAULT) {
        // A fork event carries a descriptor that is ours now.
        if (message.event == UFFD_EVENT_FORK) ::close(static_cast<int>(message.arg.fork.ufd));
        mark_dead();
        return make_error(ErrorCode::kProtocol,
                          "mapping " + std::to_string(id().value()) +
                              " reports an event that libgob never enables (" +
                              std::to_string(message.event) + ")",
                          EPROTO);
      }
      const std::uint64_t address = message.arg.pagefault.address;
      const PageIndex page{config_.first.value() + (address - config_.address) / kPageSize};
      // Of ranges that we were not told of nothing is served.
      if (address < config_.address || !contains(page)) {
        // It grew in its place: what lies behind it is the end of a file. While the program forks
        // the kernel refuses: then it is asked for again. If it was moved before this mapping could
        // hear of it, another one will be told where it is.
        if (news_ && !moved_ && uffd_is_there(uffd_.get(), config_.address)) {
          const std::uint64_t start = address & ~(kPageSize - 1);
          if (uffd_poison(uffd_.get(), start, 1).outcome != UffdOutcome::kDone)
            uffd_wake(uffd_.get(), start, 1);
        }
        continue;
      }
      const std::uint64_t flags = message.arg.pagefault.flags;
      Fault fault{id(), {config_.container, page}, Access::kRead, FaultKind::kMissing, {}};
      if ((flags & UFFD_PAGEFAULT_FLAG_MINOR) != 0) fault.kind = FaultKind::kMinor;
      if ((flags & UFFD_PAGEFAULT_FLAG_WP) != 0) fault.kind = FaultKind::kWriteProtect;
      if ((flags & (UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP)) != 0)
        fault.access = Access::kWrite;
      out.push_back(fault);
    }
    if (count < kBatch) return {};
  }
  return {};
}

}  // namespace gob
