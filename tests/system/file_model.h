// FileModel: does random operations on files (from a seed) on a folder seen through several mounts,
// and each one also on a plain folder of the host, and compares what a program can see: results,
// errors, bytes, attributes. Whatever mount an operation takes, all must look like one file system.
// One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace gob {

class FileModel {
 public:
  // `roots`: the same folder, empty, on several mounts. `reference`: an empty folder of the host.
  FileModel(std::uint64_t seed, std::vector<std::string> roots, std::string reference);
  ~FileModel();
  FileModel(const FileModel&) = delete;
  FileModel& operator=(const FileModel&) = delete;

  // Does one operation. Empty if both sides agree; else what was done and seen, and what before.
  std::string step();
  // Compares everything there is, through every mount.
  std::string compare_all();

 private:
  // A file opened on a mount, and its like on the host.
  struct Slot {
    std::size_t root = 0;
    int fd = -1;
    int reference_fd = -1;
  };
  // What an operation does on one side: from a folder and the descriptors of the slots it uses.
  using Act = std::function<std::string(const std::string& root, int fd, int to_fd)>;

  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }
  std::string name();
  std::string bytes();
  std::string compare(const std::string& what, const Act& act, Slot* slot = nullptr,
                      Slot* to = nullptr);
  std::string open_file(Slot& slot);
  std::string on_slot(Slot& slot);
  std::string on_names();
  std::string on_attributes();

  std::mt19937_64 random_;
  const std::vector<std::string> roots_;
  const std::string reference_;
  std::vector<Slot> slots_;
  std::deque<std::string> history_;
};

}  // namespace gob
