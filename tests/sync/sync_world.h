// Several SyncServices over FIFO links whose deliveries a test or a seed interleaves.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "libgob/sync/sync_service.h"

namespace gob {

class SyncWorld {
 public:
  explicit SyncWorld(unsigned nodes) {
    for (std::uint16_t i = 0; i < nodes; ++i) nodes_.emplace(NodeId{i}, SyncService(NodeId{i}));
    std::vector<NodeId> members;
    for (const auto& [node, service] : nodes_) members.push_back(node);
    install(View{Epoch{1}, members, {}, {}});
  }

  SyncService& at(unsigned node) { return nodes_.at(NodeId{static_cast<std::uint16_t>(node)}); }

  std::uint64_t ask(unsigned node, const SyncService::Request& request) {
    SyncService::Out out;
    const std::uint64_t id = at(node).request(request, out);
    take(NodeId{static_cast<std::uint16_t>(node)}, out);
    return id;
  }
  std::uint64_t barrier(unsigned node, std::uint64_t client, const std::string& name,
                        std::uint32_t count) {
    return ask(node, {SyncKind::kBarrier, client, 0, name, "", count, std::nullopt});
  }
  std::uint64_t lock(unsigned node, std::uint64_t client, const std::string& name) {
    return ask(node, {SyncKind::kLock, client, 1, name, "", 0, std::nullopt});
  }
  std::uint64_t unlock(unsigned node, std::uint64_t client, const std::string& name) {
    return ask(node, {SyncKind::kUnlock, client, 1, name, "", 0, std::nullopt});
  }
  void client_gone(unsigned node, std::uint64_t client) {
    SyncService::Out out;
    at(node).client_gone(client, out);
    take(NodeId{static_cast<std::uint16_t>(node)}, out);
  }
  void tick(unsigned node, std::uint64_t now) {
    SyncService::Out out;
    at(node).tick(now, out);
    take(NodeId{static_cast<std::uint16_t>(node)}, out);
  }

  // The node dies; the others get a view without it, which records the loss.
  void crash(unsigned node) {
    const NodeId dead{static_cast<std::uint16_t>(node)};
    const View before = view_;
    nodes_.erase(dead);
    std::erase_if(links_, [&](const auto& link) {
      return link.first.first == dead || link.first.second == dead;
    });
    View view{Epoch{before.epoch.value() + 1}, {}, {}, before.losses};
    for (const auto& [id, service] : nodes_) view.members.push_back(id);
    view.losses.push_back({view.epoch, before.members, {dead}});
    install(view);
  }

  // Delivers one message of the link that `choice` selects; false when no link has any.
  bool deliver_one(std::uint64_t choice) {
    std::vector<std::pair<NodeId, NodeId>> busy;
    for (const auto& [link, queue] : links_)
      if (!queue.empty()) busy.push_back(link);
    if (busy.empty()) return false;
    const auto link = busy[choice % busy.size()];
    const SyncMessage message = links_[link].front();
    links_[link].pop_front();
    SyncService::Out out;
    nodes_.at(link.second).deliver(link.first, message, out);
    take(link.second, out);
    return true;
  }
  void settle() {
    while (deliver_one(0)) {
    }
  }
  // The answer to a request of a node, if it has come.
  std::optional<SyncResult> answer(unsigned node, std::uint64_t request) const {
    const auto found = answers_.find({NodeId{static_cast<std::uint16_t>(node)}, request});
    if (found == answers_.end()) return std::nullopt;
    return found->second;
  }

 private:
  void install(const View& view) {
    view_ = view;
    for (auto& [node, service] : nodes_) {
      SyncService::Out out;
      service.install_view(view, out);
      take(node, out);
    }
  }
  void take(NodeId from, const SyncService::Out& out) {
    for (const auto& [to, message] : out.messages)
      if (nodes_.contains(to)) links_[{from, to}].push_back(message);
    for (const auto& answer : out.answers) answers_[{from, answer.request}] = answer.result;
  }

  std::map<NodeId, SyncService> nodes_;
  View view_;
  std::map<std::pair<NodeId, NodeId>, std::deque<SyncMessage>> links_;
  std::map<std::pair<NodeId, std::uint64_t>, SyncResult> answers_;
};

}  // namespace gob
