// A program to be moved. Keeps every byte of a piece of memory checkable and changes it round by
// round; one line a round to the file of its first argument: "ROUND PID wrong WORDS", flushed.
// What a wrong word was goes to FILE.wrong. Arguments: FILE MEBIBYTES [threads N | tree | churn |
// part | corner | sparse | avx | files]. Between rounds, it touches nothing as long as FILE.pause
// exists, and ends with 7 when FILE.stop does.
#include <fcntl.h>
#include <immintrin.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr std::uint64_t kStep = 0x9e3779b97f4a7c15;
constexpr std::size_t kPage = 4096;
constexpr std::size_t kParts = 64;

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

Memory make_sparse(std::size_t bytes) {
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) std::abort();
  Memory memory{static_cast<std::uint64_t*>(at), bytes / 8};
  for (std::size_t i = 0; i < memory.count; ++i)
    if (i % (std::size_t{1} << 17) < kPage / 8) memory.words[i] = word(i, 0);
  return memory;
}

std::string wrong_file;

// The first wrong word of a turn: the round whose word is there instead, or that it is zero.
void note(const Memory& memory, std::size_t i, std::uint64_t round) {
  FILE* file = std::fopen(wrong_file.c_str(), "a");
  if (file == nullptr) return;
  std::fprintf(file, "%p (page %zu): %s, of round %ld instead of %lu\n",
               static_cast<void*>(memory.words + i), i * 8 / kPage,
               memory.words[i] == 0 ? "zero" : "another word",
               static_cast<long>(memory.words[i] - i * kStep), round);
  std::fclose(file);
}

// What the kernel refused, or a child met. One thing that was wrong.
std::size_t note(const char* what, int value) {
  if (FILE* file = std::fopen(wrong_file.c_str(), "a"); file != nullptr) {
    std::fprintf(file, "%s: %d (%s)\n", what, value, std::strerror(value));
    std::fclose(file);
  }
  return 1;
}

// Checks and changes a part; how many words were wrong.
std::size_t turn(const Memory& memory, std::uint64_t round, std::size_t first, std::size_t last) {
  std::size_t wrong = 0;
  for (std::size_t i = first; i < last; ++i) {
    if (memory.words[i] != word(i, round) && ++wrong == 1) note(memory, i, round);
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
  // In the parts it was made of: for the kernel these are one mapping only once all memory is
  // there.
  const std::size_t parts[] = {0, bytes / 2, bytes / 2 + kPage, bytes};
  for (std::size_t i = 0; i < 3; ++i) {
    const std::size_t length = parts[i + 1] - parts[i];
    if (mremap(kept.words + parts[i] / 8, length, length, MREMAP_MAYMOVE | MREMAP_FIXED,
               static_cast<char*>(place) + parts[i]) == MAP_FAILED)
      return note("mremap", errno);
  }
  kept.words = static_cast<std::uint64_t*>(place);
  // A child sees all of it, and what it changes is its own.
  const pid_t child = fork();
  if (child == 0) _exit(turn(kept, round, 0, kept.count) == 0 ? 0 : 1);
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return note("fork or waitpid", errno);
  if (status != 0) wrong += note("status of the child", status);
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

// Memory the program itself may not read, but for the moment of this check.
std::size_t hidden(std::uint64_t round) {
  static const Memory memory = make(kPage);
  mprotect(memory.words, kPage, PROT_READ | PROT_WRITE);
  const std::size_t wrong = turn(memory, round, 0, memory.count);
  mprotect(memory.words, kPage, PROT_NONE);
  return wrong;
}

// Of every MiB one page has bytes; a word of another, each round elsewhere, must be zero.
std::size_t sparse(const Memory& memory, std::uint64_t round) {
  constexpr std::size_t kMebibyte = (std::size_t{1} << 20) / 8;
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < memory.count; i += kMebibyte) {
    wrong += turn(memory, round, i, i + kPage / 8);
    const std::size_t empty = i + (1 + round % 255) * kPage / 8;
    if (memory.words[empty] != 0) ++wrong;
  }
  return wrong;
}

// Keeps a value in vector registers for some milliseconds, in which the program may be moved.
__attribute__((target("avx"))) std::size_t avx(std::uint64_t round) {
  alignas(32) std::uint64_t in[8];
  alignas(32) std::uint64_t out[8] = {};
  for (std::size_t i = 0; i < 8; ++i) in[i] = word(i, round);
  std::uint64_t spins = 20'000'000;
  asm volatile(
      "vmovdqa (%1), %%ymm3\n\tvmovdqa 32(%1), %%ymm14\n"
      "1:\n\tdec %0\n\tjnz 1b\n\t"
      "vmovdqa %%ymm3, (%2)\n\tvmovdqa %%ymm14, 32(%2)\n\tvzeroupper"
      : "+r"(spins)
      : "r"(in), "r"(out)
      : "ymm3", "ymm14", "memory", "cc");
  return std::memcmp(in, out, sizeof in) == 0 ? 0 : 1;
}

// Open files: FILE.data, read on from where the descriptor stands and mapped, and FILE.rounds, into
// which each round is written at its place and read again.
class Files {
 public:
  Files(const std::string& file, std::size_t bytes) : count_(bytes / 8) {
    const int out = open((file + ".data").c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600);
    std::vector<std::uint64_t> words(kPage / 8);
    for (std::size_t i = 0; i < count_; i += words.size()) {
      for (std::size_t j = 0; j < words.size(); ++j) words[j] = word(i + j, 0);
      if (write(out, words.data(), kPage) != static_cast<ssize_t>(kPage)) std::abort();
    }
    close(out);
    data_ = open((file + ".data").c_str(), O_RDONLY);
    rounds_ = open((file + ".rounds").c_str(), O_RDWR | O_CREAT, 0600);
    void* at = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, data_, 0);
    if (data_ < 0 || rounds_ < 0 || at == MAP_FAILED) std::abort();
    mapped_ = static_cast<const std::uint64_t*>(at);
  }

  std::size_t check(std::uint64_t round) {
    std::size_t wrong = 0;
    std::vector<std::uint64_t> words(kPage);
    const ssize_t got = read(data_, words.data(), words.size() * 8);
    if (got <= 0 || got % 8 != 0) ++wrong;
    for (std::size_t i = 0; got > 0 && i < static_cast<std::size_t>(got) / 8; ++i, ++next_)
      wrong += words[i] != word(next_, 0);
    if (next_ == count_) next_ = static_cast<std::size_t>(lseek(data_, 0, SEEK_SET));
    const std::size_t first = round % kParts * (count_ / kParts);
    for (std::size_t i = first; i < first + count_ / kParts; ++i) wrong += mapped_[i] != word(i, 0);
    const auto place = static_cast<off_t>(round * 8);
    std::uint64_t back = 0;
    if (pwrite(rounds_, &round, 8, place) != 8 || pread(rounds_, &back, 8, place) != 8 ||
        back != round)
      ++wrong;
    return wrong;
  }

 private:
  const std::size_t count_;
  int data_ = -1, rounds_ = -1;
  const std::uint64_t* mapped_ = nullptr;
  std::size_t next_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const std::string file = argv[1];
  const std::size_t bytes = std::strtoull(argv[2], nullptr, 10) << 20;
  wrong_file = file + ".wrong";
  const std::string kind = argc > 3 ? argv[3] : "";
  const std::size_t threads = argc > 4 ? std::strtoull(argv[4], nullptr, 10) : 1;
  const int log = open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  const bool is_sparse = kind == "sparse";
  const Memory memory = is_sparse ? make_sparse(bytes) : make(bytes);
  std::unique_ptr<Files> files;
  if (kind == "files") files = std::make_unique<Files>(file, bytes);
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
    std::size_t last = threads == 1 ? memory.count : share;
    // "corner": the first 64th only, so that the rest is not touched before FILE.all exists.
    if (kind == "corner" && access((file + ".all").c_str(), F_OK) != 0)
      last = memory.count / kParts;
    std::size_t mine = 0;
    if (kind == "part") {
      // Every 64th page, others each round: most are not touched for long, and none comes with the
      // one before it.
      constexpr std::size_t kWords = kPage / sizeof(std::uint64_t);
      for (std::size_t i = round % kParts * kWords; i < memory.count; i += kParts * kWords)
        mine += turn(memory, round / kParts, i, i + kWords);
    } else {
      mine = is_sparse ? sparse(memory, round) : turn(memory, round, 0, last);
    }
    for (std::thread& worker : workers) worker.join();
    wrong += mine;
    wrong += hidden(round);
    if (files) wrong += files->check(round);
    if (kind == "churn") wrong += churn(bytes);
    if (kind == "avx" && __builtin_cpu_supports("avx")) wrong += avx(round);
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
    do {
      if (access((file + ".stop").c_str(), F_OK) == 0) return 7;
      usleep(5000);
    } while (access((file + ".pause").c_str(), F_OK) == 0);
  }
}
