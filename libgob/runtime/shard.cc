// The loop of a shard's thread.
#include "libgob/runtime/shard.h"

#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/prctl.h>

#include <algorithm>
#include <array>

#include "libgob/runtime/clock.h"

namespace gob {

namespace {

// What an epoll event speaks of: one of these, or a mapping by its id.
constexpr std::uint64_t kChannelTag = ~std::uint64_t{0};
constexpr std::uint64_t kMailboxTag = kChannelTag - 1;
constexpr std::uint64_t kIoTag = kChannelTag - 2;
constexpr std::uint64_t kFileTag = kChannelTag - 3;
constexpr std::uint64_t kDeviceTag = kChannelTag - 4;

constexpr std::size_t kMailboxCapacity = 65536;
constexpr std::uint64_t kOverdueChecksPerTimeout = 20;

}  // namespace

Shard::Shard(const ShardConfig& config, std::unique_ptr<Channel> channel,
             std::unique_ptr<IoLinker> io_linker, ShardListener& listener, MapLinker linker,
             Mailbox mailbox, UniqueFd epoll)
    : config_(config),
      channel_(std::move(channel)),
      io_linker_(std::move(io_linker)),
      listener_(listener),
      siblings_{this},
      mailbox_(std::move(mailbox)),
      epoll_(std::move(epoll)),
      core_(config.core),
      linker_(std::move(linker)),
      staging_(kStripePages * kPageSize) {}

Shard::~Shard() { stop(); }

Result<std::unique_ptr<Shard>> Shard::create(const ShardConfig& config,
                                             std::unique_ptr<Channel> channel,
                                             std::unique_ptr<IoLinker> io_linker,
                                             ShardListener& listener) {
  Result<MapLinker> linker = MapLinker::create();
  if (!linker) return linker.error();
  Result<Mailbox> mailbox = Mailbox::create(kMailboxCapacity);
  if (!mailbox) return mailbox.error();
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return system_error("cannot create the epoll instance of a shard");
  std::unique_ptr<Shard> shard(new Shard(config, std::move(channel), std::move(io_linker), listener,
                                         std::move(*linker), std::move(*mailbox),
                                         std::move(epoll)));
  if (Status status = shard->watch(shard->channel_->fd(), kChannelTag); !status)
    return status.error();
  if (Status status = shard->watch(shard->mailbox_.fd(), kMailboxTag); !status)
    return status.error();
  if (shard->io_linker_ != nullptr) {
    if (Status status = shard->watch(shard->io_linker_->fd(), kIoTag); !status)
      return status.error();
  }
  return shard;
}

Status Shard::watch(int fd, std::uint64_t tag) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = tag;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return system_error("cannot watch a descriptor of a shard");
  return {};
}

Status Shard::serve_links(std::shared_ptr<GobDevice> device,
                          std::shared_ptr<const LinkTable> links) {
  device_ = std::move(device);
  links_ = std::move(links);
  return watch(device_->fd(), kDeviceTag);
}

Status Shard::watch_file_linker() { return watch(file_linker_->fd(), kFileTag); }

Status Shard::start() {
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& error) {
    return make_error(ErrorCode::kSystem, "cannot start the thread of a shard",
                      error.code().value());
  }
  return {};
}

void Shard::stop() {
  if (!thread_.joinable()) return;
  stop_.store(true);
  static_cast<void>(mailbox_.post([] {}));  // if it is full the thread is awake anyway
  thread_.join();
  mailbox_.close();
}

bool Shard::post(std::function<void(Shard&)> work) {
  return mailbox_.post([this, work = std::move(work)] { work(*this); });
}

bool Shard::post_reply(std::function<void(Shard&)> work) {
  return mailbox_.post_reply([this, work = std::move(work)] { work(*this); });
}

void Shard::run() {
  ::prctl(PR_SET_NAME, ("gob-shard-" + std::to_string(config_.index)).c_str());
  while (!stop_.load()) wait_for_work();
}

// One round: sleep until something happens, do it, send what it caused.
void Shard::wait_for_work() {
  std::array<epoll_event, 64> events{};
  const std::int64_t sleep_ns = wait_ns();
  const timespec timeout{sleep_ns / 1'000'000'000, sleep_ns % 1'000'000'000};
  const int count = ::epoll_pwait2(epoll_.get(), events.data(), events.size(),
                                   sleep_ns < 0 ? nullptr : &timeout, nullptr);
  now_ns_ = monotonic_ns();
  const Corked corked(*channel_);
  fire_timers();
  if (count > 0) last_work_ns_ = now_ns_;
  for (int i = 0; i < count; ++i) {
    const std::uint64_t tag = events[static_cast<std::size_t>(i)].data.u64;
    if (tag == kChannelTag)
      channel_->poll(*this);
    else if (tag == kMailboxTag)
      mailbox_.run();
    else if (tag == kIoTag)
      finish_io();
    else if (tag == kFileTag)
      finish_file_io();
    else if (tag == kDeviceTag)
      drain_device();
    else
      drain_mapping(MappingId{tag});
  }
  refuse_overdue();  // answers that have come while this thread stood still count
}

// How long nothing can happen but what epoll tells; negative: for ever.
std::int64_t Shard::wait_ns() const {
  if (config_.poll_us != 0 && now_ns_ - last_work_ns_ < std::uint64_t{config_.poll_us} * 1000)
    return 0;
  std::uint64_t wake_at = ~std::uint64_t{0};
  // A discard waits for the end of a hold, too, and who waits for a frame, if all pages are held.
  const bool awaited = core_.has_deferred() || core_.first_for_room() || !work_.empty();
  if (awaited && !holds_.empty()) wake_at = holds_.front().deadline_ns;
  if (!kept_.empty()) wake_at = std::min(wake_at, kept_.front().deadline_ns);
  if (!starved_.empty() || !lost_.empty()) wake_at = std::min(wake_at, next_news_ns_);
  if (linker_.waiting() != 0 || !parts_.empty())
    wake_at = std::min(wake_at, next_overdue_check_ns_);
  if (config_.write_back_ms != 0 && core_.has_dirty_files())
    wake_at = std::min(wake_at, next_write_back_ns_);
  if (wake_at == ~std::uint64_t{0}) return -1;
  const std::uint64_t now = monotonic_ns();
  return wake_at <= now ? 0 : static_cast<std::int64_t>(wake_at - now);
}

void Shard::fire_timers() {
  retry_news();
  // Holds are looked at before messages are, so none is honoured longer than it should be; nobody
  // is woken for one that keeps nothing waiting.
  while (!holds_.empty() && holds_.front().deadline_ns <= now_ns_) {
    const PageSet pages = holds_.front().pages;
    holds_.pop_front();
    step(event::HoldExpired{pages});
  }
  if (!kept_.empty() && kept_.front().deadline_ns <= now_ns_) {
    expire_kept();
    settle_files();
  }
  const std::uint64_t write_back_ns = std::uint64_t{config_.write_back_ms} * 1'000'000;
  if (!core_.has_dirty_files()) {
    next_write_back_ns_ = now_ns_ + write_back_ns;
  } else if (write_back_ns != 0 && now_ns_ >= next_write_back_ns_) {
    next_write_back_ns_ = now_ns_ + write_back_ns;
    write_back_some();
  }
}

// Nobody waits longer than the configured time, and a moment.
void Shard::refuse_overdue() {
  const std::uint64_t timeout_ns = std::uint64_t{config_.page_timeout_ms} * 1'000'000;
  if (linker_.waiting() == 0 && parts_.empty()) {
    next_overdue_check_ns_ = now_ns_ + timeout_ns / kOverdueChecksPerTimeout;
    return;
  }
  if (now_ns_ < next_overdue_check_ns_) return;
  // What has come while this thread stood still may take several rounds to read.
  const bool late = now_ns_ - next_overdue_check_ns_ > timeout_ns / kOverdueChecksPerTimeout;
  next_overdue_check_ns_ = now_ns_ + timeout_ns / kOverdueChecksPerTimeout;
  overdue_put_off_ = late && !overdue_put_off_;
  if (overdue_put_off_ || now_ns_ < timeout_ns) return;
  std::vector<PageSet> overdue;
  linker_.overdue(now_ns_ - timeout_ns, overdue);
  for (const PageSet& pages : overdue) {
    step(event::Expire{pages});
    must(linker_.refuse(pages));  // whatever the core thinks: nobody waits longer than this
    trace_taken(TraceKind::kRefused, pages);
  }
  expire_parts(now_ns_ - timeout_ns);
}

void Shard::feed(const Event& event) {
  if (const auto* change = std::get_if<event::NewView>(&event); change != nullptr) {
    if (trace_) trace_->view(change->view);
    std::erase_if(free_frames_,
                  [&](const auto& item) { return !change->view.contains(item.first); });
  }
  step(event);
}

void Shard::add_container(const ContainerInfo& info, std::shared_ptr<const FramePool> pool,
                          bool awaits_file) {
  if (awaits_file) awaited_files_[info.id];
  if (is_file(info)) files_[info.id] = File{info.home, info.created};
  pools_[info.id] = pool;
  linker_.add_container(info.id, std::move(pool));
  counters_.try_emplace(info.id);
  step(event::AddContainer{info});
}

void Shard::remove_container(ContainerId id) {
  step(event::RemoveContainer{id});
  forget_file(id);
  counters_.erase(id);
}

Status Shard::add_mapping(const std::shared_ptr<Mapping>& mapping, bool polls) {
  if (Status status = linker_.add_mapping(mapping); !status) return status;
  if (!polls) return {};
  const Mapping::Config& place = mapping->config();
  polled_.try_emplace(
      mapping->id(), PolledMapping{mapping, StreamDetector(place.container, place.first,
                                                           place.pages, config_.read_ahead_pages)});
  return mapping->link() ? Status{} : watch(mapping->uffd(), mapping->id().value());
}

void Shard::remove_mapping(MappingId id, bool lost) {
  const auto polled = polled_.find(id);
  if (polled != polled_.end()) {
    if (lost && polled->second.mapping->has_news()) {
      wake_for_news();
      lost_.hold(polled->second.mapping);
    }
    if (!polled->second.mapping->link())
      ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, polled->second.mapping->uffd(), nullptr);
    polled_.erase(polled);
  }
  linker_.remove_mapping(id);
}

void Shard::drop_peer(NodeId peer, const std::string& why) {
  channel_->drop(peer, DownReason::kLocal, why);
}

void Shard::fatal(const Error& error) {
  if (failed_) return;
  failed_ = true;
  spdlog::critical("shard {}: {}", config_.index, error.message());
  listener_.on_fatal(config_.index, error);
}

void Shard::must(const Status& status) {
  if (!status) fatal(status.error());
}

}  // namespace gob
