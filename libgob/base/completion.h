// Completion scripts for shells, made from the command line itself so that they never miss an
// option. Pure functions but for the stream.
#pragma once

#include <CLI/CLI.hpp>
#include <ostream>
#include <string>

namespace gob {

// `program`: its name; `shell`: bash, zsh or fish. What is completed with names of containers or
// nodes asks gobctl for them.
void print_completion(const CLI::App& app, const std::string& program, const std::string& shell,
                      std::ostream& out);

}  // namespace gob
