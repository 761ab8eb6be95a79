// One array in the memory of several nodes: each process fills its part, then all add up the whole.
//
// Start COUNT of them, on any nodes of the cluster, with RANK 0, 1, ... COUNT - 1:
//   hello_shared RANK COUNT
// GOB_SOCKET names the gobd of the node that a process is to use.
#include <cstdint>
#include <exception>
#include <gob.hpp>
#include <iostream>
#include <mutex>
#include <numeric>

constexpr std::int64_t kNumbers = 1'000'000;

bool run(int rank, int count) {
  gobelins::Connection gob;

  // One process creates the array and a total; the others wait until they exist.
  if (rank == 0) {
    gob.create("hello-numbers", kNumbers * sizeof(std::int64_t));
    gob.create("hello-total", sizeof(std::int64_t));
  }
  gob.barrier("hello-created", count);
  auto numbers_memory = gob.open("hello-numbers").map();
  auto total_memory = gob.open("hello-total").map();
  auto numbers = numbers_memory.as<std::int64_t>();
  std::int64_t& total = total_memory.as<std::int64_t>()[0];

  // Each fills its part: plain stores. The barrier orders them before everybody's reads.
  for (std::int64_t i = rank; i < kNumbers; i += count) numbers[i] = i;
  gob.barrier("hello-filled", count);

  // Each sees the numbers of all, and adds its sum to the total under a lock.
  const auto sum = std::accumulate(numbers.begin(), numbers.end(), std::int64_t{0});
  auto mutex = gob.mutex("hello-lock");
  {
    const std::lock_guard guard(mutex);
    total += sum;
  }
  gob.barrier("hello-added", count);
  const bool right = total == kNumbers * (kNumbers - 1) / 2 * count;
  std::cout << "rank " << rank << " on node " << gob.node_name(gob.node_id()) << ": sum " << sum
            << ", total " << total << (right ? ", right\n" : ", WRONG\n");
  if (gob.barrier("hello-done", count)) {  // true for one of them
    gob.remove("hello-numbers");
    gob.remove("hello-total");
  }
  return right;
}

int main(int argc, char** argv) try {
  if (argc != 3) throw std::invalid_argument("usage: hello_shared RANK COUNT");
  return run(std::stoi(argv[1]), std::stoi(argv[2])) ? 0 : 1;
} catch (const std::exception& error) {
  std::cerr << "hello_shared: " << error.what() << '\n';
  return 1;
}
