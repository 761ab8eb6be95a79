#include "tests/history/page_check.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>

#include "libgob/linker/page_checksum.h"

namespace gob::history {
namespace {

constexpr std::array<std::byte, kPageSize> kZeros{};

struct Entry {
  TraceRecord record;
  std::size_t life;  // index of its trace
};

// At the same moment what ends comes before what begins.
bool begins(TraceKind kind) { return kind == TraceKind::kGranted || kind == TraceKind::kMember; }

struct Page {
  std::map<std::size_t, Access> rights;  // of each life that has any
  std::optional<std::size_t> writer;     // the last to get the write right
  std::optional<std::uint64_t> digest;   // of its bytes, when known
  std::set<std::size_t> waiting;         // lives with a program that waits
};

class Checker {
 public:
  Checker(const std::vector<NodeTrace>& traces, PageCheck& out) : traces_(traces), out_(out) {
    out_.rights.resize(traces.size());
    left_.resize(traces.size(), false);
    for (const NodeTrace& trace : traces) {
      const auto first = std::ranges::find(trace.records, TraceKind::kMember, &TraceRecord::kind);
      first_epoch_.push_back(first == trace.records.end() ? 0 : first->digest);
    }
  }

  void take(const Entry& entry) {
    ++out_.records;
    now_ = entry.record.time_ns;
    life_ = entry.life;
    if (entry.record.kind == TraceKind::kMember) return take_member(entry.record);
    if (left_[life_]) return;  // of a node that the others have left behind
    if (entry.record.kind == TraceKind::kDropped) return drop(page_of(entry.record.page).container);
    key_ = entry.record.page;
    Page& page = pages_[key_];
    switch (entry.record.kind) {
      case TraceKind::kFault:
        page.waiting.insert(life_);
        return;
      case TraceKind::kRefused:
        page.waiting.erase(life_);
        return;
      case TraceKind::kGranted:
        return grant(page, static_cast<Access>(entry.record.access));
      case TraceKind::kProtected:
        if (page.rights.contains(life_)) set_right(page, Access::kRead);
        return;
      case TraceKind::kGone:
        return set_right(page, Access::kNone);
      case TraceKind::kRead:
        return read(page, entry.record.digest);
      case TraceKind::kStored:
        return store(page, entry.record.digest);
      case TraceKind::kZeroed:
        if (page.writer || page.digest) violation("is answered with zeros, but it exists");
        page.digest = page_checksum(key_, kZeros.data());
        return;
      case TraceKind::kDropped:
      case TraceKind::kMember:
      case TraceKind::kEnd:
        return;
    }
  }

  void finish() {
    out_.pages = pages_.size();
    for (const auto& [key, page] : pages_)
      for (const std::size_t life : page.waiting)
        if (!traces_[life].killed && !left_[life]) {
          key_ = key;
          life_ = life;
          violation("was waited for to the end: neither granted nor refused");
        }
  }

 private:
  void grant(Page& page, Access access) {
    ++out_.grants;
    page.waiting.erase(life_);
    const auto own = page.rights.find(life_);
    if (own != page.rights.end() && own->second >= access) return;
    for (const auto& [other, right] : page.rights) {
      if (other == life_ || (access == Access::kRead && right == Access::kRead)) continue;
      violation(std::string("may be ") + (access == Access::kWrite ? "written" : "read") +
                ", while it may still be " + (right == Access::kWrite ? "written" : "read") +
                " on " + name(other));
    }
    if (access == Access::kWrite) {
      ++out_.writers;
      page.writer = life_;
      page.digest = std::nullopt;
    }
    set_right(page, access);
  }

  // Its bytes leave: they are what the last writer left, whoever sends them.
  void read(Page& page, std::uint64_t digest) {
    const auto own = page.rights.find(life_);
    if (own != page.rights.end() && own->second == Access::kWrite)
      violation("is sent while programs may write to it");
    if (page.digest) return compare(page, digest, "is sent");
    if (page.writer && *page.writer != life_)
      violation("is sent although the last writer is " + name(*page.writer));
    page.digest = digest;
  }

  void store(Page& page, std::uint64_t digest) {
    ++out_.moves;
    if (page.digest) return compare(page, digest, "comes");
    violation(page.writer ? "comes, but its writer " + name(*page.writer) + " gave nothing away"
                          : std::string("comes from nowhere"));
  }

  void compare(const Page& page, std::uint64_t digest, const char* what) {
    if (*page.digest == digest) return;
    violation(std::string(what) + " with bytes that are not its last" +
              (page.writer ? ", those of " + name(*page.writer) : ""));
  }

  void set_right(Page& page, Access right) {
    if (right == Access::kNone) {
      if (page.rights.erase(life_) == 0) return;
    } else {
      Access& own = page.rights[life_];
      if (own == right) return;
      own = right;
    }
    out_.rights[life_][key_].push_back({now_, right});
  }

  void drop(ContainerId id) {
    for (auto& [key, page] : pages_) {
      if (page_of(key).container != id) continue;
      key_ = key;
      page.waiting.erase(life_);
      set_right(page, Access::kNone);
    }
  }

  // Who gets a view goes on without the nodes that are not in it. A daemon that was started anew is
  // left behind only by views later than the one in which it joined.
  void take_member(const TraceRecord& record) {
    std::set<unsigned>& members = views_[{life_, record.digest}];
    members.insert(record.peer);
    if (members.size() != record.count || left_[life_]) return;
    if (!members.contains(traces_[life_].node)) return;  // it is the one that is left behind
    const std::size_t viewer = life_;
    for (life_ = 0; life_ < traces_.size(); ++life_) {
      if (members.contains(traces_[life_].node) || record.digest <= first_epoch_[life_]) continue;
      if (traces_[life_].records.empty() || traces_[life_].records.front().time_ns > now_) continue;
      for (auto& [key, page] : pages_) {
        key_ = key;
        page.waiting.erase(life_);
        set_right(page, Access::kNone);
      }
      left_[life_] = true;
    }
    life_ = viewer;
  }

  [[nodiscard]] std::string name(std::size_t life) const {
    return "n" + std::to_string(traces_[life].node + 1) + " (pid " +
           std::to_string(traces_[life].pid) + ")";
  }

  void violation(const std::string& what) {
    const PageId id = page_of(key_);
    out_.findings.add(std::to_string(now_) + " ns: page " + std::to_string(id.page.value()) +
                      " of container " + std::to_string(id.container.value()) + " on " +
                      name(life_) + " " + what);
  }

  const std::vector<NodeTrace>& traces_;
  PageCheck& out_;
  std::map<PageKey, Page> pages_;
  std::vector<std::uint64_t> first_epoch_;  // of each life: the view in which it joined
  std::vector<bool> left_;                  // of each life: the others went on without it
  // By life and epoch: the members of a view, as far as they were read.
  std::map<std::pair<std::size_t, std::uint64_t>, std::set<unsigned>> views_;
  std::uint64_t now_ = 0;
  std::size_t life_ = 0;
  PageKey key_ = 0;
};

}  // namespace

PageCheck check_pages(const std::vector<NodeTrace>& traces) {
  std::vector<Entry> all;
  for (std::size_t life = 0; life < traces.size(); ++life)
    for (const TraceRecord& record : traces[life].records) all.push_back({record, life});
  std::ranges::stable_sort(all, [](const Entry& a, const Entry& b) {
    if (a.record.time_ns != b.record.time_ns) return a.record.time_ns < b.record.time_ns;
    return !begins(a.record.kind) && begins(b.record.kind);
  });
  PageCheck check;
  Checker checker(traces, check);
  for (const Entry& entry : all) checker.take(entry);
  checker.finish();
  return check;
}

bool had_right(const std::vector<RightFrom>& rights, Access right, std::uint64_t begin_ns,
               std::uint64_t end_ns) {
  auto at = std::ranges::lower_bound(rights, begin_ns, {}, &RightFrom::time_ns);
  if (at != rights.begin()) --at;
  for (; at != rights.end() && at->time_ns <= end_ns; ++at) {
    const bool in_force = std::next(at) == rights.end() || std::next(at)->time_ns >= begin_ns;
    if (at->right >= right && in_force) return true;
  }
  return false;
}

}  // namespace gob::history
