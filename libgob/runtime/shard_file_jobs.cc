// Write-back and discard at the home of a file, this shard's share: which pages, some at a time,
// and who waits for them.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "libgob/runtime/shard.h"
#include "libgob/runtime/words.h"

namespace gob {

namespace {

constexpr std::size_t kMostPagesUnderWay = 2048;  // of one job
constexpr std::uint64_t kFewStripes = 16;         // asked for one by one, without a survey first

// The pages of a stripe that lie in [first, end).
PageSet clip(PageSet pages, std::uint64_t first, std::uint64_t end) {
  for_each_page(pages, [&](PageId page) {
    if (page.page.value() < first || page.page.value() >= end)
      pages.mask &= ~PageSet::of(page).mask;
  });
  return pages;
}

}  // namespace

Status Shard::bind_file(ContainerId id, const std::shared_ptr<const Backing>& file) {
  if (file_linker_ == nullptr) {
    Result<std::unique_ptr<FileIoLinker>> made = FileIoLinker::create();
    if (!made) return made.error();
    file_linker_ = std::move(*made);
    if (Status status = watch_file_linker(); !status) return status;
  }
  if (Status frames = has_frames(id); !frames) return frames;
  file_linker_->bind(id, file);
  if (const auto awaited = awaited_files_.extract(id))
    for (const PageSet& pages : awaited.mapped()) perform_one(action::SwapIn{pages});
  return {};
}

void Shard::start_job(const std::shared_ptr<FileJob>& job) {
  const std::uint64_t first_stripe = job->first / kStripePages;
  const std::uint64_t stripes = (job->end + kStripePages - 1) / kStripePages - first_stripe;
  if (job->first >= job->end) return job->join->finish();
  if (stripes > kFewStripes) {
    FileSurvey& survey = surveys_[job->container];
    survey.next.push_back(job);
    if (survey.jobs.empty()) start_survey(job->container);
    return;
  }
  for (std::uint64_t stripe = first_stripe; stripe < first_stripe + stripes; ++stripe) {
    if (index_of(stripe, config_.shards) != config_.index) continue;
    const PageSet pages = clip({job->container, stripe, ~std::uint64_t{0}}, job->first, job->end);
    if (!pages.empty()) job->todo.push_back(pages);
  }
  jobs_to_go_on_.push_back(job);
  settle_files();
}

// The managers say what they know; what comes meanwhile waits for the next survey.
void Shard::start_survey(ContainerId id) {
  FileSurvey& survey = surveys_[id];
  survey.jobs = std::move(survey.next);
  survey.next.clear();
  if (survey.jobs.empty()) {
    surveys_.erase(id);
    return;
  }
  const bool list = std::ranges::any_of(survey.jobs, [](const auto& job) { return job->discard; });
  step(event::Sync{id, list});
}

void Shard::perform_one(const action::Synced& synced) {
  const auto found = surveys_.find(synced.container);
  if (found == surveys_.end()) return;
  for (const std::shared_ptr<FileJob>& job : found->second.jobs) {
    jobs_to_go_on_.push_back(job);
    // One that was removed has no file open any more: it was written back before, and nobody asks.
    if (synced.refusal == Refusal::kLeaving && job->join != nullptr)
      job->join->fail(make_error(ErrorCode::kUnavailable,
                                 job->discard ? "this node is leaving: others may have old pages"
                                              : "this node is leaving: others may have newer pages",
                                 EIO));
    if (synced.refusal != Refusal::kNone) continue;
    for (const PageSet& known : core_.file_pages(job->container, job->discard)) {
      const PageSet pages = clip(known, job->first, job->end);
      if (!pages.empty()) job->todo.push_back(pages);
    }
  }
  found->second.jobs.clear();
  start_survey(synced.container);
}

void Shard::go_on(const std::shared_ptr<FileJob>& job) {
  while (!job->todo.empty() && job->under_way < kMostPagesUnderWay) {
    const PageSet pages = job->todo.front();
    job->todo.pop_front();
    job->under_way += pages.size();
    std::uint64_t now = 0;
    for_each_page(pages, [&](PageId page) {
      FileWork& work = work_[{key_of(page), job->discard}];
      // One under way may have begun before the last write: another follows it.
      if (!work.jobs.empty()) {
        work.next.push_back(job);
        return;
      }
      work.jobs.push_back(job);
      now |= PageSet::of(page).mask;
    });
    if (now != 0) ask_core(pages.with(now), job->discard);
  }
  if (!job->todo.empty() || job->under_way != 0 || job->join == nullptr) {
    if (job->todo.empty() && job->under_way == 0) background_.erase(job->container);
    return;
  }
  if (std::exchange(job->finished, true)) return;
  job->join->finish();
  const auto error = file_errors_.find(job->container);
  if (job->discard || error == file_errors_.end()) return;
  job->join->fail(error->second);  // once
  file_errors_.erase(error);
}

void Shard::ask_core(PageSet pages, bool discard) {
  if (discard)
    step(event::Discard{pages});
  else
    step(event::WriteBack{pages});
}

void Shard::perform_one(const action::JobDone& done) {
  if (hold_back(done)) return;
  std::uint64_t again = 0;
  for_each_page(done.pages, [&](PageId page) {
    const auto found = work_.find({key_of(page), done.discard});
    if (found == work_.end()) return;
    const std::vector<std::shared_ptr<FileJob>> jobs = std::move(found->second.jobs);
    found->second.jobs = std::move(found->second.next);
    found->second.next.clear();
    if (found->second.jobs.empty())
      work_.erase(found);
    else
      again |= PageSet::of(page).mask;
    for (const std::shared_ptr<FileJob>& job : jobs) {
      // A disk that failed has said why: file_errors_.
      const auto why = file_errors_.find(job->container);
      if (done.refusal == Refusal::kIo && job->join != nullptr && why != file_errors_.end())
        job->join->fail(why->second);
      else if (done.refusal != Refusal::kNone && job->join != nullptr)
        job->join->fail(make_error(ErrorCode::kLost,
                                   "page " + std::to_string(page.page.value()) + " of container " +
                                       std::to_string(page.container.value()) +
                                       (done.discard ? " was not forgotten by every node: "
                                                     : " is not in its file: ") +
                                       to_words(done.refusal),
                                   EIO));
      const bool waits = job->todo.empty() && job->under_way > 1;
      --job->under_way;
      if (!waits) jobs_to_go_on_.push_back(job);
    }
  });
  if (again != 0) ask_core(done.pages.with(again), done.discard);
}

void Shard::perform_one(const action::WriteBack& write) {
  if (write.arrived) {
    std::byte* next = staging_.data();
    for_each_page(write.pages, [&](PageId page) {
      std::memcpy(next, payload_.at(page.page), kPageSize);
      next += kPageSize;
    });
  } else {
    must(linker_.load(write.pages, staging_.data()));
    if (failed_) return;
  }
  write_to_file(write.pages, FileWrite::kStays);
}

// The bytes are in staging_.
void Shard::write_to_file(PageSet pages, FileWrite kind) {
  Status queued = make_error(ErrorCode::kNotFound, "no file is open on this node", ENOENT);
  if (file_linker_ != nullptr) queued = file_linker_->flush_page(pages, staging_.data());
  if (queued) {
    file_writes_[{pages.container, pages.stripe}].push_back(kind);
    return;
  }
  wrote_to_file(pages, kind, queued);
}

void Shard::wrote_to_file(PageSet pages, FileWrite kind, const Status& status) {
  if (!status) {
    spdlog::error("container {} stripe {}: {}", pages.container.value(), pages.stripe,
                  status.error().message());
    file_errors_.try_emplace(pages.container, status.error());
  } else if (written_) {
    written_(pages.container);
  }
  if (kind == FileWrite::kStays)
    step(event::WrittenBack{pages, status.ok()});
  else
    step(event::SwappedOut{pages, status.ok()});
}

// What the disks finished. Operations on one stripe end in the order in which they began.
void Shard::finish_file_io() {
  completions_.clear();
  file_linker_->poll(completions_);
  for (const IoCompletion& done : completions_) {
    if (done.kind == IoCompletion::Kind::kFlushed) {
      const auto kinds = file_writes_.find({done.pages.container, done.pages.stripe});
      const FileWrite kind = kinds->second.front();
      kinds->second.pop_front();
      if (kinds->second.empty()) file_writes_.erase(kinds);
      wrote_to_file(done.pages, kind, done.status);
      continue;
    }
    if (!done.status)
      spdlog::error("container {} stripe {}: {}", done.pages.container.value(), done.pages.stripe,
                    done.status.error().message());
    step_with(PageBytes{done.pages, done.bytes}, event::SwappedIn{done.pages, done.status.ok()});
  }
}

// What programs wrote goes to the files even if nobody asks, so that a crash costs little.
void Shard::write_back_some() {
  for (const ContainerId id : core_.dirty_files()) {
    if (!background_.insert(id).second) continue;
    auto job = std::make_shared<FileJob>();
    job->container = id;
    for (const PageSet& pages : core_.file_pages(id, false)) job->todo.push_back(pages);
    jobs_to_go_on_.push_back(std::move(job));
  }
  settle_files();
}

// The shards have stopped: who waits for files here is told, by what is destroyed.
void Shard::end_files() {
  const auto parts = std::exchange(parts_, {});
  const auto work = std::exchange(work_, {});
  const auto surveys = std::exchange(surveys_, {});
  const auto jobs = std::exchange(jobs_to_go_on_, {});
}

}  // namespace gob
