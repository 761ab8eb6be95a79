#include "libgob/base/usage.h"

#include <algorithm>
#include <numeric>
#include <string_view>
#include <utility>
#include <vector>

namespace gob {
namespace {

// Letters to insert, delete or replace to make one word of the other (Levenshtein).
std::size_t distance(std::string_view from, std::string_view to) {
  std::vector<std::size_t> row(to.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (std::size_t i = 1; i <= from.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= to.size(); ++j) {
      const std::size_t replaced = diagonal + (from[i - 1] == to[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({replaced, row[j] + 1, row[j - 1] + 1}));
    }
  }
  return row[to.size()];
}

// The words that may stand where `word` does.
std::vector<std::string> known_words(const CLI::App& app, const std::string& word) {
  std::vector<std::string> words;
  if (word.starts_with('-')) {
    for (const CLI::App* at = &app; at != nullptr; at = at->get_parent())
      for (const CLI::Option* option : at->get_options())
        for (const std::string& name : option->get_lnames()) words.push_back("--" + name);
  } else {
    for (const CLI::App* command : app.get_subcommands({}))
      if (!command->get_group().empty()) words.push_back(command->get_name());
  }
  return words;
}

// Empty if nothing is near: a third of the letters may be wrong, or the end may be missing.
std::string nearest(const std::vector<std::string>& words, const std::string& word) {
  const auto far = [&](const std::string& known) {
    return word.size() > 1 && known.starts_with(word) ? 0 : distance(word, known);
  };
  const auto best = std::ranges::min_element(words, {}, far);
  return best != words.end() && far(*best) <= std::max<std::size_t>(word.size() / 3, 1) ? *best
                                                                                        : "";
}

std::string unexpected(const CLI::App& app, const std::string& argument) {
  const std::string word = argument.substr(0, argument.find('='));
  const std::vector<std::string> words = known_words(app, word);
  const bool option = word.starts_with('-');
  const bool takes_words = std::ranges::any_of(
      app.get_options(), [](const CLI::Option* each) { return each->get_positional(); });
  std::string text = option                         ? "there is no option '" + word + "'"
                     : words.empty() || takes_words ? "'" + word + "' is one argument too many"
                                                    : "there is no command '" + word + "'";
  if (const std::string meant = nearest(words, word); !meant.empty() && (option || !takes_words))
    text += "; was '" + meant + "' meant?";
  return text;
}

}  // namespace

void say_usage_error(const CLI::App& app, const std::string& program, const CLI::ParseError& error,
                     std::ostream& out) {
  // The innermost subcommand knows best what is missing.
  const CLI::App* inner = &app;
  std::string name = program;
  while (!inner->get_subcommands().empty()) {
    inner = inner->get_subcommands().front();
    name += " " + inner->get_name();
  }
  std::string text = error.what();
  // A command that does not exist may be found missing before it is found too many.
  const bool lacks = dynamic_cast<const CLI::RequiredError*>(&error) != nullptr;
  const bool exceeds = dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr;
  if (const auto extras = app.remaining(true); (lacks || exceeds) && !extras.empty())
    text = unexpected(*inner, extras.front());
  out << name << ": " << text << "\n\"" << name << " --help\" shows how it is used.\n";
}

}  // namespace gob
