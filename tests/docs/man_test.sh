#!/usr/bin/env bash
# Manual pages: free of warnings, and complete: every flag that --help shows, every key of the
# configuration, every function of the library. Arguments: source directory, gobd, gobctl, gobbench,
# gobmigrate.
# shellcheck source=../gobctl/checks.sh source-path=SCRIPTDIR
source "$(dirname "$0")/../gobctl/checks.sh"
source_dir=$1 gobd=$2 gobctl=$3 gobbench=$4 gobmigrate=$5
pages=$source_dir/docs/man

text_of() { MANWIDTH=120 man -E ascii -l -Tascii "$pages/$1" 2>/dev/null | col -bx; }

for page in "$pages"/*; do
  warnings=$(man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null)
  [[ -z $warnings ]] || fail "warnings of ${page##*/}: $warnings"
done

# flags PROGRAM [SUBCOMMAND...]: of it and of all below it.
flags() {
  local help sub
  help=$("$@" --help)
  grep -oE '^  (-[a-zA-Z],)?--[a-z0-9-]+' <<<"$help" | grep -oE '\-\-[a-z0-9-]+'
  while read -r sub; do
    flags "$@" "$sub"
  done < <(awk '/^Subcommands:/ {on = 1; next} /^[^ ]/ || /^$/ {on = 0} on && /^  [a-z]/ {print $1}' <<<"$help")
}

# documented PAGE PROGRAM: its flags are on the page.
documented() {
  local page=$1 text flag count=0
  text=$(text_of "$page")
  while read -r flag; do
    count=$((count + 1))
    grep -qE -- "$flag([^a-z-]|\$)" <<<"$text" || fail "$page does not mention $flag of ${2##*/}"
  done < <(flags "$2" | sort -u)
  [[ $count -gt 5 ]] || fail "only $count flags were found in the help of ${2##*/}"
}
documented gobctl.1 "$gobctl"
documented gobd.8 "$gobd"
documented gobbench.1 "$gobbench"
documented gobmigrate.1 "$gobmigrate"

# The sample configuration is accepted, and every key of the configuration it becomes is explained.
text=$(text_of gobd.toml.5)
expect 0 "$gobd" --config "$source_dir/packaging/gobd.toml" --print-config
keys=$(grep -oE '^[a-z_]+ =' <<<"$out" | tr -d ' =' | sort -u)
[[ $(wc -l <<<"$keys") -gt 15 ]] || fail "too few keys in: $out"
for key in $keys; do
  grep -qE "^ +$key( |\$)" <<<"$text" || fail "gobd.toml.5 does not explain $key"
done

text=$(text_of libgob.3)
functions=$(grep -oE '^GOB_API [^(]*\(' "$source_dir/libgob/gob.h" | grep -oE 'gob_[a-z_]+\(' | tr -d '(')
[[ $(wc -l <<<"$functions") -gt 20 ]] || fail "too few functions in gob.h: $functions"
for function in $functions; do
  grep -q "$function" <<<"$text" || fail "libgob.3 does not mention $function"
done
finish
