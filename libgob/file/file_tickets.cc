#include "libgob/file/file_tickets.h"

#include <sys/random.h>

#include <algorithm>

namespace gob::file {

namespace {
constexpr std::size_t kMostGiven = 1024;  // programs take theirs at once, or never
}  // namespace

Result<FileTicket> FileTickets::give(const MappableFile& file) {
  FileTicket ticket{};
  if (::getrandom(ticket.data(), sizeof ticket, 0) != static_cast<ssize_t>(sizeof ticket))
    return system_error("a ticket for a file: no random number");
  const std::lock_guard guard(mutex_);
  if (given_.size() == kMostGiven) given_.pop_front();
  given_.emplace_back(ticket, file);
  return ticket;
}

std::optional<MappableFile> FileTickets::take(const FileTicket& ticket) {
  const std::lock_guard guard(mutex_);
  const auto found = std::ranges::find(given_, ticket, &decltype(given_)::value_type::first);
  if (found == given_.end()) return std::nullopt;
  const MappableFile file = found->second;
  given_.erase(found);
  return file;
}

}  // namespace gob::file
