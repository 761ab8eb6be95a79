// Container tables of a few nodes and the FIFO links between them, for tests. Messages travel when
// the test says so.
#pragma once

#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "libgob/container/container_table.h"

namespace gob::test {

class TableCluster {
 public:
  explicit TableCluster(std::size_t nodes) {
    for (std::size_t i = 0; i < nodes; ++i) tables.emplace_back(node(i), 100 + i);
    added.resize(nodes);
  }
  static NodeId node(std::size_t i) { return NodeId{static_cast<std::uint16_t>(i)}; }

  void perform(std::size_t at, container::Actions& actions) {
    for (auto& action : actions) {
      if (auto* send = std::get_if<container::Send>(&action)) {
        links[{node(at), send->to}].push_back(std::move(send->message));
      } else if (auto* add = std::get_if<container::Added>(&action)) {
        const bool fresh = added[at].insert(add->record.info.id).second;
        if (!fresh) problem = "added twice";
        ever_added.insert({at, add->record.info.id});
      } else if (auto* gone = std::get_if<container::Removed>(&action)) {
        if (added[at].erase(gone->id) == 0) problem = "removed what was not there";
      } else if (auto* reply = std::get_if<container::Reply>(&action)) {
        const bool fresh = replies.insert({{at, reply->request}, reply->result}).second;
        if (!fresh) problem = "answered twice";
      } else {
        problem = "violation: " + std::get<container::Violation>(action).what;
      }
    }
    actions.clear();
  }

  // Delivers one message of the link; false if there is none.
  bool deliver(NodeId from, NodeId to) {
    auto& queue = links[{from, to}];
    if (queue.empty()) return false;
    const ContainerMessage message = queue.front();
    queue.pop_front();
    container::Actions actions;
    tables[to.value()].deliver(from, message, actions);
    perform(to.value(), actions);
    return true;
  }
  void deliver_all() {
    for (bool any = true; any;) {
      any = false;
      const auto now = links;
      for (const auto& [link, queue] : now) any = deliver(link.first, link.second) || any;
    }
  }

  void install(std::size_t at, const View& view, const std::string& table) {
    container::Actions actions;
    const Status status = tables[at].install_view(view, table, actions);
    if (!status) problem = status.error().context;
    perform(at, actions);
  }
  // All at once: freeze, merge, install.
  void change_view(std::uint64_t epoch, const std::vector<std::size_t>& members) {
    View view;
    view.epoch = Epoch{epoch};
    std::vector<std::string> blobs;
    for (const std::size_t i : members) {
      view.members.push_back(node(i));
      blobs.push_back(tables[i].freeze());
    }
    const std::string merged = ContainerTable::merge(blobs);
    for (const std::size_t i : members) install(i, view, merged);
  }

  std::uint64_t create(std::size_t at, const std::string& name, Credentials who = {1000, 100, {}},
                       std::uint32_t mode = 0600) {
    container::Actions actions;
    const auto request = tables[at].create(
        {name, 10000, mode, 42, kNoNode, ContainerKind::kMemory, {}}, who, actions);
    perform(at, actions);
    return request;
  }
  std::uint64_t remove(std::size_t at, const std::string& name, Credentials who = {1000, 100, {}}) {
    container::Actions actions;
    const auto request = tables[at].remove(name, who, actions);
    perform(at, actions);
    return request;
  }
  std::uint64_t open(std::size_t at, const std::string& name, Credentials who = {1000, 100, {}},
                     std::vector<Right> rights = {Right::kRead}) {
    container::Actions actions;
    const auto request = tables[at].open(name, who, rights, actions);
    perform(at, actions);
    return request;
  }
  // The answer to a request of a node; null while there is none.
  const Result<ContainerRecord>* answer(std::size_t at, std::uint64_t request) const {
    const auto found = replies.find({at, request});
    return found == replies.end() ? nullptr : &found->second;
  }

  std::vector<ContainerTable> tables;
  std::map<std::pair<NodeId, NodeId>, std::deque<ContainerMessage>> links;
  std::map<std::pair<std::size_t, std::uint64_t>, Result<ContainerRecord>> replies;
  std::vector<std::set<ContainerId>> added;  // what the core of each node knows
  std::set<std::pair<std::size_t, ContainerId>> ever_added;
  std::string problem;
};

}  // namespace gob::test
