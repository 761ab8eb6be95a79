#include "libgob/base/completion.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <vector>

namespace gob {
namespace {

struct Flag {
  std::string long_name;   // without dashes
  std::string short_name;  // without dash; may be empty
  std::string description;
  bool takes_value = false;
};

// What comes in place of an argument.
enum class Word { kNothing, kContainer, kNode, kMigrant, kFile, kFolder };

struct Entry {
  std::string path;  // words before it: "", "cluster", "cluster up"
  std::string description;
  std::vector<Flag> flags;
  std::vector<std::pair<std::string, std::string>> subcommands;  // name, description
  Word positional = Word::kNothing;
};

Word value_of(std::string_view flag) {
  if (flag == "node") return Word::kNode;
  if (flag == "socket" || flag == "gobd" || flag == "file" || flag == "criu") return Word::kFile;
  if (flag == "dir" || flag == "tree" || flag == "results" || flag == "cluster-dir")
    return Word::kFolder;
  return Word::kNothing;
}

// `inherited`: options of the parent that the subcommand takes, too.
void collect(const CLI::App& app, const std::string& path, const std::vector<Flag>& inherited,
             std::vector<Entry>& out) {
  Entry entry;
  entry.path = path;
  entry.description = app.get_description();
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional()) {
      // A new name cannot be known before.
      if (app.get_name() == "create" || app.get_name() == "attach") continue;
      if (option->get_name(true) == "NODE") entry.positional = Word::kNode;
      if (option->get_name(true) == "NAME") entry.positional = Word::kContainer;
      if (option->get_name(true) == "MIGRANT") entry.positional = Word::kMigrant;
      continue;
    }
    if (option->get_lnames().empty()) continue;
    entry.flags.push_back({option->get_lnames().front(),
                           option->get_snames().empty() ? "" : option->get_snames().front(),
                           option->get_description(), option->get_items_expected_max() != 0});
  }
  if (app.get_fallthrough())
    for (const Flag& flag : inherited)
      if (std::ranges::find(entry.flags, flag.long_name, &Flag::long_name) == entry.flags.end())
        entry.flags.push_back(flag);
  std::vector<const CLI::App*> subs =
      app.get_subcommands([](const CLI::App* sub) { return !sub->get_group().empty(); });
  for (const CLI::App* sub : subs)
    entry.subcommands.emplace_back(sub->get_name(), sub->get_description());
  out.push_back(entry);
  for (const CLI::App* sub : subs)
    collect(*sub, path.empty() ? sub->get_name() : path + " " + sub->get_name(), entry.flags, out);
}

constexpr const char* kContainers = "gobctl ls --quiet 2>/dev/null";
constexpr const char* kMigrants = "gobctl ps --quiet 2>/dev/null";
constexpr const char* kNodes = "gobctl nodes --quiet 2>/dev/null";

// All flags whose value is such a word, as a pattern of the shell.
std::string flags_with(Word word, const std::vector<Entry>& entries) {
  std::set<std::string> names;
  for (const Entry& entry : entries)
    for (const Flag& flag : entry.flags)
      if (flag.takes_value && value_of(flag.long_name) == word) names.insert("--" + flag.long_name);
  std::string pattern;
  for (const std::string& name : names) pattern += (pattern.empty() ? "" : "|") + name;
  return pattern;
}

void print_bash(const std::string& program, const std::vector<Entry>& entries, std::ostream& out) {
  out << "# bash completion for " << program << "\n_" << program
      << "() {\n"
         "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} path='' word\n"
         "  COMPREPLY=()\n"
         "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
         "    case \"$path $word\" in\n";
  for (const Entry& entry : entries)
    if (!entry.path.empty()) {
      const auto space = entry.path.rfind(' ');
      const std::string before = space == std::string::npos ? "" : entry.path.substr(0, space);
      const std::string last =
          space == std::string::npos ? entry.path : entry.path.substr(space + 1);
      out << "      '" << before << " " << last << "') path='" << entry.path << "' ;;\n";
    }
  out << "    esac\n  done\n"
         "  case \"$prev\" in\n";
  const auto complete_value = [&](Word word, const std::string& compgen) {
    const std::string flags = flags_with(word, entries);
    if (!flags.empty())
      out << "    " << flags << ") mapfile -t COMPREPLY < <(compgen " << compgen
          << " -- \"$cur\"); return ;;\n";
  };
  complete_value(Word::kNode, std::string("-W \"$(") + kNodes + ")\"");
  complete_value(Word::kFile, "-f");
  complete_value(Word::kFolder, "-d");
  out << "  esac\n"
         "  local words='' names=''\n"
         "  case \"$path\" in\n";
  for (const Entry& entry : entries) {
    out << "    '" << entry.path << "') words='";
    for (const auto& [name, description] : entry.subcommands) out << name << ' ';
    for (const Flag& flag : entry.flags) out << "--" << flag.long_name << ' ';
    out << "'";
    if (entry.positional == Word::kContainer) out << "; names='containers'";
    if (entry.positional == Word::kNode) out << "; names='nodes'";
    if (entry.positional == Word::kMigrant) out << "; names='migrants'";
    out << " ;;\n";
  }
  out << "  esac\n"
         "  if [[ $cur != -* ]]; then\n"
         "    case \"$names\" in\n"
      << "      containers) words+=\" $(" << kContainers << ")\" ;;\n"
      << "      nodes) words+=\" $(" << kNodes << ")\" ;;\n"
      << "      migrants) words+=\" $(" << kMigrants << ")\" ;;\n"
      << "    esac\n"
         "  fi\n"
         "  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
         "}\n"
      << "complete -F _" << program << " " << program << "\n";
}

// Inside single quotes, for zsh's _arguments also without its brackets and colons.
std::string for_quotes(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\'')
      out += "'\\''";
    else if (c == '[' || c == ']' || c == ':')
      out += std::string("\\") + c;
    else
      out += c;
  }
  return out;
}

std::string identifier(const std::string& program, std::string path) {
  for (char& c : path)
    if (c == ' ') c = '_';
  return "_" + program + (path.empty() ? "" : "_" + path);
}

std::string zsh_action(const std::string& program, Word word) {
  switch (word) {
    case Word::kNothing:
      return " ";
    case Word::kContainer:
      return "_" + program + "_containers";
    case Word::kNode:
      return "_" + program + "_nodes";
    case Word::kMigrant:
      return "_" + program + "_migrants";
    case Word::kFile:
      return "_files";
    case Word::kFolder:
      return "_files -/";
  }
  return " ";
}

void print_zsh(const std::string& program, const std::vector<Entry>& entries, std::ostream& out) {
  out << "#compdef " << program << "\n# zsh completion for " << program << "\n_" << program
      << "_containers() { compadd -- ${(f)\"$(" << kContainers << ")\"} }\n_" << program
      << "_nodes() { compadd -- ${(f)\"$(" << kNodes << ")\"} }\n_" << program
      << "_migrants() { compadd -- ${(f)\"$(" << kMigrants << ")\"} }\n";
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    out << identifier(program, entry->path) << "() {\n";
    if (!entry->subcommands.empty()) {
      out << "  local -a subcommands=(\n";
      for (const auto& [name, description] : entry->subcommands)
        out << "    '" << name << ":" << for_quotes(description) << "'\n";
      out << "  )\n  local state line\n";
    }
    out << "  _arguments";
    if (!entry->subcommands.empty()) out << " -C";
    for (const Flag& flag : entry->flags) {
      const std::string text =
          "[" + for_quotes(flag.description) + "]" +
          (flag.takes_value ? ":value:" + zsh_action(program, value_of(flag.long_name)) : "");
      out << " \\\n    '--" << flag.long_name << text << "'";
    }
    if (entry->positional != Word::kNothing)
      out << " \\\n    '*:name:" << zsh_action(program, entry->positional) << "'";
    if (!entry->subcommands.empty())
      out << " \\\n    '1:subcommand:->subcommand' '*::argument:->arguments'\n"
             "  case $state in\n"
             "    subcommand) _describe subcommand subcommands ;;\n"
             "    arguments) (( $+functions["
          << identifier(program, entry->path) << "_$line[1]] )) && "
          << identifier(program, entry->path) << "_$line[1] ;;\n  esac";
    out << "\n}\n";
  }
  const std::string function = "_" + program;
  out << "if [[ $funcstack[1] == " << function << " ]]; then " << function
      << " \"$@\"; else compdef " << function << " " << program << "; fi\n";
}

void print_fish(const std::string& program, const std::vector<Entry>& entries, std::ostream& out) {
  out << "# fish completion for " << program << "\nfunction __" << program
      << "_at --description 'the subcommand being completed is this one'\n"
         "  set -l words (commandline -opc)\n"
         "  set -l path\n"
         "  for word in $words[2..-1]\n"
         "    switch \"$path $word\"\n";
  for (const Entry& entry : entries)
    if (!entry.path.empty()) {
      const auto space = entry.path.rfind(' ');
      const std::string before = space == std::string::npos ? "" : entry.path.substr(0, space);
      out << "      case '" << before << " "
          << (space == std::string::npos ? entry.path : entry.path.substr(space + 1)) << "'\n"
          << "        set path '" << entry.path << "'\n";
    }
  out << "    end\n  end\n  test \"$path\" = \"$argv[1]\"\nend\n"
      << "complete -c " << program << " -f\n";
  const auto action = [](Word word) -> std::string {
    switch (word) {
      case Word::kNothing:
        return "";
      case Word::kContainer:
        return std::string(" -a '(") + kContainers + ")'";
      case Word::kNode:
        return std::string(" -a '(") + kNodes + ")'";
      case Word::kMigrant:
        return std::string(" -a '(") + kMigrants + ")'";
      case Word::kFile:
        return " -F";
      case Word::kFolder:
        return " -a '(__fish_complete_directories)'";
    }
    return "";
  };
  for (const Entry& entry : entries) {
    const std::string at =
        "complete -c " + program + " -n \"__" + program + "_at '" + entry.path + "'\"";
    for (const auto& [name, description] : entry.subcommands)
      out << at << " -a " << name << " -d '" << for_quotes(description) << "'\n";
    for (const Flag& flag : entry.flags) {
      out << at << " -l " << flag.long_name;
      if (!flag.short_name.empty()) out << " -s " << flag.short_name;
      if (flag.takes_value) out << " -r" << action(value_of(flag.long_name));
      out << " -d '" << for_quotes(flag.description) << "'\n";
    }
    if (entry.positional != Word::kNothing) out << at << action(entry.positional) << '\n';
  }
}

}  // namespace

void print_completion(const CLI::App& app, const std::string& program, const std::string& shell,
                      std::ostream& out) {
  std::vector<Entry> entries;
  collect(app, "", {}, entries);
  if (shell == "bash")
    print_bash(program, entries, out);
  else if (shell == "zsh")
    print_zsh(program, entries, out);
  else
    print_fish(program, entries, out);
}

}  // namespace gob
