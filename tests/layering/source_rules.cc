#include "tests/layering/source_rules.h"

#include <algorithm>
#include <array>
#include <set>
#include <sstream>
#include <string_view>

namespace gob::layering {

namespace {

// Lowest first.
constexpr std::array kLayers = {"base",      "protocol", "wire",   "transport",
                                "container", "linker",   "file",   "membership",
                                "sync",      "runtime",  "client", "migration"};
// Above all layers; none knows another.
constexpr std::array kPrograms = {"gobd", "gobctl", "gobmigrate", "gobbench", "examples"};

// What pure code may use of the standard library: values and containers, nothing that waits,
// prints, or asks the system.
constexpr std::array kPureHeaders = {
    "algorithm",     "array",         "bit",        "compare",     "concepts", "cstddef",
    "cstdint",       "deque",         "functional", "iterator",    "limits",   "map",
    "memory",        "numeric",       "optional",   "queue",       "ranges",   "set",
    "span",          "sstream",       "string",     "string_view", "tuple",    "type_traits",
    "unordered_map", "unordered_set", "utility",    "variant",     "vector"};

// Not written from the root: installed side by side, or made by the build.
constexpr std::array kUnrooted = {"gob.h", "gob.hpp", "gobbench_commit.h"};

template <class Range>
bool contains(const Range& range, std::string_view value) {
  return std::ranges::find(range, value) != range.end();
}

std::size_t rank_of(const std::string& layer) {
  const auto found = std::ranges::find(kLayers, std::string_view(layer));
  return static_cast<std::size_t>(found - kLayers.begin());
}

}  // namespace

Includes includes_of(const std::string& text) {
  Includes includes;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::size_t at = line.find_first_not_of(" \t");
    if (at == std::string::npos || line[at] != '#') continue;
    at = line.find_first_not_of(" \t", at + 1);
    if (at == std::string::npos || line.compare(at, 7, "include") != 0) continue;
    const std::size_t open = line.find_first_of("<\"", at);
    if (open == std::string::npos) continue;
    const std::size_t close = line.find_first_of(">\"", open + 1);
    if (close == std::string::npos) continue;
    (line[open] == '<' ? includes.system : includes.project)
        .push_back(line.substr(open + 1, close - open - 1));
  }
  return includes;
}

std::string layer_of(const std::string& path) {
  const std::string first = path.substr(0, path.find('/'));
  if (contains(kPrograms, first)) return first;
  if (first != "libgob") return "";
  const std::string rest = path.substr(std::min(path.size(), first.size() + 1));
  const std::size_t slash = rest.find('/');
  return slash == std::string::npos ? "client" : rest.substr(0, slash);
}

Complaints check_layers(const std::string& path, const std::string& text) {
  const std::string own = layer_of(path);
  if (own.empty()) return {};
  const bool is_program = contains(kPrograms, own);
  if (!is_program && rank_of(own) == kLayers.size())
    return {path + ": folder libgob/" + own + " has no place among the layers"};
  Complaints complaints;
  for (const std::string& include : includes_of(text).project) {
    if (contains(kUnrooted, include)) continue;
    const std::string other = layer_of(include);
    if (other.empty()) {
      complaints.push_back(path + " includes \"" + include +
                           "\": includes are written from the root of the repository, and only "
                           "tests may include tests");
    } else if (contains(kPrograms, other)) {
      if (other != own)
        complaints.push_back(path + " includes \"" + include + "\" of another program");
    } else if (!is_program && rank_of(other) > rank_of(own)) {
      complaints.push_back(path + " includes \"" + include + "\" of a layer above its own");
    }
  }
  return complaints;
}

Complaints check_pure(const std::string& file, const std::map<std::string, std::string>& sources) {
  Complaints complaints;
  std::set<std::string> seen;
  std::vector<std::string> todo = {file};
  while (!todo.empty()) {
    const std::string path = todo.back();
    todo.pop_back();
    if (!seen.insert(path).second) continue;
    const auto source = sources.find(path);
    if (source == sources.end()) {
      complaints.push_back(file + " comes to include \"" + path + "\", which does not exist");
      continue;
    }
    const Includes includes = includes_of(source->second);
    for (const std::string& header : includes.system)
      if (!contains(kPureHeaders, header))
        complaints.push_back(file + " comes to include <" + header + "> by " + path +
                             ", which pure code may not use");
    todo.insert(todo.end(), includes.project.begin(), includes.project.end());
  }
  return complaints;
}

Complaints check_header(const std::string& path, const std::string& text) {
  Complaints complaints;
  const bool line_comment = text.starts_with("// ");
  const bool block_comment = text.starts_with("/*");
  const std::size_t end = line_comment ? text.find("\n\n") : text.find("*/");
  const std::size_t code = text.find("\n#");
  if (!line_comment && !block_comment)
    complaints.push_back(path + " does not begin with a comment on its role");
  else if (std::min(end, code) < 40)
    complaints.push_back(path + " begins with a comment too short to name its role");
  if (text.find("#pragma once") == std::string::npos && text.find("#ifndef ") == std::string::npos)
    complaints.push_back(path + " does not guard itself against a second inclusion");
  return complaints;
}

Complaints check_length(const std::string& path, const std::string& text) {
  const auto lines = std::ranges::count(text, '\n');
  if (lines <= kMaxLines) return {};
  return {path + " has " + std::to_string(lines) + " lines, more than " +
          std::to_string(kMaxLines) + ": it has two subjects"};
}

}  // namespace gob::layering
