#!/usr/bin/env bash
# The node that a process came from leaves while most of its memory is still there: what gobd hands
# over then is all that the process needs. Arguments: gobctl gobd gobmigrate traveller criu_shim.
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
begin 3
for node in n2 n3; do serve $node; done
for node in n2 n3; do until_true 20 said $node "taking processes"; done

launch one 64 part
first=$pid
touch "$dir/one.pause" # or it would fetch all
move "$pid" n1 n2 --no-stream
until_true 30 gone "$pid"
expect 0 "$gobctl" ps --json --node n2
[[ $(json 'j[0]["out_pages"]') -gt 1000 ]] || fail "its memory is there already: nothing is tested"
expect 0 "$gobctl" leave --socket "$(socket n1)"
before=$(wc -l <"$dir/one")
rm "$dir/one.pause"
all_right one $((before + 64)) # all parts of its memory
move "$there" n2 n3 --wait
expect 0 "$gobctl" leave --socket "$(socket n2)"
before=$(wc -l <"$dir/one")
all_right one $((before + 64))
touch "$dir/one.stop"
until_true 60 said n3 "process $there ended with status 7"
until_true 30 no_containers n3
until_true 10 no_images "$first"
finish
