// NodeMemory: how the program of one node comes to the words of the containers of a litmus test. Made
// and used by one thread; failures are thrown.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace gob::litmus {

class NodeMemory {
 public:
  virtual ~NodeMemory() = default;
  // On the first node, before the others open().
  virtual void create(const std::vector<std::string>& names) = 0;
  // Where each container lies in this program.
  virtual std::vector<std::uint64_t*> open(const std::vector<std::string>& names) = 0;
  // On the first node last.
  virtual void close() = 0;
  virtual void remove(const std::vector<std::string>& names) = 0;
};

// Through libgob.
std::unique_ptr<NodeMemory> containers_of_node(const std::string& socket, unsigned pages);
// Through System V segments of the node's own, attached with `gobctl attach --segment`'s request.
std::unique_ptr<NodeMemory> segments_of_node(const std::string& socket, unsigned node,
                                             unsigned pages);

}  // namespace gob::litmus
