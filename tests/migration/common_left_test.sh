#!/usr/bin/env bash
# Containers of memory in common whose last users die in ways that leave nobody to give them up: some node's
# server finds them. Arguments: gobctl gobd gobmigrate traveller criu_shim commoner.
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
# shellcheck source=commoners.sh source-path=SCRIPTDIR
source "$(dirname "$0")/commoners.sh"
begin 3
for node in n1 n2 n3; do serve $node; done
for node in n1 n2 n3; do until_true 20 said $node "taking processes"; done
memory() { "$gobctl" ls --quiet --node n2 | grep -q '^migrate-memory\.'; }
none_on_n2() { none_listed n2 '^migrate-memory\.'; }
no_keepers() { [[ -z $(keepers "$1") && -z $(keepers "$1" gobmigrate-cgd) ]]; }
gobd_of() { cat "$GOB_DIR/$1/gobd.pid"; }

# Keepers and guards are killed together with all whose memory it is. A server looks when it starts,
share all anonymous 16
move "$child" n1 n2
both_right all
for node in n1 n2 n3; do end_server $node; done
for each in $(keepers n1 gobmigrate-cgd) $(keepers n2 gobmigrate-cgd); do kill -STOP "$each"; done
for each in $(keepers n1) $(keepers n2) $(keepers n1 gobmigrate-cgd) $(keepers n2 gobmigrate-cgd) $(commoners all); do
  kill -9 "$each"
done
until_true 30 eval "[[ -z \$(commoners all) ]]"
memory || fail "somebody has removed it"
serve_anew n2
until_true 50 none_on_n2
until_true 10 said n2 "removed; whoever had this memory died"
serve_anew n1
serve_anew n3

# and when one is gone. A node hangs when the last user of another one ends, and then it is put out.
share hung anonymous 16
move "$child" n3 n2
both_right hung
kill -STOP "$(gobd_of n3)"
kill -9 "$there"
until_true 100 no_keepers n2
kill -9 "$(gobd_of n3)" "$pid"
until_true 60 no_keepers n3
until_true 30 none_on_n2
wait "${server[n3]}"
unset "server[n3]"

# The gobd of the last user leaves, as before an upgrade: its keeper cannot give up anything any more.
share left anonymous 16
move "$child" n1 n2
both_right left
kill -9 "$there"
until_true 60 no_keepers n2
memory || fail "somebody removed memory that is in use"
gobd_n1=$(gobd_of n1)
kill "$gobd_n1"
until_true 60 gone "$gobd_n1"
until_true 60 no_keepers n1
until_true 60 zombie_or_gone "$pid"
never_wrong left
until_true 30 none_on_n2
wait "${server[n1]}"
unset "server[n1]"
end_server n2
finish
