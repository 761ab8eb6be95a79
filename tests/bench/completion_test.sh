#!/usr/bin/env bash
# gobbench's completion scripts: bash's is used, those of other shells are parsed where the shell is
# there. Argument: gobbench.
# shellcheck source=../gobctl/checks.sh source-path=SCRIPTDIR
source "$(dirname "$0")/../gobctl/checks.sh"
gobbench=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

completion_scripts "$gobbench" fault simulate sensitivity preset cluster-dir
for shell in bash zsh fish; do
  out=$(<"$dir/$shell")
  says_not "worker"
done
expect 2 "$gobbench" completion csh
complete_words gobbench fa; equal "$out" "fault"
complete_words gobbench ''; says "stream"; says_not "completion"
complete_words gobbench simulate ''; says "scale"; says_not "stream"
complete_words gobbench simulate scale --pre; equal "$out" "--preset"
complete_words gobbench fault --j; equal "$out" "--json"    # of gobbench itself, and taken here
mkdir "$dir/filed"
complete_words gobbench fault --results "$dir/fi"; equal "$out" "$dir/filed"
finish
