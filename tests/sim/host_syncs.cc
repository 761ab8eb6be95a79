// What a host does at the home of a file for a sync (libgob/runtime/shard_file_jobs.cc): the core
// surveys, the host has written back what is newer than the file, and answers when all is written.
#include <algorithm>
#include <utility>

#include "tests/sim/host_model.h"

namespace gob::sim {

void NodeModel::begin_sync(ContainerId id, bool list, Effects& fx) {
  syncs_[id].list = list;
  step(event::Sync{id, list}, nullptr, fx);
}

void NodeModel::perform(const action::Synced& a, const Packet*, Effects& fx) {
  const auto found = syncs_.find(a.container);
  if (found == syncs_.end() || found->second.surveyed)
    return fx.fail("the end of a sync that nobody asked for");
  FileSync& sync = found->second;
  sync.surveyed = true;
  sync.failed = a.refusal != Refusal::kNone;
  std::set<PageId> seen;
  const std::vector<PageSet> known = core_.file_pages(a.container, sync.list);
  for (const PageSet& pages : known) {
    if (pages.container != a.container || !geometry_.contains(pages))
      return fx.fail("a sync found a page that the file has not: " + to_text(pages));
    for_each_page(pages, [&](PageId page) {
      if (!seen.insert(page).second) fx.fail("a sync found a page twice");
    });
  }
  if (!sync.list) sync.todo = known;
}

// One that is under way may have begun before the last write: another follows it.
void NodeModel::go_on_with_syncs(Effects& fx) {
  const auto may_go_on = [](const auto& item) {
    return item.second.surveyed && (item.second.ends.empty() || !item.second.todo.empty());
  };
  // Each of the steps comes here, too.
  while (true) {
    const auto found = std::ranges::find_if(syncs_, may_go_on);
    if (found == syncs_.end()) return;
    FileSync& sync = found->second;
    if (sync.todo.empty()) {
      fx.synced.push_back({found->first, sync.list, !sync.failed});
      syncs_.erase(found);
      continue;
    }
    const PageSet pages = sync.todo.back();
    sync.todo.pop_back();
    for_each_page(pages, [&](PageId id) {
      const Pending* pending = core_.pending(id);
      const bool under_way = pending != nullptr && pending->job == Pending::Job::kWriteBack;
      sync.ends[geometry_.index(id)] = under_way ? 2 : 1;
    });
    step(event::WriteBack{pages}, nullptr, fx);
  }
}

void NodeModel::end_of_write_back(unsigned page, Refusal refusal) {
  const auto found = syncs_.find(geometry_.page(page).container);
  if (found == syncs_.end()) return;
  FileSync& sync = found->second;
  const auto awaited = sync.ends.find(page);
  if (awaited == sync.ends.end() || --awaited->second != 0) return;
  sync.ends.erase(awaited);
  sync.failed = sync.failed || refusal != Refusal::kNone;
}

bool NodeModel::has_or_reads(unsigned page) const {
  const PageId id = geometry_.page(page);
  return frames_[page].present || std::ranges::any_of(io_, [&](const Io& io) {
           return !io.out && io.pages.container == id.container && io.pages.contains(id.page);
         });
}

}  // namespace gob::sim
