// Programs' side of a shard: faults come in, streams are recognised, the core is told.
#include <spdlog/spdlog.h>
#include <sys/epoll.h>

#include <cstdint>
#include <span>
#include <utility>

#include "libgob/runtime/clock.h"
#include "libgob/runtime/shard.h"

namespace gob {

namespace {
constexpr std::uint64_t kNewsRetryNs = 20'000'000;
constexpr std::uint64_t kNewsWarningNs = 10'000'000'000;
}  // namespace

// News of a mapping that has no room: again when there is some, whether it is still polled or not.
void Shard::look_after_news(const std::shared_ptr<Mapping>& mapping) {
  const MappingId id = mapping->id();
  if (mapping->has_unsent_news() && !mapping->kernel_lacks_room()) {
    epoll_event event{};
    event.events = EPOLLOUT;
    event.data.u64 = id.value();
    if (unsent_.try_emplace(id, mapping).second)
      must(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, mapping->news(), &event) == 0
               ? Status()
               : Status(system_error("cannot watch the news of a mapping")));
  } else if (unsent_.erase(id) != 0) {
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, mapping->news(), nullptr);
  }
  for (UniqueFd& child : mapping->take_refused()) {
    wake_for_news();
    lost_.hold(std::move(child), *mapping);
  }
  // What is not polled any more is not drained again.
  const bool reads_later = mapping->lacks_descriptor() && polled_.contains(id);
  const bool starves = reads_later || mapping->kernel_lacks_room();
  if (!starves || starved_.contains(id)) return;
  wake_for_news();
  starved_.emplace(id, mapping);
  if (now_ns_ >= next_news_warning_ns_) {
    next_news_warning_ns_ = now_ns_ + kNewsWarningNs;
    spdlog::warn(
        "no {} is left for the child of a program that forks (mapping {}): {} waits until there "
        "is{}",
        reads_later ? "file descriptor" : "room in the kernel", id.value(),
        reads_later ? "its fork(2)" : "the child",
        reads_later ? " one; raise gobd's limit of open files" : "");
  }
  watch_events(*mapping, 0);
}

bool Shard::has_unsent_news(MappingId id) const {
  const auto starved = starved_.find(id);
  return unsent_.contains(id) || (starved != starved_.end() && starved->second->has_unsent_news());
}

// Before the first of what no event tells of.
void Shard::wake_for_news() {
  if (starved_.empty() && lost_.empty()) next_news_ns_ = now_ns_ + kNewsRetryNs;
}

void Shard::retry_news() {
  if ((starved_.empty() && lost_.empty()) || now_ns_ < next_news_ns_) return;
  next_news_ns_ = now_ns_ + kNewsRetryNs;
  for (const PageId page : lost_.step()) {
    Shard& owner = shard_of(PageSet::of(page).stripe);
    const auto cut = [page](Shard& shard) { shard.must(shard.linker_.cut(PageSet::of(page))); };
    if (&owner == this)
      cut(*this);
    else
      static_cast<void>(owner.post(cut));  // else the next time
  }
  for (const auto& [id, mapping] : std::exchange(starved_, {})) {
    watch_events(*mapping, EPOLLIN);
    mapping->send_news();
    look_after_news(mapping);
    drain_mapping(id);
  }
}

// Of a mapping that is polled; else nothing is done.
void Shard::watch_events(const Mapping& mapping, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = mapping.id().value();
  if (polled_.contains(mapping.id()))
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, mapping.uffd(), &event);
}

void Shard::drain_mapping(MappingId id) {
  if (const auto unsent = unsent_.find(id); unsent != unsent_.end()) {
    const std::shared_ptr<Mapping> mapping = unsent->second;
    mapping->send_news();
    look_after_news(mapping);
  }
  const auto found = polled_.find(id);
  if (found == polled_.end()) return;
  PolledMapping& polled = found->second;
  faults_.clear();
  const Status status = polled.mapping->drain(faults_);
  if (!status || polled.mapping->dead()) {
    if (!status) spdlog::warn("a program's mapping is given up: {}", status.error().message());
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, polled.mapping->uffd(), nullptr);
  }
  look_after_news(polled.mapping);
  for (const Fault& fault : faults_) on_fault(polled, fault);
}

// Its stream is recognised, and the shard that owns the page told.
void Shard::on_fault(PolledMapping& polled, const Fault& fault) {
  const MappingId id = fault.mapping;
  const StreamDetector::Advice advice = polled.streams.on_fault(fault.page.page, fault.access);
  const PageSet page = PageSet::of(fault.page);
  StreamDetector::Run joined{page.with(0), 0};  // what one request can ask for with the page
  for (const StreamDetector::Run& run : std::span(advice.runs).first(advice.count))
    if (run.pages.stripe == page.stripe) joined = run;
  Shard& owner = shard_of(page.stripe);
  if (&owner == this)
    take_fault(fault, joined);
  else if (!owner.post([fault, joined, from = config_.index](Shard& shard) {
             shard.remember_asker(from, joined.pages);
             shard.take_fault(fault, joined);
           }))
    refuse_here(fault, owner.config_.index);
  for (const StreamDetector::Run& run : std::span(advice.runs).first(advice.count)) {
    if (run.pages.stripe == page.stripe) continue;
    Shard& next = shard_of(run.pages.stripe);
    if (&next == this)
      ask_ahead(id, run, fault.access);
    else
      static_cast<void>(
          next.post([id, run, access = fault.access, from = config_.index](Shard& shard) {
            shard.remember_asker(from, run.pages);
            shard.ask_ahead(id, run, access);  // a hint: an overloaded shard may ignore it
          }));
  }
}

// What the kernel wants for linked segments.
void Shard::drain_device() {
  for (abi::Request request; device_->next(request);) take_request(request);
}

void Shard::take_request(const abi::Request& request) {
  LinkTable::Known known;
  const LinkTable::Verdict verdict = links_->look_at(request, *device_, known);
  if (verdict == LinkTable::Verdict::kAnswered) return;
  if (verdict == LinkTable::Verdict::kWait) return early_requests_.push_back(request);
  const auto polled =
      verdict == LinkTable::Verdict::kServe ? polled_.find(known.mapping) : polled_.end();
  if (polled == polled_.end() || !polled->second.mapping->contains(PageIndex{request.index}))
    return device_->refuse(request);  // of an earlier gobd's link, or beyond the container's end
  const bool fill = request.op == abi::kFirstTouch || request.op == abi::kLookupPage;
  on_fault(polled->second, Fault{known.mapping,
                                 {known.container, PageIndex{request.index}},
                                 request.write != 0 || !fill ? Access::kWrite : Access::kRead,
                                 fill ? FaultKind::kMissing : FaultKind::kWriteProtect,
                                 {request.slot, request.serial, fill}});
}

void Shard::retry_requests() {
  for (const abi::Request& request : std::exchange(early_requests_, {})) take_request(request);
}

// The shard that owns the page has more to do than it can take: an error now, not a wait for ever.
void Shard::refuse_here(const Fault& fault, unsigned owner) {
  spdlog::error("shard {} is overloaded: access to page {} refused", owner,
                fault.page.page.value());
  if (linker_.note(fault, now_ns_)) must(linker_.refuse(PageSet::of(fault.page)));
}

void Shard::take_fault(const Fault& fault, const StreamDetector::Run& ahead) {
  if (!ahead.pages.empty()) linker_.expect(fault.mapping, ahead.pages, ahead.unmapped);
  if (!linker_.note(fault, now_ns_)) return;
  const bool readable = is_readable(core_.local(fault.page).state);
  const Waited::Kind kind = fault.access != Access::kWrite ? Waited::Kind::kRead
                            : readable                     ? Waited::Kind::kUpgrade
                                                           : Waited::Kind::kWrite;
  waited_.try_emplace(key_of(fault.page), Waited{now_ns_, kind});
  if (trace_ != nullptr) trace_->note(TraceKind::kFault, PageSet::of(fault.page), fault.access);
  step(event::Touch{PageSet::of(fault.page), fault.access, ahead.pages.mask});
}

void Shard::ask_ahead(MappingId mapping, const StreamDetector::Run& run, Access access) {
  linker_.expect(mapping, run.pages, run.unmapped);
  step(event::Touch{run.pages.with(0), access, run.pages.mask});
}

// The streams of another shard's mapping asked for pages of this one.
void Shard::remember_asker(unsigned shard, PageSet pages) {
  if (pages.empty()) return;
  askers_[next_asker_] = {shard, pages};
  next_asker_ = (next_asker_ + 1) % askers_.size();
}

// Another node took pages away: the streams that asked for them ahead of need hear of it, wherever
// they are.
void Shard::note_taken(PageSet pages) {
  for (auto& [id, polled] : polled_) {
    if (polled.mapping->config().container != pages.container) continue;
    for_each_page(pages, [&](PageId page) { polled.streams.on_taken(page.page); });
  }
  if (siblings_.size() == 1) return;
  for (Asker& asker : askers_) {
    if (asker.pages.container != pages.container || asker.pages.stripe != pages.stripe) continue;
    const std::uint64_t taken = asker.pages.mask & pages.mask;
    if (taken == 0) continue;
    asker.pages.mask &= ~taken;
    static_cast<void>(siblings_[asker.shard]->post([pages = pages.with(taken)](Shard& shard) {
      shard.note_taken(pages);  // a hint, too
    }));
  }
}

// Programs go on: how long did they wait?
void Shard::note_resolved(PageSet pages) {
  if (waited_.empty()) return;
  const std::uint64_t now = monotonic_ns();
  for_each_page(pages, [&](PageId page) {
    const auto found = waited_.find(key_of(page));
    if (found == waited_.end()) return;
    ContainerCounters& counters = counters_[page.container];
    switch (found->second.kind) {
      case Waited::Kind::kRead:
        counters.read_faults.add(now - found->second.since_ns);
        break;
      case Waited::Kind::kWrite:
        counters.write_faults.add(now - found->second.since_ns);
        break;
      case Waited::Kind::kUpgrade:
        counters.upgrades.add(now - found->second.since_ns);
        break;
    }
    waited_.erase(found);
  });
}

}  // namespace gob
