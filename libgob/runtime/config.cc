#include "libgob/runtime/config.h"

#include <toml++/toml.h>
#include <unistd.h>

#include <set>
#include <sstream>

#include "libgob/base/size.h"
#include "libgob/linker/stream_detector.h"

namespace gob {

namespace {

// Reads known keys of one table; remembers the first error and reports unknown keys.
class Reader {
 public:
  Reader(const toml::table& table, std::string where) : table_(table), where_(std::move(where)) {}

  void text(const char* key, std::string& out) {
    known_.insert(key);
    if (const toml::node* node = table_.get(key)) {
      if (const auto value = node->value<std::string>())
        out = *value;
      else
        fail(*node, key, "a string");
    }
  }
  void number(const char* key, std::int64_t low, std::int64_t high, auto& out) {
    known_.insert(key);
    if (const toml::node* node = table_.get(key)) {
      const auto value = node->value_exact<std::int64_t>();
      if (!value || *value < low || *value > high)
        return fail(*node, key,
                    "a whole number from " + std::to_string(low) + " to " + std::to_string(high));
      out = static_cast<std::remove_reference_t<decltype(out)>>(*value);
    }
  }
  void size(const char* key, std::uint64_t& out) {
    known_.insert(key);
    const toml::node* node = table_.get(key);
    if (node == nullptr) return;
    if (const auto value = node->value_exact<std::int64_t>(); value && *value >= 0) {
      out = static_cast<std::uint64_t>(*value);
      return;
    }
    const auto text = node->value_exact<std::string>();
    const auto parsed = text ? parse_size(*text) : make_error(ErrorCode::kInvalidArgument, "");
    if (!parsed) return fail(*node, key, "a size such as \"512M\"");
    out = *parsed;
  }
  void allow(const char* key) { known_.insert(key); }
  void fail(const toml::node& node, std::string_view key, const std::string& expected) {
    if (!error_.empty()) return;
    std::ostringstream message;
    message << where_ << ", line " << node.source().begin.line << ": '" << key << "' must be "
            << expected;
    error_ = message.str();
  }
  [[nodiscard]] std::string finish() {
    for (const auto& [key, node] : table_)
      if (error_.empty() && !known_.contains(key.str())) {
        std::ostringstream message;
        message << where_ << ", line " << node.source().begin.line << ": unknown key '" << key.str()
                << "'; see gobd.toml(5)";
        error_ = message.str();
      }
    return error_;
  }

 private:
  const toml::table& table_;
  std::string where_;
  std::set<std::string, std::less<>> known_;
  std::string error_;
};

Result<DaemonConfig> read(const toml::table& table, const std::string& path) {
  DaemonConfig config;
  Reader reader(table, path);
  reader.text("cluster", config.cluster);
  reader.text("node", config.node);
  reader.text("control_socket", config.control_socket);
  reader.number("control_mode", 0, 0777, config.control_mode);
  reader.number("shards", 1, 64, config.shards);
  reader.size("budget", config.budget_bytes);
  reader.text("swap_dir", config.swap_dir);
  reader.size("swap", config.swap_bytes);
  reader.number("page_timeout_ms", 10, 3'600'000, config.page_timeout_ms);
  reader.number("peer_timeout_ms", 100, 600'000, config.peer_timeout_ms);
  reader.number("stall_timeout_ms", 1000, 3'600'000, config.stall_timeout_ms);
  reader.number("form_timeout_ms", 100, 600'000, config.form_timeout_ms);
  reader.number("leave_timeout_ms", 100, 3'600'000, config.leave_timeout_ms);
  reader.number("hold_us", 0, 1'000'000, config.hold_us);
  reader.number("poll_us", 0, 1'000'000, config.poll_us);
  reader.number("nice", -20, 19, config.nice);
  reader.number("read_ahead_pages", 0, StreamDetector::kMaxWindow, config.read_ahead_pages);
  reader.text("mount", config.mount);
  reader.number("file_timeout_ms", 100, 3'600'000, config.file_timeout_ms);
  reader.number("write_back_ms", 0, 3'600'000, config.write_back_ms);
  reader.text("linker", config.linker);
  reader.text("transport", config.transport);
  reader.text("rdma_device", config.rdma_device);
  reader.number("rdma_poll_us", 0, 1'000'000, config.rdma_poll_us);
  reader.text("log_level", config.log_level);
  reader.text("trace_dir", config.trace_dir);
  reader.allow("nodes");
  if (const toml::node* nodes = table.get("nodes")) {
    const toml::array* list = nodes->as_array();
    if (list == nullptr) reader.fail(*nodes, "nodes", "a list of [[nodes]] tables");
    for (std::size_t i = 0; list != nullptr && i < list->size(); ++i) {
      const toml::table* entry = list->get(i)->as_table();
      if (entry == nullptr) {
        reader.fail(*list->get(i), "nodes", "a list of [[nodes]] tables");
        break;
      }
      NodeConfig node;
      Reader node_reader(*entry, path);
      node_reader.text("name", node.name);
      node_reader.text("host", node.host);
      node_reader.number("port", 1, 65535, node.port);
      if (const std::string error = node_reader.finish(); !error.empty())
        return make_error(ErrorCode::kInvalidArgument, error);
      config.nodes.push_back(node);
    }
  }
  if (const std::string error = reader.finish(); !error.empty())
    return make_error(ErrorCode::kInvalidArgument, error);
  return config;
}

}  // namespace

NodeId DaemonConfig::self() const {
  for (std::size_t i = 0; i < nodes.size(); ++i)
    if (nodes[i].name == node) return NodeId{static_cast<std::uint16_t>(i)};
  return kNoNode;
}

Result<DaemonConfig> load_config(const std::string& path) {
  // The parser does not say why a file cannot be opened.
  if (::access(path.c_str(), R_OK) != 0)
    return system_error("cannot read configuration " + path +
                        " (gobd.toml(5) says what is in it; \"gobctl cluster up\" starts a cluster "
                        "on this machine without one)");
  try {
    return read(toml::parse_file(path), path);
  } catch (const toml::parse_error& error) {
    std::ostringstream message;
    message << "cannot read configuration " << path;
    if (error.source().begin.line != 0) message << ", line " << error.source().begin.line;
    message << ": " << error.description();
    return make_error(ErrorCode::kInvalidArgument, message.str());
  }
}

Status check_config(const DaemonConfig& config) {
  const auto bad = [](std::string why) {
    return make_error(ErrorCode::kInvalidArgument, "configuration: " + std::move(why));
  };
  if (config.nodes.empty()) return bad("no nodes; list every node of the cluster as [[nodes]]");
  if (config.nodes.size() > kMaxNodes)
    return bad(std::to_string(config.nodes.size()) + " nodes; at most " +
               std::to_string(kMaxNodes));
  std::set<std::string> names;
  for (const NodeConfig& node : config.nodes) {
    if (node.name.empty()) return bad("a node has no name");
    if (node.host.empty()) return bad("node '" + node.name + "' has no host");
    if (!names.insert(node.name).second) return bad("two nodes are named '" + node.name + "'");
  }
  if (config.self() == kNoNode)
    return bad(config.node.empty() ? "'node' (or --node) must say which of the nodes this one is"
                                   : "node '" + config.node + "' is not in the list of nodes");
  if (config.budget_bytes < 64 * kPageSize)
    return bad("a budget of " + format_size(config.budget_bytes) + " is too small; at least " +
               format_size(64 * kPageSize));
  if (config.shards < 1 || config.shards > 64) return bad("shards must be from 1 to 64");
  if (config.linker != "auto" && config.linker != "kernel" && config.linker != "userfaultfd")
    return bad("linker '" + config.linker + "' is unknown; choose auto, kernel or userfaultfd");
  if (config.transport != "auto" && config.transport != "verbs" && config.transport != "tcp")
    return bad("transport '" + config.transport + "' is unknown; choose auto, verbs or tcp");
  if (config.read_ahead_pages > StreamDetector::kMaxWindow)
    return bad("read_ahead_pages must be at most 256");
  static_assert(StreamDetector::kMaxWindow == 256);
  if (!config.mount.empty() && (config.mount.front() != '/' || config.mount.size() == 1))
    return bad("mount '" + config.mount + "' must be the full path of a folder");
  return {};
}

std::string to_toml(const DaemonConfig& config) {
  toml::array nodes;
  for (const NodeConfig& node : config.nodes)
    nodes.push_back(toml::table{{"name", node.name}, {"host", node.host}, {"port", node.port}});
  const toml::table table{
      {"cluster", config.cluster},
      {"node", config.node},
      {"control_socket", config.control_socket},
      {"control_mode", config.control_mode},
      {"shards", config.shards},
      {"budget", static_cast<std::int64_t>(config.budget_bytes)},
      {"swap_dir", config.swap_dir},
      {"swap", static_cast<std::int64_t>(config.swap_bytes)},
      {"page_timeout_ms", config.page_timeout_ms},
      {"peer_timeout_ms", config.peer_timeout_ms},
      {"stall_timeout_ms", config.stall_timeout_ms},
      {"form_timeout_ms", config.form_timeout_ms},
      {"leave_timeout_ms", config.leave_timeout_ms},
      {"hold_us", config.hold_us},
      {"poll_us", config.poll_us},
      {"nice", config.nice},
      {"read_ahead_pages", config.read_ahead_pages},
      {"mount", config.mount},
      {"file_timeout_ms", config.file_timeout_ms},
      {"write_back_ms", config.write_back_ms},
      {"linker", config.linker},
      {"transport", config.transport},
      {"rdma_device", config.rdma_device},
      {"rdma_poll_us", config.rdma_poll_us},
      {"log_level", config.log_level},
      {"trace_dir", config.trace_dir},
      {"nodes", nodes},
  };
  std::ostringstream text;
  text << table << '\n';
  return text.str();
}

}  // namespace gob
