#!/usr/bin/env bash
# repeat_test.sh SIM: the same seed gives the same run, to the byte, in another process and whatever
# the number of threads; another seed gives another.
set -euo pipefail
sim=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

options=(--steps 3000 --seeds 12)
"$sim" --seed 40 "${options[@]}" --jobs 1 --record "$dir/a.scenario" >"$dir/a"
"$sim" --seed 40 "${options[@]}" --jobs 2 --record "$dir/b.scenario" >"$dir/b"
"$sim" --seed 41 "${options[@]}" --jobs 1 --record "$dir/c.scenario" >"$dir/c"
cmp "$dir/a" "$dir/b"
cmp "$dir/a.scenario" "$dir/b.scenario"
[ "$(grep -c . "$dir/a.scenario")" -gt 1000 ]
! cmp -s "$dir/a.scenario" "$dir/c.scenario"

# A recorded run replays, and bounds that are asked for are kept.
"$sim" --replay "$dir/a.scenario" | tail -n 1 | grep -qx 'no violation'
"$sim" --seed 7 --nodes 5 --pages 9 --steps 2000 --record "$dir/d.scenario" >"$dir/d"
grep -q '^cluster nodes=5 containers=1 pages=9 ' "$dir/d.scenario"
