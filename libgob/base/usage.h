// What is said of a command line that cannot be taken: where it went wrong, what may have been
// meant, and where to read on. The same for every program.
#pragma once

#include <CLI/CLI.hpp>
#include <ostream>
#include <string>

namespace gob {

// `app` has thrown `error` (not one of CLI::Success) while it parsed; `program`: its name.
void say_usage_error(const CLI::App& app, const std::string& program, const CLI::ParseError& error,
                     std::ostream& out);

}  // namespace gob
