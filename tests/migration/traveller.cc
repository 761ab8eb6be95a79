// A program to be moved. Keeps every byte of a piece of memory checkable and changes it round by
// round; one line a round to the file of its first argument: "ROUND PID wrong WORDS", flushed.
// Arguments: FILE MEBIBYTES [threads N | tree | churn]. Ends with 7 when FILE.stop exists.
#include <fcntl.h>
#include <immintrin.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr std::uint64_t kStep = 0x9e3779b97f4a7c15;
constexpr std::size_t kPage = 4096;

std::uint64_t word(std::size_t i, std::uint64_t round) { return i * kStep + round; }

struct Memory {
  std::uint64_t* words;
  std::size_t count;
};

Memory make(std::size_t bytes) {
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) std::abort();
  Memory memory{static_cast<std::uint64_t*>(at), bytes / 8};
  for (std::size_t i = 0; i < memory.count; ++i) memory.words[i] = word(i, 0);
  return memory;
}

// Checks and changes a part; how many words were wrong.
std::size_t turn(const Memory& memory, std::uint64_t round, std::size_t first, std::size_t last) {
  std::size_t wrong = 0;
  for (std::size_t i = first; i < last; ++i) {
    if (memory.words[i] != word(i, round)) ++wrong;
    memory.words[i] = word(i, round + 1);
  }
  return wrong;
}

// What a program may do to its address space while its memory still comes. Wrong words.
std::size_t churn(std::size_t bytes) {
  static Memory kept = make(bytes);
  static std::uint64_t round = 0;
  std::size_t wrong = 0;
  const std::size_t half = kept.count / 2;
  // Moved elsewhere as a whole, its bytes with it.
  void* const place = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  kept.words = static_cast<std::uint64_t*>(
      mremap(kept.words, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, place));
  if (kept.words == MAP_FAILED) return 1;
  // A child sees all of it, and what it changes is its own.
  const pid_t child = fork();
  if (child == 0) _exit(turn(kept, round, 0, kept.count) == 0 ? 0 : 1);
  int status = 0;
  if (waitpid(child, &status, 0) != child || status != 0) ++wrong;
  // Given back: zeros from then on, not what it was.
  madvise(kept.words, bytes / 2, MADV_DONTNEED);
  for (std::size_t i = 0; i < half; ++i) {
    if (kept.words[i] != 0) ++wrong;
    kept.words[i] = word(i, round + 1);
  }
  // A hole, then new memory in it.
  mprotect(kept.words + half, kPage, PROT_READ);
  if (kept.words[half] != word(half, round)) ++wrong;
  mprotect(kept.words + half, kPage, PROT_READ | PROT_WRITE);
  wrong += turn(kept, round, half, kept.count);
  munmap(kept.words + half, kPage);
  void* const again = mmap(kept.words + half, kPage, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  if (again == MAP_FAILED) return wrong + 1;
  for (std::size_t i = half; i < half + kPage / 8; ++i) {
    if (kept.words[i] != 0) ++wrong;
    kept.words[i] = word(i, round + 1);
  }
  ++round;
  return wrong;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const std::string file = argv[1];
  const std::size_t bytes = std::strtoull(argv[2], nullptr, 10) << 20;
  const std::string kind = argc > 3 ? argv[3] : "";
  const std::size_t threads = argc > 4 ? std::strtoull(argv[4], nullptr, 10) : 1;
  const int log = open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  const Memory memory = make(bytes);
  // In vector registers throughout: part of the context.
  const __m128i seed = _mm_set1_epi64x(static_cast<long long>(kStep));
  int to_child[2] = {-1, -1};
  int from_child[2] = {-1, -1};
  if (kind == "tree") {
    if (pipe(to_child) != 0 || pipe(from_child) != 0) return 2;
    if (fork() == 0) {  // counts wrong words of its own copy whenever it is told a round
      close(to_child[1]);
      for (std::uint64_t round = 0; read(to_child[0], &round, sizeof round) == sizeof round;) {
        const std::size_t wrong = turn(memory, round, 0, memory.count);
        if (write(from_child[1], &wrong, sizeof wrong) != sizeof wrong) _exit(1);
      }
      _exit(0);
    }
    close(to_child[0]);
    close(from_child[1]);
  }
  std::mutex mutex;
  for (std::uint64_t round = 0;; ++round) {
    std::size_t wrong = 0;
    std::vector<std::thread> workers;
    const std::size_t share = memory.count / threads;
    for (std::size_t i = 1; i < threads; ++i)
      workers.emplace_back([&, i] {
        const std::size_t bad = turn(memory, round, i * share, (i + 1) * share);
        const std::lock_guard<std::mutex> lock(mutex);
        wrong += bad;
      });
    const std::size_t mine = turn(memory, round, 0, threads == 1 ? memory.count : share);
    for (std::thread& worker : workers) worker.join();
    wrong += mine;
    if (kind == "churn") wrong += churn(bytes);
    if (kind == "tree") {
      std::size_t theirs = 0;
      if (write(to_child[1], &round, sizeof round) != sizeof round ||
          read(from_child[0], &theirs, sizeof theirs) != sizeof theirs)
        return 3;
      wrong += theirs;
    }
    if (_mm_cvtsi128_si64(seed) != static_cast<long long>(kStep)) ++wrong;
    char line[96];
    const int length =
        std::snprintf(line, sizeof line, "%lu %d wrong %zu\n", round, getpid(), wrong);
    if (write(log, line, static_cast<std::size_t>(length)) != length) return 4;
    if (access((file + ".stop").c_str(), F_OK) == 0) return 7;
    usleep(5000);
  }
}
