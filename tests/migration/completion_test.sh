#!/usr/bin/env bash
# gobmigrate's completion scripts: bash's is used, those of other shells are parsed where the shell
# is there. Argument: gobmigrate.
# shellcheck source=../gobctl/checks.sh source-path=SCRIPTDIR
source "$(dirname "$0")/../gobctl/checks.sh"
gobmigrate=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

completion_scripts "$gobmigrate" serve dry-run no-stream wait address criu
for shell in bash zsh fish; do
  out=$(<"$dir/$shell")
  says_not "receive"
done
expect 2 "$gobmigrate" completion csh
complete_words gobmigrate se
equal "$out" "serve"
complete_words gobmigrate 4711 n2 --dr
equal "$out" "--dry-run"
touch "$dir/criu-4.2"
complete_words gobmigrate serve --criu "$dir/cri"
equal "$out" "$dir/criu-4.2"
finish
