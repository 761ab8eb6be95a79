// How gobctl writes JSON: keys in the order given, two spaces, bytes that are not UTF-8 replaced.
#pragma once

#include <nlohmann/json.hpp>
#include <ostream>

namespace gob::ctl {

using Json = nlohmann::ordered_json;

// `indent` -1: on one line.
inline void print_json(std::ostream& out, const Json& json, int indent = 2) {
  out << json.dump(indent, ' ', false, Json::error_handler_t::replace) << '\n';
}

}  // namespace gob::ctl
