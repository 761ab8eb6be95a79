#!/usr/bin/env bash
# gobbench's completion scripts: bash's is used, those of other shells are parsed where the shell is
# there. Argument: gobbench.
# shellcheck source=../gobctl/checks.sh source-path=SCRIPTDIR
source "$(dirname "$0")/../gobctl/checks.sh"
gobbench=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

for shell in bash zsh fish; do
  expect 0 "$gobbench" completion "$shell"
  printf '%s\n' "$out" >"$dir/$shell"
  for word in fault simulate sensitivity preset cluster-dir; do
    says "$word"
  done
  says_not "worker"
  if command -v "$shell" >/dev/null; then
    expect 0 "$shell" -n "$dir/$shell"; equal "$out" ""
  fi
done
expect 2 "$gobbench" completion csh

# shellcheck source=/dev/null
source "$dir/bash"
complete_words() {
  COMP_WORDS=("$@")
  COMP_CWORD=$(($# - 1))
  _gobbench
  out="${COMPREPLY[*]}"
}
complete_words gobbench fa; equal "$out" "fault"
complete_words gobbench ''; says "stream"; says_not "completion"
complete_words gobbench simulate ''; says "scale"; says_not "stream"
complete_words gobbench simulate scale --pre; equal "$out" "--preset"
complete_words gobbench fault --j; equal "$out" "--json"    # of gobbench itself, and taken here
mkdir "$dir/filed"
complete_words gobbench fault --results "$dir/fi"; equal "$out" "$dir/filed"
finish
