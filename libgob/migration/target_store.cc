// The target's end of the containers: pages come through the page service, from wherever they are.
#include <algorithm>
#include <array>
#include <atomic>

#include "libgob/migration/page_store.h"
#include "libgob/migration/shared_memory.h"
#include "libgob/migration/talk.h"

namespace gob::migration {
namespace {
constexpr std::chrono::milliseconds kLookForDeath{300};
constexpr std::uint64_t kAhead = 256;  // pages that the stream asks for before it wants them
}

Result<TargetStore> TargetStore::open(const gobelins::Connection& gob,
                                      std::shared_ptr<const PageMover> mover,
                                      const std::string& session, std::uint64_t pages,
                                      const std::set<std::uint32_t>& used_up) {
  TargetStore store(gob, std::move(mover), session);
  try {
    store.state_ = store.gob_.open(state_name(session)).map();
  } catch (const std::system_error& error) {
    return error_of(error, "opening the container that tells which pages can be had");
  }
  if (Status more = store.extend(pages, used_up); !more) return more.error();
  // Of a move before this one it may have gone: then all its pages are in containers.
  if (const auto live = store.mover_->find(live_name(session), PageMover::Use::kCopy))
    store.live_ = *live;
  return store;
}

Status TargetStore::extend(std::uint64_t pages, const std::set<std::uint32_t>& used_up) {
  if (state_.size_bytes() < sizeof(FillState) + pages / kFillPages)
    return make_error(ErrorCode::kProtocol, "the state of the source's containers is cut");
  known_.resize((pages + kFillPages - 1) / kFillPages);
  while (stores_.size() * kStorePages < pages) {
    const bool gone = used_up.contains(static_cast<std::uint32_t>(stores_.size()));
    const auto number =
        gone ? Result<std::uint32_t>(0)
             : mover_->find(store_name(session_, stores_.size()), PageMover::Use::kMove);
    if (!number) return number.error();
    stores_.push_back(*number);
  }
  return {};
}

bool TargetStore::is_known(std::uint64_t run) {
  return std::atomic_ref(known_[run]).load(std::memory_order_acquire) != 0;
}

// Is it there? If it was not yet, all that the source says by now of the runs around it is kept.
Result<bool> TargetStore::look(std::uint64_t run) {
  if (is_known(run)) return true;
  std::array<std::uint8_t, kPageSize> said{};
  const std::uint64_t first = run / kPageSize * kPageSize;
  const std::uint64_t runs = std::min<std::uint64_t>(kPageSize, known_.size() - first);
  if (Status got = load(said.data(), &state().filled[first], runs); !got) return got.error();
  for (std::uint64_t i = 0; i < runs; ++i)
    if (said[i] != 0) std::atomic_ref(known_[first + i]).store(1, std::memory_order_release);
  return is_known(run);
}

Status TargetStore::add_live(const Memory::Store& store) {
  std::uint64_t page = 0;
  for (const Memory::Piece& piece : store.pieces()) {
    live_pages_[page] = piece.page();
    page += piece.pages();
  }
  if (page == (store.pieces_size() == 0 ? 0 : store.pages())) return {};
  return make_error(ErrorCode::kProtocol, "the pieces of the source's memory are not all of it");
}

// Under the lock: others may wish, too.
Status TargetStore::wish(std::uint64_t run) {
  const auto before = load(&state().awaited);
  if (!before) return before.error();
  return store(&state().awaited, (((*before >> kWishBits) + 1) << kWishBits) | (run + 1));
}

// A page that nobody filled yet would be a fresh, zero page: never look at it before it is said to
// be there.
Status TargetStore::await_filled(std::uint64_t run) {
  FillState& all = state();
  const auto known = look(run);
  if (known && *known) return {};
  try {
    const Held lock(wake_);
    bool source_ended = false;
    bool says = true;
    while (true) {
      const auto filled = look(run);
      if (!filled) return make_error(ErrorCode::kLost, filled.error().message());
      if (*filled) return {};
      const auto failed = load(&all.failed);
      if (source_ended || (failed && *failed != 0))
        return make_error(ErrorCode::kLost, "the source could not hand its memory over");
      // News may be of what others wait for; they may have wished, too, before this one was heard.
      const auto wished = load(&all.awaited);
      if (says || (wished && *wished % (std::uint64_t{1} << kWishBits) != run + 1)) {
        if (Status said = wish(run); !said) return said;
        wished_.broadcast();
      }
      says = !wait_for_news(filled_, kLookForDeath);
      if (!says) continue;
      const auto alive = is_held(source_life_);
      if (!alive) return alive.error();
      source_ended = !*alive;  // what it said before still counts
    }
  } catch (const std::system_error& error) {
    return error_of(error, "waiting for memory of the source");
  }
}

bool TargetStore::complete() const {
  const auto all = load(&state().complete);
  return all && *all != 0;
}

bool TargetStore::is_filled(std::uint32_t index, bool ask) {
  constexpr std::uint64_t kRuns = kStorePages / kFillPages;
  const std::uint64_t end = std::min<std::uint64_t>(known_.size(), (index + 1) * kRuns);
  for (std::uint64_t run = index * kRuns; run < end; ++run) {
    const Result<bool> filled = ask ? look(run) : Result<bool>(is_known(run));
    if (!filled || !*filled) return false;
  }
  return true;
}

bool TargetStore::has_filled(std::uint64_t pages) {
  for (std::uint64_t run = 0; run * kFillPages < pages; ++run)
    if (const auto filled = look(run); !filled || !*filled) return false;
  return true;
}

Status TargetStore::remove(std::uint32_t index) {
  try {
    gob_.remove(store_name(session_, index));
    return {};
  } catch (const std::system_error& error) {
    return error_of(error, "removing a container whose pages have all come");
  }
}

// Pages from `page` on, of the same container, that the source has filled.
std::uint64_t TargetStore::known_behind(std::uint64_t page, std::uint64_t most) {
  const std::uint64_t container = page / kStorePages;
  std::uint64_t end = page;
  while (end < page + most && end / kStorePages == container && end / kFillPages < known_.size() &&
         is_known(end / kFillPages))
    end = (end / kFillPages + 1) * kFillPages;
  return end - page;
}

// From the stopped processes. False: they are not there any more, or not to be had.
bool TargetStore::copy_live(std::uint64_t page, std::uint64_t pages, std::size_t lane) const {
  if (live_ == 0) return false;
  for (std::uint64_t done = 0; done < pages;) {
    const auto behind = live_pages_.upper_bound(page + done);
    if (behind == live_pages_.begin()) return false;
    const auto& [first, live] = *std::prev(behind);
    if (live == ~std::uint64_t{0}) return false;
    const std::uint64_t end = behind == live_pages_.end() ? page + pages : behind->first;
    const std::uint64_t count = std::min(page + pages, end) - (page + done);
    if (!mover_->copy(live_, live + (page + done - first), count, lane, done)) return false;
    done += count;
  }
  return true;
}

Result<const std::byte*> TargetStore::bring(std::uint64_t page, std::uint64_t pages, Asker asker,
                                            unsigned lane) {
  const std::uint64_t last = (page + pages - 1) / kFillPages;
  // They are the same bytes at either place.
  if (asker != Asker::kStream && !is_known(page / kFillPages) && copy_live(page, pages, lane))
    return static_cast<const std::byte*>(mover_->lane(lane));
  for (std::uint64_t run = page / kFillPages; run <= last; ++run)
    if (Status there = await_filled(run); !there) return there.error();
  const std::uint32_t number = stores_[page / kStorePages];
  if (number == 0)
    return make_error(ErrorCode::kProtocol,
                      "page " + std::to_string(page) + " is in a container that was used up");
  const std::uint64_t ahead = asker == Asker::kStream ? known_behind(page + pages, kAhead) : 0;
  const Status taken = mover_->take(number, page % kStorePages, pages, lane, ahead);
  if (taken) return static_cast<const std::byte*>(mover_->lane(lane));
  return make_error(ErrorCode::kLost,
                    "page " + std::to_string(page) +
                        " of the process's memory is lost: " + taken.error().message(),
                    taken.error().errno_value);
}

std::uint64_t next_store(const Memory& memory) {
  std::uint64_t next = 0;
  for (const Memory::Store& store : memory.stores())
    next = std::max<std::uint64_t>(next, store.first() + store.pages());
  return (next + kStorePages - 1) / kStorePages * kStorePages;
}

Result<TargetStores> TargetStores::open(const std::string& socket) {
  auto mover = PageMover::open(socket, kLanes);
  if (!mover) return mover.error();
  return TargetStores(std::move(*mover));
}

Status TargetStores::prepare(const gobelins::Connection& gob, const std::string& session,
                             std::uint64_t pages) {
  auto opened = TargetStore::open(gob, mover_, session, pages);
  if (!opened) return opened.error();
  Memory::Store place;
  place.set_session(session);
  parts_.push_back({place, std::make_unique<TargetStore>(std::move(*opened)), {}});
  return {};
}

Status TargetStores::add(const gobelins::Connection& gob, const Memory::Store& store) {
  const auto prepared = std::ranges::find_if(
      parts_, [&](const Part& part) { return part.place.session() == store.session(); });
  if (prepared != parts_.end()) {
    prepared->place = store;
    if (Status known = prepared->store->add_live(store); !known) return known;
    return prepared->store->extend(store.pages());
  }
  std::set<std::uint32_t> used_up(store.used_up().begin(), store.used_up().end());
  auto opened = TargetStore::open(gob, mover_, store.session(), store.pages(), used_up);
  if (!opened) return opened.error();
  if (Status known = opened->add_live(store); !known) return known;
  parts_.push_back({store, std::make_unique<TargetStore>(std::move(*opened)), std::move(used_up)});
  return {};
}

Result<const std::byte*> TargetStores::bring(std::uint64_t page, std::uint64_t pages, Asker asker,
                                             unsigned lane) {
  for (const Part& part : parts_)
    if (page >= part.place.first() && page + pages <= part.place.first() + part.place.pages())
      return part.store->bring(page - part.place.first(), pages, asker, lane);
  return make_error(ErrorCode::kProtocol, "no container holds page " + std::to_string(page));
}

bool TargetStores::complete() const {
  return std::ranges::all_of(parts_, [](const Part& part) { return part.store->complete(); });
}

bool TargetStores::is_early_in(const std::string& session) const {
  return std::ranges::all_of(parts_, [&](const Part& part) {
    return part.place.session() != session || part.store->has_filled(part.place.early());
  });
}

void TargetStores::describe(Memory& memory) const {
  for (const Part& part : parts_) {
    Memory::Store& store = *memory.add_stores();
    store = part.place;
    store.mutable_used_up()->Assign(part.used_up.begin(), part.used_up.end());
  }
}

std::vector<std::uint64_t> TargetStores::use_up(const std::set<std::uint64_t>& needed,
                                                std::vector<std::uint64_t>& unknown) {
  std::vector<std::uint64_t> more;
  for (Part& part : parts_) {
    const std::uint64_t first = part.place.first() / kStorePages;
    for (std::uint32_t i = 0; i * kStorePages < part.place.pages(); ++i) {
      if (needed.contains(first + i) || part.used_up.contains(i)) continue;
      if (part.store->is_filled(i, /*ask=*/false)) {
        part.used_up.insert(i);
        more.push_back(first + i);
      } else {
        unknown.push_back(first + i);
      }
    }
  }
  return more;
}

std::pair<TargetStore*, std::uint32_t> TargetStores::find(std::uint64_t number) const {
  for (const Part& part : parts_) {
    const std::uint64_t first = part.place.first() / kStorePages;
    if (number >= first && (number - first) * kStorePages < part.place.pages())
      return {part.store.get(), static_cast<std::uint32_t>(number - first)};
  }
  return {};
}

bool TargetStores::look(std::uint64_t number) {
  const auto [store, index] = find(number);
  return store != nullptr && store->is_filled(index, /*ask=*/true);
}

Status TargetStores::remove(std::uint64_t number) {
  const auto [store, index] = find(number);
  if (store != nullptr) return store->remove(index);
  return make_error(ErrorCode::kNotFound, "no container has number " + std::to_string(number));
}

}  // namespace gob::migration
