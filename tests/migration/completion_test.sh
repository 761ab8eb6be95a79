#!/usr/bin/env bash
# gobmigrate's completion scripts: bash's is used, those of other shells are parsed where the shell
# is there. Argument: gobmigrate.
# shellcheck source=../gobctl/checks.sh source-path=SCRIPTDIR
source "$(dirname "$0")/../gobctl/checks.sh"
gobmigrate=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

for shell in bash zsh fish; do
  expect 0 "$gobmigrate" completion "$shell"
  printf '%s\n' "$out" >"$dir/$shell"
  for word in serve dry-run no-stream wait criu; do says "$word"; done
  says_not "receive"
  if command -v "$shell" >/dev/null; then
    expect 0 "$shell" -n "$dir/$shell"
    equal "$out" ""
  fi
done
expect 2 "$gobmigrate" completion csh

# shellcheck source=/dev/null
source "$dir/bash"
complete_words() {
  COMP_WORDS=("$@")
  COMP_CWORD=$(($# - 1))
  _gobmigrate
  out="${COMPREPLY[*]}"
}
complete_words gobmigrate se
equal "$out" "serve"
complete_words gobmigrate 4711 n2 --dr
equal "$out" "--dry-run"
touch "$dir/criu-4.2"
complete_words gobmigrate serve --criu "$dir/cri"
equal "$out" "$dir/criu-4.2"
finish
