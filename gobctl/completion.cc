#include "gobctl/completion.h"

#include <string_view>
#include <vector>

namespace gob::ctl {
namespace {

struct Flag {
  std::string long_name;   // without dashes
  std::string short_name;  // without dash; may be empty
  std::string description;
  bool takes_value = false;
};

// What comes in place of an argument.
enum class Word { kNothing, kContainer, kNode, kFile, kFolder };

struct Entry {
  std::string path;  // words before it: "", "cluster", "cluster up"
  std::string description;
  std::vector<Flag> flags;
  std::vector<std::pair<std::string, std::string>> subcommands;  // name, description
  Word positional = Word::kNothing;
};

Word value_of(std::string_view flag) {
  if (flag == "node") return Word::kNode;
  if (flag == "socket" || flag == "gobd" || flag == "file") return Word::kFile;
  if (flag == "dir" || flag == "tree") return Word::kFolder;
  return Word::kNothing;
}

void collect(const CLI::App& app, const std::string& path, std::vector<Entry>& out) {
  Entry entry;
  entry.path = path;
  entry.description = app.get_description();
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional()) {
      const bool node = option->get_name(true) == "NODE";
      // A new name cannot be known before.
      if (app.get_name() != "create" && app.get_name() != "attach")
        entry.positional = node ? Word::kNode : Word::kContainer;
      continue;
    }
    if (option->get_lnames().empty()) continue;
    entry.flags.push_back({option->get_lnames().front(),
                           option->get_snames().empty() ? "" : option->get_snames().front(),
                           option->get_description(), option->get_items_expected_max() != 0});
  }
  std::vector<const CLI::App*> subs =
      app.get_subcommands([](const CLI::App* sub) { return !sub->get_group().empty(); });
  for (const CLI::App* sub : subs)
    entry.subcommands.emplace_back(sub->get_name(), sub->get_description());
  out.push_back(entry);
  for (const CLI::App* sub : subs)
    collect(*sub, path.empty() ? sub->get_name() : path + " " + sub->get_name(), out);
}

constexpr const char* kContainers = "gobctl ls --quiet 2>/dev/null";
constexpr const char* kNodes = "gobctl nodes --quiet 2>/dev/null";

void print_bash(const std::vector<Entry>& entries, std::ostream& out) {
  out << "# bash completion for gobctl\n"
         "_gobctl() {\n"
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
         "  case \"$prev\" in\n"
      << "    --node) mapfile -t COMPREPLY < <(compgen -W \"$(" << kNodes
      << ")\" -- \"$cur\"); return ;;\n"
         "    --socket|--gobd|--file) mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); return ;;\n"
         "    --dir|--tree) mapfile -t COMPREPLY < <(compgen -d -- \"$cur\"); return ;;\n"
         "  esac\n"
         "  local words='' names=''\n"
         "  case \"$path\" in\n";
  for (const Entry& entry : entries) {
    out << "    '" << entry.path << "') words='";
    for (const auto& [name, description] : entry.subcommands) out << name << ' ';
    for (const Flag& flag : entry.flags) out << "--" << flag.long_name << ' ';
    out << "'";
    if (entry.positional == Word::kContainer) out << "; names='containers'";
    if (entry.positional == Word::kNode) out << "; names='nodes'";
    out << " ;;\n";
  }
  out << "  esac\n"
         "  if [[ $cur != -* ]]; then\n"
         "    case \"$names\" in\n"
      << "      containers) words+=\" $(" << kContainers << ")\" ;;\n"
      << "      nodes) words+=\" $(" << kNodes << ")\" ;;\n"
      << "    esac\n"
         "  fi\n"
         "  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
         "}\n"
         "complete -F _gobctl gobctl\n";
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

std::string identifier(std::string path) {
  for (char& c : path)
    if (c == ' ') c = '_';
  return path.empty() ? "_gobctl" : "_gobctl_" + path;
}

const char* zsh_action(Word word) {
  switch (word) {
    case Word::kNothing:
      return " ";
    case Word::kContainer:
      return "_gobctl_containers";
    case Word::kNode:
      return "_gobctl_nodes";
    case Word::kFile:
      return "_files";
    case Word::kFolder:
      return "_files -/";
  }
  return " ";
}

void print_zsh(const std::vector<Entry>& entries, std::ostream& out) {
  out << "#compdef gobctl\n"
         "# zsh completion for gobctl\n"
      << "_gobctl_containers() { compadd -- ${(f)\"$(" << kContainers << ")\"} }\n"
      << "_gobctl_nodes() { compadd -- ${(f)\"$(" << kNodes << ")\"} }\n";
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    out << identifier(entry->path) << "() {\n";
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
          (flag.takes_value ? ":value:" + std::string(zsh_action(value_of(flag.long_name))) : "");
      out << " \\\n    '--" << flag.long_name << text << "'";
    }
    if (entry->positional != Word::kNothing)
      out << " \\\n    '*:name:" << zsh_action(entry->positional) << "'";
    if (!entry->subcommands.empty())
      out << " \\\n    '1:subcommand:->subcommand' '*::argument:->arguments'\n"
             "  case $state in\n"
             "    subcommand) _describe subcommand subcommands ;;\n"
             "    arguments) (( $+functions["
          << identifier(entry->path) << "_$line[1]] )) && " << identifier(entry->path)
          << "_$line[1] ;;\n  esac";
    out << "\n}\n";
  }
  out << "if [[ $funcstack[1] == _gobctl ]]; then _gobctl \"$@\"; else compdef _gobctl gobctl; "
         "fi\n";
}

void print_fish(const std::vector<Entry>& entries, std::ostream& out) {
  out << "# fish completion for gobctl\n"
         "function __gobctl_at --description 'the subcommand being completed is this one'\n"
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
         "complete -c gobctl -f\n";
  const auto action = [](Word word) -> std::string {
    switch (word) {
      case Word::kNothing:
        return "";
      case Word::kContainer:
        return std::string(" -a '(") + kContainers + ")'";
      case Word::kNode:
        return std::string(" -a '(") + kNodes + ")'";
      case Word::kFile:
        return " -F";
      case Word::kFolder:
        return " -a '(__fish_complete_directories)'";
    }
    return "";
  };
  for (const Entry& entry : entries) {
    const std::string at = "complete -c gobctl -n \"__gobctl_at '" + entry.path + "'\"";
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

void print_completion(const CLI::App& app, const std::string& shell, std::ostream& out) {
  std::vector<Entry> entries;
  collect(app, "", entries);
  if (shell == "bash")
    print_bash(entries, out);
  else if (shell == "zsh")
    print_zsh(entries, out);
  else
    print_fish(entries, out);
}

}  // namespace gob::ctl
