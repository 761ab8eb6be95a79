// gobctl: parses, calls, prints. One thread.
#include <unistd.h>

#include <iostream>

#include "gobctl/command_line.h"
#include "gobctl/exit_code.h"
#include "libgob/base/completion.h"
#include "libgob/base/usage.h"

namespace {

using namespace gob;
using namespace gob::ctl;

int run(int argc, char** argv) {
  CommandLine line;
  try {
    line.app().parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help, --version
    return line.app().exit(success, std::cout, std::cerr);
  } catch (const CLI::ParseError& error) {
    say_usage_error(line.app(), "gobctl", error, std::cerr);
    return kExitUsage;
  }
  const bool completion = !line.arguments().shell.empty();
  if (line.chosen() == nullptr && !completion) {
    std::cerr << line.app().help();  // of the subcommand that lacks its own, if there is one
    return kExitUsage;
  }
  Io io{std::cout, std::cerr, Paint(colours_wanted(STDOUT_FILENO)), 0};
  Status status;
  if (completion)
    print_completion(line.app(), "gobctl", line.arguments().shell, std::cout);
  else
    status = line.chosen()->run(line.arguments(), io);
  std::cout.flush();
  if (!status) {
    std::cerr << "gobctl: " << status.error().message() << '\n';
    return io.exit_status != 0 ? io.exit_status : exit_code_of(status.error());
  }
  if (!std::cout) {
    std::cerr << "gobctl: the output could not be written\n";
    return kExitFailed;
  }
  return io.exit_status;
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv); }
