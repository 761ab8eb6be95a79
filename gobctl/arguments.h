// What the command line said, for all subcommands together: each declares and reads its own part.
// Also where a command writes. Values: no thread affinity.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "gobctl/terminal.h"

namespace gob::ctl {

struct Arguments {
  // Which gobd to ask.
  std::string socket;
  std::string node;
  std::string dir;  // of a development cluster; empty: the default one

  bool json = false;
  bool quiet = false;  // names only
  bool transport = false;
  bool all = false;    // containers of single files, too; all processes
  bool here = false;   // what moved to the node that is asked
  std::string signal = "TERM";
  double limit_seconds = 0;  // 0: none

  std::string name;
  std::vector<std::string> names;
  std::string tree;     // what to attach: a folder,
  std::string file;     // a file, or
  std::string segment;  // the key of a System V segment
  bool link = false;    // a file: itself, not in the mounts
  bool lossy = false;   // what cannot be had becomes zeros
  std::string size;
  std::string mode = "0600";
  double watch_seconds = 0;  // 0: once
  std::uint32_t rounds = 0;  // of a watch; 0: no end
  std::uint32_t top_pages = 10;
  double timeout_seconds = 30;

  std::uint32_t nodes = 3;
  std::string budget = "256M";
  std::string swap;
  std::uint32_t shards = 1;
  bool netns = false;
  bool mount = false;
  std::string gobd;
  bool keep = false;

  std::string shell;
};

struct Io {
  std::ostream& out;
  std::ostream& err;
  Paint paint;  // for `out`
  int exit_status = 0;  // if not 0: instead of what the outcome would give
};

}  // namespace gob::ctl
