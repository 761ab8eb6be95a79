// Completion scripts for shells, made from the command line itself so that they never miss an
// option. Pure functions but for the stream.
#pragma once

#include <CLI/CLI.hpp>
#include <ostream>
#include <string>

namespace gob::ctl {

// `shell`: bash, zsh or fish.
void print_completion(const CLI::App& app, const std::string& shell, std::ostream& out);

}  // namespace gob::ctl
