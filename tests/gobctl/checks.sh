# What the tests of commands share: running one and judging its status and output. Sourced.
# shellcheck shell=bash
# shellcheck disable=SC2034  # `out` is for those who source this
set -u

failures=0
out=''

fail() {
  echo "FAILED: $*" >&2
  failures=$((failures + 1))
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

finish() {
  if [[ $failures -ne 0 ]]; then
    echo "$failures checks failed" >&2
    exit 1
  fi
  echo "all checks passed"
}
