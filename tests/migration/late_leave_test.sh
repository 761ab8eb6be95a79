#!/usr/bin/env bash
# A gobd that is told to leave in the middle of a move waits for it no longer than leave_timeout_ms: then the move fails,
# and the process goes on where it was. Arguments: gobctl gobd gobmigrate traveller criu_shim.
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
# shellcheck disable=SC2016  # it is another shell's
printf '#!/bin/sh\nfor config; do :; done\nsed -i "s/^leave_timeout_ms = .*/leave_timeout_ms = 1000/" "$config"\nexec %s "$@"\n' "$gobd" >"$dir/gobd.sh"
chmod +x "$dir/gobd.sh"
gobd=$dir/gobd.sh
begin 3
# At the targets, CRIU makes no process before there is a file "go".
slow_criu
for node in n2 n3; do GOB_CRIU=$dir/slow.sh serve $node; done
for node in n2 n3; do until_true 20 said $node "taking processes"; done

# late NODE TARGET: it leaves while $pid, which stays, moves from n1 to TARGET.
late() {
  local before
  before=$(wc -l <"$dir/one")
  "$gobmigrate" "$pid" "$2" --socket "$(socket n1)" >"$dir/mover.log" 2>&1 &
  mover=$!
  until_true 60 is_stopped "$pid"
  leaving=$(<"$GOB_DIR/$1/gobd.pid")
  kill -TERM "$leaving"
  until_true 60 grep -q "not before 'gob-stay" "$GOB_DIR/$1/gobd.log"
  until_true 60 gone "$leaving"
  wait "$mover"
  equal $? 1
  grep -q "the process goes on here" "$dir/mover.log" || fail "gobmigrate says: $(cat "$dir/mover.log")"
  until_true 30 none_stopped one
  all_right one "$before"
  equal "$(travellers "$dir/one")" "$pid"
  touch "$dir/go"
  until_true 30 no_images "$pid"
}
launch one 48
late n3 n3
rm "$dir/go"
late n1 n2
until_true 60 no_containers n2
touch "$dir/one.stop"
until_true 30 gone "$pid"
# A gobd that a script became is known to gobctl.
expect 0 "$gobctl" cluster down --timeout 10
says "Stopped 1 of 3 nodes"
finish
