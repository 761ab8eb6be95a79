// Events and program accesses at one modelled node; the actions are in perform.cc.
#include "tests/sim/host_model.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "tests/sim/hash.h"

namespace gob::sim {

void Effects::clear() {
  sent.clear();
  done.clear();
  refused.clear();
  woken.clear();
  touched.clear();
  held.clear();
  jobs.clear();
  synced.clear();
  written.clear();
  io_started = 0;
  serving = false;
  left = false;
  broken.clear();
}

void Effects::fail(std::string text) {
  if (broken.empty()) broken = std::move(text);
}

NodeModel::NodeModel(const Geometry& geometry, const CoreConfig& config, unsigned threads)
    : geometry_(geometry),
      core_(config),
      frames_(geometry.pages()),
      slots_(geometry.pages()),
      holds_(geometry.pages()),
      threads_(threads),
      homes_(geometry.containers + 1, kNoNode),
      allowed_(config.budget_frames) {}

void NodeModel::step(const Event& event, const Packet* payload, Effects& fx) {
  if (std::holds_alternative<event::Expire>(event)) expired_ = true;
  if (std::holds_alternative<event::Leave>(event)) leaving_ = true;
  if (const auto* gone = std::get_if<event::RemoveContainer>(&event))
    removed_ |= std::uint64_t{1} << (gone->id.value() % 64);
  if (const auto* added = std::get_if<event::AddContainer>(&event)) {
    homes_[added->info.id.value()] = added->info.home;
    for (unsigned page = 0; page < geometry_.pages(); ++page)
      if (on_device(page) && geometry_.page(page).container == added->info.id) set_device(page, 0);
  }
  const std::optional<PageId> first = core_.first_for_room();
  const std::set<PageId> had_frames = first ? requests_with_frames() : std::set<PageId>{};
  // A view change asks for everything anew.
  const bool serves =
      core_.phase() == Core::Phase::kServing && !std::holds_alternative<event::NewView>(event);
  Actions actions;
  core_.step(event, actions);
  if (first && serves && core_.first_for_room() == first) check_order(had_frames, actions, fx);
  for (const Action& action : actions)
    std::visit([&](const auto& a) { perform(a, payload, fx); }, action);
  check(fx);
  go_on_with_syncs(fx);
}

std::set<PageId> NodeModel::requests_with_frames() const {
  std::set<PageId> pages;
  for (const auto& [key, pending] : core_.all_pending())
    if (pending.reserved) pages.insert(page_of(key));
  return pages;
}

// Frames go to those who wait for one in the order in which they came (docs/PROTOCOL.md): while the
// first of them waits, nobody else gets one for a request or from swap.
void NodeModel::check_order(const std::set<PageId>& had_frames, const Actions& actions,
                            Effects& fx) const {
  for (const PageId page : requests_with_frames()) {
    const auto sends = [&](const Action& action) {
      const auto* send = std::get_if<action::Send>(&action);
      return send != nullptr && send->message.pages.container == page.container &&
             send->message.pages.contains(page.page) &&
             (send->message.type == MessageType::kGet || send->message.type == MessageType::kGrab);
    };
    if (!had_frames.contains(page) && std::ranges::any_of(actions, sends))
      fx.fail("a request takes a frame that others have waited for longer");
  }
  for (const Action& action : actions) {
    const auto* swap_in = std::get_if<action::SwapIn>(&action);
    if (swap_in != nullptr && homes_[swap_in->pages.container.value()] != core_.config().self)
      fx.fail("a page takes a frame that others have waited for longer, to come back from swap");
  }
}

void NodeModel::begin(unsigned thread, PageSet pages, Access access, std::uint64_t ahead,
                      Value value, Effects& fx) {
  threads_[thread] = {Thread::State::kWoken, access, pages};
  attempt(thread, ahead, value, fx);
}

void NodeModel::retry(unsigned thread, Value value, Effects& fx) { attempt(thread, 0, value, fx); }

void NodeModel::attempt(unsigned thread, std::uint64_t ahead, Value value, Effects& fx) {
  Thread& program = threads_[thread];
  for_each_page(program.pages, [&](PageId id) {
    const unsigned page = geometry_.index(id);
    Frame& frame = frames_[page];
    if (frame.rights < program.access) return;
    if (program.access == Access::kWrite) frame.value = value;
    fx.done.push_back({thread, page, program.access, frame.value});
    fx.touched.push_back(page);
    program.pages.mask &= ~PageSet::of(id).mask;
  });
  if (program.pages.empty()) {
    program = Thread{};
    return;
  }
  program.state = Thread::State::kBlocked;
  step(event::Touch{program.pages, program.access, ahead}, nullptr, fx);
}

bool NodeModel::on_device(unsigned page) const {
  return homes_[geometry_.page(page).container.value()] == core_.config().self;
}

bool NodeModel::of_file(unsigned page) const {
  return homes_[geometry_.page(page).container.value()] != kNoNode;
}

bool NodeModel::may_finish(unsigned index) const {
  for (unsigned i = 0; i < index; ++i)
    if (io_[i].pages.container == io_[index].pages.container &&
        io_[i].pages.stripe == io_[index].pages.stripe &&
        (io_[i].pages.mask & io_[index].pages.mask) != 0)
      return false;
  return true;
}

void NodeModel::finish_file_io(const Io& io, bool ok, Effects& fx) {
  if (io.out) {
    unsigned rank = 0;
    for_each_page(io.pages, [&](PageId id) {
      const Value value = io.values[rank++];
      if (ok) slots_[geometry_.index(id)].value = value;
      if (ok && io.stays) fx.written.push_back(geometry_.index(id));
      fx.touched.push_back(geometry_.index(id));
    });
    if (io.stays) return step(event::WrittenBack{io.pages, ok}, nullptr, fx);
    return step(event::SwappedOut{io.pages, ok}, nullptr, fx);
  }
  Packet read;
  read.message.type = MessageType::kPage;
  read.message.payload = Payload::kCopy;
  read.message.pages = io.pages;
  for_each_page(io.pages, [&](PageId id) {
    read.bytes.push_back(slots_[geometry_.index(id)].value);
    fx.touched.push_back(geometry_.index(id));  // nobody may want it any more
    --present_;  // what the core keeps of it, it installs
  });
  step(event::SwappedIn{io.pages, ok}, &read, fx);
}

void NodeModel::finish_io(unsigned index, bool ok, Effects& fx) {
  const Io io = std::move(io_[index]);
  io_.erase(io_.begin() + index);
  if (!io.dropped && homes_[io.pages.container.value()] != kNoNode)
    return finish_file_io(io, ok, fx);
  if (io.out) {
    if (ok && !io.dropped) {
      unsigned rank = 0;
      for_each_page(io.pages, [&](PageId id) {
        const unsigned page = geometry_.index(id);
        const Value value = io.values[rank++];
        if (!frames_[page].present || frames_[page].value != value)
          fx.fail("page " + std::to_string(page) + " changed while it was written to swap");
        slots_[page] = {value, true};
        drop(page, fx);
      });
    }
    return step(event::SwappedOut{io.pages, ok}, nullptr, fx);
  }
  if (!io.dropped) {
    for_each_page(io.pages, [&](PageId id) {
      const unsigned page = geometry_.index(id);
      if (ok)
        frames_[page] = {slots_[page].value, true, Access::kNone};
      else
        --present_;
      fx.touched.push_back(page);
    });
  }
  step(event::SwappedIn{io.pages, ok}, nullptr, fx);
}

void NodeModel::expire_hold(unsigned page, Effects& fx) {
  holds_[page] = 0;
  step(event::HoldExpired{PageSet::of(geometry_.page(page))}, nullptr, fx);
}

bool NodeModel::any_held() const {
  return std::any_of(holds_.begin(), holds_.end(), [](std::uint8_t held) { return held != 0; });
}

bool NodeModel::keeps(unsigned page, Value value) const {
  if (frames_[page].present && frames_[page].value == value) return true;
  return slots_[page].kept && slots_[page].value == value && !on_device(page);
}

bool NodeModel::empty() const {
  // What is under way for a container that was removed is nobody's page any more.
  if (present_ != 0 || !std::ranges::all_of(io_, &Io::dropped)) return false;
  for (unsigned page = 0; page < slots_.size(); ++page)
    if (slots_[page].kept && !on_device(page)) return false;
  return true;
}

// What the core believes of every page, against what the host has.
void NodeModel::check(Effects& fx) {
  const std::string broken = core_.check();
  if (!broken.empty()) fx.fail("core: " + broken);
  for (unsigned page = 0; page < geometry_.pages(); ++page) check_page(page, fx);
  if (core_.resident_frames() != present_) {
    fx.fail("the core counts " + std::to_string(core_.resident_frames()) +
            " frames, the host has " + std::to_string(present_));
  }
  // Bytes that arrive while older epochs are drained may be the last: they are kept, and given up
  // later. At other times nothing grows beyond the budget.
  const std::uint64_t frames = core_.resident_frames();
  if (core_.phase() == Core::Phase::kDraining) allowed_ = std::max(allowed_, frames);
  if (frames > allowed_)
    fx.fail("more frames than the budget of " + std::to_string(core_.config().budget_frames));
  // A frame that is on its way back to a program that was writing there is one of them.
  std::uint64_t promised = 0;
  if (allowed_ > core_.config().budget_frames)
    for (const auto& [key, pending] : core_.all_pending()) promised += pending.reserved ? 1 : 0;
  allowed_ = std::max(core_.config().budget_frames, std::min(allowed_, frames + promised));
}

void NodeModel::check_page(unsigned page, Effects& fx) const {
  const PageState state = core_.local(geometry_.page(page)).state;
  const Frame& frame = frames_[page];
  bool agrees = frame.present == (is_resident(state) && state != PageState::kSwappingIn);
  switch (state) {
    case PageState::kInvalid:
      agrees = agrees && slots_[page].kept == on_device(page);
      break;
    case PageState::kRead:
    case PageState::kInjecting:
    case PageState::kSwappingOut:
      agrees = agrees && frame.rights <= Access::kRead;
      break;
    case PageState::kWrite:
      break;
    case PageState::kStored:
      agrees = agrees && frame.rights == Access::kNone;
      break;
    case PageState::kSwapped:
    case PageState::kSwappingIn:
      agrees = agrees && slots_[page].kept;
      break;
  }
  if (agrees) return;
  fx.fail("page " + std::to_string(page) + ": the core says " + name_of(state) + ", the frame is " +
          (frame.present ? "present" : "absent") + " with access " + name_of(frame.rights) +
          ", the swap slot is " + (slots_[page].kept ? "kept" : "free"));
}

void NodeModel::drop(unsigned page, Effects& fx) {
  if (frames_[page].present) --present_;
  frames_[page] = Frame{};
  fx.touched.push_back(page);
}

// A mapped page wakes every thread that faulted on it, whether or not the rights suffice.
void NodeModel::wake(unsigned page, Effects& fx) {
  const PageId id = geometry_.page(page);
  for (unsigned i = 0; i < threads_.size(); ++i) {
    Thread& thread = threads_[i];
    if (thread.state != Thread::State::kBlocked) continue;
    if (thread.pages.container != id.container || !thread.pages.contains(id.page)) continue;
    thread.state = Thread::State::kWoken;
    fx.woken.push_back(i);
  }
}

std::uint64_t NodeModel::hash() const {
  Hash hash;
  hash.add(core_.hash());
  for (const Frame& frame : frames_)
    hash.add(std::uint64_t{frame.value} << 8 | static_cast<std::uint64_t>(frame.rights) << 1 |
             std::uint64_t{frame.present});
  for (const SwapSlot& slot : slots_) hash.add(std::uint64_t{slot.value} << 1 | slot.kept);
  for (const std::uint8_t held : holds_) hash.add(held);
  for (const Io& io : io_) {
    hash.add(std::uint64_t{io.stays} << 2 | std::uint64_t{io.out} << 1 | std::uint64_t{io.dropped});
    add(hash, io.pages);
    for (const Value value : io.values) hash.add(value);
  }
  for (const Thread& thread : threads_) {
    hash.add(static_cast<std::uint64_t>(thread.state) << 8 |
             static_cast<std::uint64_t>(thread.access));
    add(hash, thread.pages);
  }
  for (const auto& [id, sync] : syncs_) {
    hash.add(std::uint64_t{id.value()} << 3 | std::uint64_t{sync.list} << 2 |
             std::uint64_t{sync.surveyed} << 1 | std::uint64_t{sync.failed});
    for (const PageSet& pages : sync.todo) add(hash, pages);
    for (const auto& [page, count] : sync.ends) hash.add(std::uint64_t{page} << 8 | count);
  }
  hash.add(allowed_);
  hash.add(expired_);
  hash.add(leaving_);
  hash.add(removed_);
  return hash.value();
}

bool operator==(const NodeModel& a, const NodeModel& b) {
  return a.frames_ == b.frames_ && a.slots_ == b.slots_ && a.holds_ == b.holds_ && a.io_ == b.io_ &&
         a.threads_ == b.threads_ && a.syncs_ == b.syncs_ && a.allowed_ == b.allowed_ &&
         a.expired_ == b.expired_ && a.leaving_ == b.leaving_ && a.removed_ == b.removed_ &&
         a.core_ == b.core_;
}

void NodeModel::rename(unsigned page, Value from, Value to) {
  if (frames_[page].present && frames_[page].value == from) frames_[page].value = to;
  if (slots_[page].kept && slots_[page].value == from) slots_[page].value = to;
  for (Io& io : io_) {
    const PageId id = geometry_.page(page);
    if (!io.out || io.pages.container != id.container || !io.pages.contains(id.page)) continue;
    Value& value = io.values[io.pages.rank(id.page)];
    if (value == from) value = to;
  }
}

}  // namespace gob::sim
