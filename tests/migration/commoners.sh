# What the tests of memory in common share, beside common.sh. Sourced after it, with commoner as the
# sixth argument.
# shellcheck shell=bash
commoner=$6
stopped=''  # what the test has stopped, and nobody else would end
end_commoners() {
  local at
  for at in $stopped; do kill -9 "$at" 2>/dev/null; done
  for at in $(pgrep -x commoner) $(pgrep -x python3); do
    [[ $(tr '\0' ' ' 2>/dev/null <"/proc/$at/cmdline") != *"$dir/"* ]] || kill -9 "$at"
  done
}
trap 'end_commoners; clean_up' EXIT

# share NAME KIND PAGES: a parent, $pid, and a child, $child.
share() {
  start "$1" "$commoner" "$dir/$1" "${@:2}"
  until_true 30 lines "$dir/$1.child" 3
  child=$(pgrep -o -P "$pid" -x commoner) # it may have children of a moment
}
# never_wrong NAME: it never met a wrong word.
never_wrong() {
  [[ -z $(grep -v 'wrong 0$' "$dir/$1" | head -n 3) ]] || fail "$1: $(grep -v 'wrong 0$' "$dir/$1" | head -n 3)"
}
# right NAMES...: they work on, and never met a wrong word.
right() {
  local one
  for one in "$@"; do
    until_true 60 lines "$dir/$one" $(($(wc -l <"$dir/$one") + 5))
    never_wrong "$one"
  done
}
both_right() { right "$1" "$1.child"; }
# all_counted NAME: they end, those that they hired, too, and no increment of any was lost.
all_counted() {
  local one sum=0 highest=0 rounds wrong said
  touch "$dir/$1.stop"
  for one in "$1" "$1.child" "$1.worker" "$1.child.worker"; do
    [[ -e $dir/$one ]] || continue
    until_true 60 lines "$dir/$one.end" 1
    read -r rounds wrong said <"$dir/$one.end"
    equal "$wrong" 0
    sum=$((sum + rounds))
    [[ $said -le $highest ]] || highest=$said
  done
  equal "$highest" "$sum"
}
# commoners NAME: all processes of it.
commoners() {
  local at
  for at in $(pgrep -x commoner); do
    [[ $(tr '\0' ' ' 2>/dev/null <"/proc/$at/cmdline") != *"$dir/$1 "* ]] || echo "$at"
  done
}
# keepers NODE [NAME]: those that look after memory there, of this test's cluster alone.
keepers() {
  local at
  for at in $(pgrep -x "${2:-gobmigrate-kpr}"); do
    [[ $(tr '\0' ' ' 2>/dev/null <"/proc/$at/cmdline") != *"--socket $(socket "$1") "* ]] || echo "$at"
  done
}
# serve_anew NODE: its log begins anew.
serve_anew() {
  : >"$dir/$1.log"
  serve "$1"
  until_true 20 said "$1" "taking processes"
}
# none_swept: no server had to remove what its keepers should have. Only where none was killed yet.
none_swept() {
  ! grep -h "removed; whoever had this memory died" "$dir"/n?.log || fail "a server removed what keepers left behind"
}
# done_with FILE: whoever it was for has taken it away.
done_with() { [[ ! -e $dir/$1 ]]; }
no_memory() { none_listed n1 '^migrate-memory\.'; }
