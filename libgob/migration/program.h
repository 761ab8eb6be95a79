// Runs small programs of the system, and takes what they say. Any thread.
#pragma once

#include <string>
#include <vector>

#include "libgob/base/result.h"

namespace gob::migration {

// What it wrote to both streams. Waits 10 s at most; an error if its exit status is not 0, with its
// own words.
Result<std::string> run_program(const std::vector<std::string>& argv);

}  // namespace gob::migration
