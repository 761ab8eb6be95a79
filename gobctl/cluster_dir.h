// Where a development cluster keeps its files: DIR/n1, DIR/n2, ..., one folder a node. Values, and
// functions on the file system: no thread affinity.
#pragma once

#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"

namespace gob::ctl {

class NodeDir {
 public:
  explicit NodeDir(std::string path) : path_(std::move(path)) {}
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string config() const { return path_ + "/gobd.toml"; }
  [[nodiscard]] std::string log() const { return path_ + "/gobd.log"; }
  [[nodiscard]] std::string socket() const { return path_ + "/gobd.sock"; }
  [[nodiscard]] std::string swap() const { return path_ + "/swap"; }
  [[nodiscard]] std::string pid() const { return path_ + "/gobd.pid"; }
  // What tells the process of the pid file from a later one with the same number.
  [[nodiscard]] std::string identity() const { return path_ + "/gobd.identity"; }

 private:
  std::string path_;
};

class ClusterDir {
 public:
  // Empty: $GOB_DIR, else $XDG_RUNTIME_DIR/gob, else /tmp/gob-UID.
  explicit ClusterDir(const std::string& path = "");

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] NodeDir node(const std::string& name) const { return NodeDir(path_ + "/" + name); }
  // Names of the nodes that have a configuration here, n2 before n10.
  [[nodiscard]] std::vector<std::string> nodes() const;
  [[nodiscard]] bool has_node(const std::string& name) const;
  // A few characters that tell clusters of different directories apart.
  [[nodiscard]] std::string tag() const;
  [[nodiscard]] std::string notify_socket() const { return path_ + "/notify.sock"; }
  // Lists the network namespaces made for this cluster, one a line.
  [[nodiscard]] std::string namespaces() const { return path_ + "/namespaces"; }

  // Where a node mounts attached files. Beside its files, so that nothing that removes those can
  // ever reach through a mount.
  [[nodiscard]] std::string mount(const std::string& name) const {
    return path_ + "/" + name + ".mnt";
  }
  // Takes away what a node that was killed left mounted, and removes the folder.
  [[nodiscard]] Status remove_mount(const std::string& name) const;

  // Creates it. Refuses a directory that others own or may write to: who writes there decides what
  // is started and killed.
  Status make() const;
  // Whether it is there and can be trusted as make() demands.
  [[nodiscard]] Status check() const;
  // Keeps other gobctl away from this cluster until the descriptor is closed.
  [[nodiscard]] Result<UniqueFd> lock() const;
  // Removes the files of every node, and the directory if nothing else is in it.
  Status remove() const;

 private:
  std::string path_;
};

Status write_file(const std::string& path, const std::string& text);
// kNotFound if there is no such file.
Result<std::string> read_file(const std::string& path);
// The end of a text file, for messages; empty if it cannot be read.
std::string last_lines(const std::string& path, std::size_t lines);

}  // namespace gob::ctl
