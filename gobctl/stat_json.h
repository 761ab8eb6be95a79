// Answers of gobd as JSON; the keys are documented in gobctl(1) and are kept. Pure functions.
#pragma once

#include "gobctl/json.h"
#include "libgob/runtime/control.pb.h"

namespace gob::ctl {

Json to_json(const control::Container& container);
// "memory", "file" or "tree".
const char* kind_of(const control::Container& container);
Json to_json(const control::StatReply& stat, const control::HelloReply& hello);

}  // namespace gob::ctl
