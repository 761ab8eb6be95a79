#include "gobbench/perftest.h"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <sstream>
#include <thread>
#include <vector>

#include "gobbench/process.h"
#include "libgob/base/ids.h"

namespace gob::bench {
namespace {

constexpr std::chrono::seconds kPatience{60};
constexpr std::chrono::milliseconds kRetry{200};
constexpr int kTries = 50;

// Runs the tool against itself; returns the numbers of its line of results.
Result<std::vector<double>> run(const std::string& tool, const std::string& device,
                                unsigned iterations) {
  static unsigned runs = 0;
  const unsigned port = 18000 + (static_cast<unsigned>(::getpid()) * 16 + runs++) % 10000;
  const std::vector<std::string> arguments = {tool, "-F",
                                              "-d", device,
                                              "-s", std::to_string(kPageSize),
                                              "-n", std::to_string(iterations),
                                              "-p", std::to_string(port)};
  SpawnOptions server;
  server.argv = arguments;
  const UniqueFd null(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  server.stdout_fd = server.stderr_fd = null.get();
  auto serving = Process::spawn(server);
  if (!serving) return serving.error();
  SpawnOptions client;
  client.argv = arguments;
  client.argv.push_back("127.0.0.1");
  // A client that comes before its server listens gives up at once.
  Result<std::string> output = make_error(ErrorCode::kTimedOut, tool + " never began");
  for (int i = 0; i < kTries && !output; ++i) {
    if (const std::string ended = serving->ending(); !ended.empty()) {
      return make_error(ErrorCode::kSystem, tool + " as a server " + ended);
    }
    if (i > 0) std::this_thread::sleep_for(kRetry);
    output = output_of(client);
  }
  if (!output) return output.error();
  static_cast<void>(serving->wait(kPatience));

  std::istringstream lines(*output);
  std::string line;
  std::vector<double> numbers;
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    std::vector<double> found;
    double value;
    while (words >> value) found.push_back(value);
    if (found.size() >= 4 && found[0] == static_cast<double>(kPageSize)) numbers = found;
  }
  if (numbers.empty()) {
    return make_error(ErrorCode::kSystem, tool + " printed no result:\n" + *output);
  }
  return numbers;
}

}  // namespace

// #bytes #iterations t_min t_max t_typical ...
Result<double> perftest_latency_us(const std::string& tool, const std::string& device,
                                   unsigned iterations) {
  const auto numbers = run(tool, device, iterations);
  if (!numbers) return numbers.error();
  if (numbers->size() < 5) return make_error(ErrorCode::kSystem, tool + ": too few columns");
  return (*numbers)[4];
}

// #bytes #iterations peak average ...
Result<double> perftest_bandwidth(const std::string& tool, const std::string& device,
                                  unsigned iterations) {
  const auto numbers = run(tool, device, iterations);
  if (!numbers) return numbers.error();
  return (*numbers)[3];
}

}  // namespace gob::bench
