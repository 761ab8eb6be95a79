# What the tests of commands share: running one and judging its status and output. Sourced.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # `out` is for those who source this, `dir` is theirs
set -u

failures=0
out=''

fail() {
  echo "FAILED: $*" >&2
  failures=$((failures + 1))
}

# leave_nothing FOLDER GOBCTL: if this test is ended from outside, what it started with GOB_DIR below
# FOLDER ends, too, and FOLDER goes. Not a child of the test, so that nobody ends it with that.
leave_nothing() {
  (setsid "$(dirname "${BASH_SOURCE[0]}")/last_will.sh" $$ "$1" "$2" </dev/null >/dev/null 2>&1 &)
}

# kill_now PROCESS: by SIGKILL, and waits until it has ended, with all its threads. Nobody may ask for its
# status: a zombie has ended.
kill_now() {
  local stat give_up=$((SECONDS + 60))
  kill -9 "$1"
  while { read -r stat <"/proc/$1/stat"; } 2>/dev/null; do
    [[ ${stat##*) } != [ZX]* || -n $(compgen -G "/proc/$1/task/*" | tail -n +2) ]] || return 0
    [[ $SECONDS -lt $give_up ]] || { fail "process $1 was killed and has not ended: $stat"; return 1; }
    sleep 0.02
  done
}

# expect STATUS COMMAND...: runs it, keeps what it wrote (both streams) in $out.
expect() {
  local wanted=$1 got=0
  shift
  out=$("$@" 2>&1) || got=$?
  [[ $got -eq $wanted ]] || fail "status $got instead of $wanted: $* says: $out"
}

# says TEXT: the last output holds it.
says() {
  [[ $out == *"$1"* ]] || fail "no \"$1\" in: $out"
}

says_not() {
  [[ $out != *"$1"* ]] || fail "\"$1\" in: $out"
}

equal() {
  [[ $1 == "$2" ]] || fail "\"$1\" instead of \"$2\""
}

# json FILTER: what a Python expression over the last output, as `j`, gives.
json() {
  python3 -c 'import json, sys
j = json.loads(sys.argv[1])
print(eval(sys.argv[2]))' "$out" "$1"
}

# completion_scripts PROGRAM WORD...: the scripts of all shells, in $dir by their names, hold each word;
# those whose shell is here are parsed. Bash's is in use from then on.
completion_scripts() {
  local program=$1 shell word
  shift
  for shell in bash zsh fish; do
    expect 0 "$program" completion "$shell"
    printf '%s\n' "$out" >"$dir/$shell"
    for word; do says "$word"; done
    if command -v "$shell" >/dev/null; then
      expect 0 "$shell" -n "$dir/$shell"
      equal "$out" ""
    fi
  done
  # shellcheck source=/dev/null
  source "$dir/bash"
}

# complete_words PROGRAM WORD...: what bash offers for the last word, in $out.
complete_words() {
  COMP_WORDS=("$@")
  COMP_CWORD=$(($# - 1))
  "_$1"
  out="${COMPREPLY[*]}"
}

finish() {
  if [[ $failures -ne 0 ]]; then
    echo "$failures checks failed" >&2
    exit 1
  fi
  echo "all checks passed"
}
