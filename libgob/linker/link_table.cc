#include "libgob/linker/link_table.h"

#include <cerrno>

namespace gob {

void LinkTable::begin_linking() {
  const std::lock_guard lock(mutex_);
  ++linking_;
}

void LinkTable::end_linking() {
  const std::lock_guard lock(mutex_);
  --linking_;
}

void LinkTable::hold(std::uint32_t link) {
  const std::lock_guard lock(mutex_);
  links_[link] = {};
}

void LinkTable::begin_taking(std::uint32_t link, std::uint64_t pages) {
  const std::lock_guard lock(mutex_);
  Link& entry = links_[link];
  entry.state = Link::State::kTaking;
  entry.taken.assign((pages + kRun - 1) / kRun, 0);
}

void LinkTable::set_taken(std::uint32_t link, std::uint64_t run, std::uint64_t mask) {
  const std::lock_guard lock(mutex_);
  links_.at(link).taken.at(run) = mask;
}

void LinkTable::serve(std::uint32_t link, Known known) {
  const std::lock_guard lock(mutex_);
  links_[link] = {Link::State::kServed, known, {}};
}

void LinkTable::close(std::uint32_t link) {
  const std::lock_guard lock(mutex_);
  links_[link] = {Link::State::kClosed, {}, {}};
}

void LinkTable::remove(std::uint32_t link) {
  const std::lock_guard lock(mutex_);
  links_.erase(link);
}

// An answer is given under the lock: once a page counts as taken nobody is sent to the disk for it.
LinkTable::Verdict LinkTable::look_at(const abi::Request& request, const GobDevice& device,
                                      Known& known) const {
  const std::lock_guard lock(mutex_);
  const auto found = links_.find(request.link);
  if (found == links_.end() && linking_ == 0) return Verdict::kRefuse;
  if (found != links_.end()) {
    const Link& link = found->second;
    const std::uint64_t run = request.index / kRun;
    switch (link.state) {
      case Link::State::kServed:
        known = link.known;
        return Verdict::kServe;
      case Link::State::kClosed:
        return Verdict::kRefuse;
      case Link::State::kHeld:
        return Verdict::kWait;
      case Link::State::kTaking:
        if (run < link.taken.size() && ((link.taken[run] >> (request.index % kRun)) & 1) != 0)
          return Verdict::kWait;
        break;  // not taken yet, or a write makes the file longer
    }
  }
  const bool fill = request.op == abi::kFirstTouch || request.op == abi::kLookupPage;
  abi::Reply reply{request.slot, fill ? -EOPNOTSUPP : 0, abi::kReplyWrite, 0, request.serial};
  return device.reply({&reply, 1}) ? Verdict::kAnswered : Verdict::kRefuse;
}

}  // namespace gob
