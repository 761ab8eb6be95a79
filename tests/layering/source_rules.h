// The rules that the source tree keeps about its own shape. Pure functions of a file's path (from
// the root of the repository) and text; each returns what is wrong, in words. No thread affinity.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace gob::layering {

using Complaints = std::vector<std::string>;

// What a file includes: `"..."` as project, `<...>` as system.
struct Includes {
  std::vector<std::string> project;
  std::vector<std::string> system;
};
Includes includes_of(const std::string& text);

// The layer that a file belongs to: "protocol" for libgob/protocol/core.h, "client" for the headers
// of libgob itself, "gobd" and so on for programs; empty if the rules say nothing about it.
std::string layer_of(const std::string& path);

// Only layers below its own, and of programs only itself.
Complaints check_layers(const std::string& path, const std::string& text);

// `file` and what it includes of the project, in turn, use no header that reaches outside the
// process: only the listed parts of the standard library. `sources` has the text of every file of
// the project.
Complaints check_pure(const std::string& file, const std::map<std::string, std::string>& sources);

// A header begins with a comment that says what it is for, and guards itself.
Complaints check_header(const std::string& path, const std::string& text);

// At most kMaxLines.
inline constexpr int kMaxLines = 500;
Complaints check_length(const std::string& path, const std::string& text);

}  // namespace gob::layering
