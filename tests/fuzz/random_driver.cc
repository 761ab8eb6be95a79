// Runs LLVMFuzzerTestOneInput on the seeds of a corpus and on random changes of them, the same ones
// in every run: for compilers without libFuzzer, and for regressions that have to repeat.
// usage: NAME_random CORPUS_DIR ROUNDS
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Bytes = std::vector<std::uint8_t>;

class Random {  // splitmix64
 public:
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  std::size_t below(std::size_t bound) { return bound == 0 ? 0 : next() % bound; }

 private:
  std::uint64_t state_ = 1;
};

std::vector<Bytes> read_corpus(const std::string& dir) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(dir)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::vector<Bytes> corpus;
  for (const auto& file : files) {
    std::ifstream in(file, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  return corpus;
}

void mutate(Bytes& input, const std::vector<Bytes>& corpus, Random& random) {
  static constexpr std::uint8_t kEdges[] = {0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff};
  const std::size_t at = random.below(input.size() + 1);
  const auto place = input.begin() + static_cast<std::ptrdiff_t>(at);
  switch (random.below(6)) {
    case 0:  // flip a bit
      if (at < input.size()) *place ^= static_cast<std::uint8_t>(1u << random.below(8));
      break;
    case 1:  // an edge value
      if (at < input.size()) *place = kEdges[random.below(std::size(kEdges))];
      break;
    case 2:  // insert
      input.insert(place, static_cast<std::uint8_t>(random.next()));
      break;
    case 3:  // remove a stretch
      input.erase(place, place + static_cast<std::ptrdiff_t>(
                                     std::min(random.below(16), input.size() - at)));
      break;
    case 4: {  // another seed from here on
      const Bytes& other = corpus[random.below(corpus.size())];
      input.erase(place, input.end());
      input.insert(input.end(), other.begin(), other.end());
      break;
    }
    default:  // random bytes
      for (std::size_t i = random.below(32); i > 0; --i) {
        input.push_back(static_cast<std::uint8_t>(random.next()));
      }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s CORPUS_DIR ROUNDS\n", argv[0]);
    return 2;
  }
  const std::vector<Bytes> corpus = read_corpus(argv[1]);
  if (corpus.empty()) {
    std::fprintf(stderr, "%s: no seeds in %s\n", argv[0], argv[1]);
    return 2;
  }
  for (const Bytes& seed : corpus) LLVMFuzzerTestOneInput(seed.data(), seed.size());
  Random random;
  const long rounds = std::strtol(argv[2], nullptr, 10);
  for (long round = 0; round < rounds; ++round) {
    Bytes input = corpus[random.below(corpus.size())];
    for (std::size_t i = 1 + random.below(8); i > 0; --i) mutate(input, corpus, random);
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::printf("%zu seeds, %ld random inputs\n", corpus.size(), rounds);
  return 0;
}
