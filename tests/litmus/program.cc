#include "tests/litmus/program.h"

#include <algorithm>
#include <sstream>
#include <stdexcept>

namespace gob::litmus {
namespace {

constexpr char kFirstVariable = 'x';

[[noreturn]] void reject(const std::string& name, const std::string& word) {
  throw std::invalid_argument("litmus program " + name + ": cannot read '" + word + "'");
}

std::uint8_t digit(const std::string& name, const std::string& word, std::size_t at) {
  if (at + 1 != word.size() || word[at] < '0' || word[at] > '9') reject(name, word);
  return static_cast<std::uint8_t>(word[at] - '0');
}

std::uint8_t variable(const std::string& name, const std::string& word, std::size_t at) {
  if (at >= word.size() || word[at] < kFirstVariable || word[at] > 'z') reject(name, word);
  return static_cast<std::uint8_t>(word[at] - kFirstVariable);
}

}  // namespace

std::vector<unsigned> Program::watched() const {
  std::vector<unsigned> stores(variables, 0);
  for (const auto& thread : threads)
    for (const Access& access : thread)
      if (access.kind == Access::Kind::kStore) ++stores[access.variable];
  std::vector<unsigned> result;
  for (unsigned v = 0; v < variables; ++v)
    if (stores[v] > 1) result.push_back(v);
  return result;
}

std::string Program::describe(OutcomeCode outcome) const {
  std::string words;
  unsigned place = 0;
  const auto put = [&](const std::string& what) {
    words += (words.empty() ? "" : " ") + what + "=" + std::to_string((outcome >> (2 * place)) & 3);
    ++place;
  };
  for (unsigned r = 0; r < registers; ++r) put("r" + std::to_string(r));
  for (const unsigned v : watched())
    put(std::string(1, static_cast<char>(kFirstVariable + static_cast<int>(v))));
  return words;
}

Program Program::fenced() const {
  Program result = *this;
  for (auto& thread : result.threads) {
    std::vector<Access> with_fences;
    for (const Access& access : thread) {
      if (!with_fences.empty()) with_fences.push_back({});
      with_fences.push_back(access);
    }
    thread = std::move(with_fences);
  }
  return result;
}

Program parse_program(const std::string& name, const std::string& text) {
  Program program{name, text, {{}}, 0, 0};
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (word == "|") {
      program.threads.emplace_back();
      continue;
    }
    Access access;
    if (word.starts_with('r')) {
      const std::size_t equals = word.find('=');
      if (equals == std::string::npos) reject(name, word);
      access.kind = Access::Kind::kLoad;
      access.value = digit(name, word.substr(0, equals), 1);
      access.variable = variable(name, word, equals + 1);
      program.registers = std::max(program.registers, access.value + 1u);
    } else {
      access.kind = Access::Kind::kStore;
      access.variable = variable(name, word, 0);
      if (word.size() != 3 || word[1] != '=') reject(name, word);
      access.value = digit(name, word, 2);
      if (access.value < 1 || access.value > 3) reject(name, word);
    }
    program.variables = std::max(program.variables, access.variable + 1u);
    program.threads.back().push_back(access);
  }
  const auto too_many_loads = [](const std::vector<Access>& thread) {
    return std::ranges::count(thread, Access::Kind::kLoad, &Access::kind) > kMaxLoads;
  };
  if (program.threads.size() > kMaxThreads ||
      program.registers + program.watched().size() > kMaxWatched ||
      std::ranges::any_of(program.threads, too_many_loads))
    reject(name, text);
  return program;
}

const std::vector<Program>& catalogue() {
  static const std::vector<Program> all = {
      parse_program("SB", "x=1 r0=y | y=1 r1=x"),
      parse_program("MP", "x=1 y=1 | r0=y r1=x"),
      parse_program("LB", "r0=x y=1 | r1=y x=1"),
      parse_program("2+2W", "x=1 y=2 | y=1 x=2"),
      parse_program("R", "x=1 y=1 | y=2 r0=x"),
      parse_program("S", "x=2 y=1 | r0=y x=1"),
      parse_program("CoRR", "x=1 | r0=x r1=x"),
      parse_program("CoWR", "x=1 r0=x | x=2"),
      parse_program("WRC", "x=1 | r0=x y=1 | r1=y r2=x"),
      parse_program("IRIW", "x=1 | y=1 | r0=x r1=y | r2=y r3=x"),
  };
  return all;
}

}  // namespace gob::litmus
