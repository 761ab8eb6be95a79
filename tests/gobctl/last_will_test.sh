#!/usr/bin/env bash
# A test that is killed leaves nothing: neither its cluster, nor what it started, nor its folder.
# Arguments: gobctl gobd.
# shellcheck source=checks.sh source-path=SCRIPTDIR
source "$(dirname "$0")/checks.sh"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# shellcheck disable=SC2016  # it is another shell's
expect 137 bash -c 'source "$1/checks.sh"
folder=$(mktemp -d)
echo "$folder" >"$4/folder"
leave_nothing "$folder" "$2"
export GOB_DIR=$folder/cluster
"$2" cluster up --gobd "$3" --nodes 2 --budget 1M || exit 1
setsid sleep 1000 &
echo $! >"$4/program"
cp "$GOB_DIR"/n1/gobd.pid "$4/n1"
cp "$GOB_DIR"/n2/gobd.pid "$4/n2"
kill -9 $$' - "$(dirname "$0")" "$1" "$2" "$dir"
for name in program n1 n2; do
  at=$(<"$dir/$name") || continue
  for _ in {1..300}; do
    kill -0 "$at" 2>/dev/null || break
    sleep 0.1
  done
  ! kill -0 "$at" 2>/dev/null || fail "$name still runs: $(ps -fp "$at")"
done
folder=$(<"$dir/folder")
for _ in {1..300}; do
  [[ -d $folder ]] || break
  sleep 0.1
done
[[ ! -d $folder ]] || fail "left behind: $(ls -R "$folder")"
finish
