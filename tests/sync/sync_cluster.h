// Sync services of a few nodes and the FIFO links between them, for tests. Messages travel when the
// test says so.
#pragma once

#include <deque>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "libgob/sync/sync_service.h"

namespace gob::test {

class SyncCluster {
 public:
  explicit SyncCluster(std::size_t nodes) {
    for (std::size_t i = 0; i < nodes; ++i) services.emplace_back(node(i));
  }
  static NodeId node(std::size_t i) { return NodeId{static_cast<std::uint16_t>(i)}; }
  static View view(std::uint64_t epoch, const std::vector<std::size_t>& members,
                   const std::vector<std::size_t>& departing = {}) {
    View view;
    view.epoch = Epoch{epoch};
    for (const std::size_t i : members) view.members.push_back(node(i));
    for (const std::size_t i : departing) view.departing.push_back(node(i));
    return view;
  }

  void perform(std::size_t at, SyncService::Out& out) {
    for (auto& [to, message] : out.messages) {
      ++sent;
      if (!dead.contains(to.value())) links[{at, to.value()}].push_back(std::move(message));
    }
    for (const auto& answer : out.answers) answers.push_back({at, answer.request, answer.result});
    out = {};
  }
  bool deliver(std::size_t from, std::size_t to) {
    auto& queue = links[{from, to}];
    if (queue.empty()) return false;
    const SyncMessage message = queue.front();
    queue.pop_front();
    if (dead.contains(to)) return true;
    SyncService::Out out;
    services[to].deliver(node(from), message, out);
    perform(to, out);
    return true;
  }
  void deliver_all() {
    for (bool any = true; any;) {
      any = false;
      for (std::size_t a = 0; a < services.size(); ++a)
        for (std::size_t b = 0; b < services.size(); ++b) any = deliver(a, b) || any;
    }
  }
  void install(std::size_t at, const View& view) {
    SyncService::Out out;
    services[at].install_view(view, out);
    perform(at, out);
  }
  void install_all(const View& view) {
    for (NodeId member : view.members) install(member.value(), view);
    for (NodeId leaver : view.departing) install(leaver.value(), view);
  }
  // What it sent may still arrive, unless `silent`.
  void kill(std::size_t at, bool silent = false) {
    dead.insert(at);
    for (auto& [link, queue] : links)
      if (link.second == at || (silent && link.first == at)) queue.clear();
  }

  std::uint64_t ask(std::size_t at, SyncService::Request request) {
    SyncService::Out out;
    const std::uint64_t id = services[at].request(request, out);
    perform(at, out);
    return id;
  }
  std::uint64_t lock(std::size_t at, std::uint64_t client, const std::string& name,
                     std::optional<std::uint64_t> deadline = {}) {
    return ask(at, {SyncKind::kLock, client, 0, name, {}, 0, deadline});
  }
  std::uint64_t unlock(std::size_t at, std::uint64_t client, const std::string& name) {
    return ask(at, {SyncKind::kUnlock, client, 0, name, {}, 0, {}});
  }
  std::uint64_t wait(std::size_t at, std::uint64_t client, const std::string& cond,
                     const std::string& lock, std::optional<std::uint64_t> deadline = {}) {
    return ask(at, {SyncKind::kCondWait, client, 0, cond, lock, 0, deadline});
  }
  std::uint64_t notify(std::size_t at, std::uint64_t client, const std::string& cond,
                       const std::string& lock, bool all) {
    return ask(
        at, {all ? SyncKind::kCondBroadcast : SyncKind::kCondSignal, client, 0, cond, lock, 0, {}});
  }
  std::uint64_t barrier(std::size_t at, std::uint64_t client, const std::string& name,
                        std::uint32_t count, std::optional<std::uint64_t> deadline = {}) {
    return ask(at, {SyncKind::kBarrier, client, 0, name, {}, count, deadline});
  }
  void gone(std::size_t at, std::uint64_t client) {
    SyncService::Out out;
    services[at].client_gone(client, out);
    perform(at, out);
  }
  void tick(std::size_t at, std::uint64_t now_ms) {
    SyncService::Out out;
    services[at].tick(now_ms, out);
    perform(at, out);
  }
  // The answer to a request of a node, if it has come.
  [[nodiscard]] std::optional<SyncResult> result(std::size_t at, std::uint64_t request) const {
    for (const auto& answer : answers)
      if (answer.at == at && answer.request == request) return answer.result;
    return std::nullopt;
  }
  [[nodiscard]] std::size_t objects() const {
    std::size_t all = 0;
    for (std::size_t i = 0; i < services.size(); ++i)
      if (!dead.contains(i)) all += services[i].objects_here();
    return all;
  }

  struct Answered {
    std::size_t at;
    std::uint64_t request;
    SyncResult result;
  };
  std::vector<SyncService> services;
  std::map<std::pair<std::size_t, std::size_t>, std::deque<SyncMessage>> links;
  std::set<std::size_t> dead;
  std::vector<Answered> answers;  // in order
  std::size_t sent = 0;
};

}  // namespace gob::test
