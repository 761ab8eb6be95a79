#!/usr/bin/env bash
# A gobd that is told to leave while a process moves from its node, or to it, waits until it is needed no more:
# nothing is lost, nothing stands still for ever. Arguments: gobctl gobd gobmigrate traveller criu_shim.
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
begin 3
# At the targets, CRIU makes no process before there is a file "go".
slow_criu
for node in n2 n3; do GOB_CRIU=$dir/slow.sh serve $node; done
for node in n2 n3; do until_true 20 said $node "taking processes"; done
waits() { grep -q "not before 'gob-stay" "$GOB_DIR/$1/gobd.log"; }
# held PID FROM TO: a move that stands still in the middle; gobmigrate is then $mover.
held() {
  rm -f "$dir/go"
  "$gobmigrate" "$1" "$3" --socket "$(socket "$2")" >"$dir/mover.log" 2>&1 &
  mover=$!
  until_true 60 is_stopped "$1"
}
# arrives: the move goes on, and succeeds.
arrives() {
  touch "$dir/go"
  wait "$mover"
  equal $? 0
  there=$(sed -n 's/^Process .* runs on .* as \([0-9]*\);.*/\1/p' "$dir/mover.log")
}

# The source: it takes no second move, and leaves when the first is over.
launch two 8
two=$pid
launch one 48
one=$pid
held "$one" n1 n2
"$gobctl" leave --socket "$(socket n1)" >"$dir/leave.log" 2>&1 &
leave=$!
until_true 30 waits n1
expect 3 "$gobmigrate" "$two" n3 --socket "$(socket n1)"
says "leaving the cluster"
arrives
wait "$leave"
equal $? 0
before=$(wc -l <"$dir/one")
all_right one "$before"
all_right two "$(wc -l <"$dir/two")"
touch "$dir/two.stop"

# The target: it leaves when all memory is there, and the process goes on.
held "$there" n2 n3
gobd_of_n3=$(<"$GOB_DIR/n3/gobd.pid")
kill -TERM "$gobd_of_n3"
until_true 30 waits n3
arrives
until_true 60 gone "$gobd_of_n3"
said n3 "all memory is here" || fail "it left before all memory was there"
before=$(wc -l <"$dir/one")
all_right one "$before"
touch "$dir/one.stop"
until_true 60 eval "[[ -z \$(travellers '$dir/*') ]]"
until_true 30 no_containers n2
for name in "$one" "$two"; do until_true 10 no_images "$name"; done
finish
