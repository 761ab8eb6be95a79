#!/usr/bin/env bash
# The node that a stopped process came from leaves, or dies, while most of its memory is still there: it goes on with all
# of it, or is ended with a word, at the latest when it touches what is lost; and nothing of it is left.
# Arguments: gobctl gobd gobmigrate traveller criu_shim.
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"

# renew: two nodes, both alive.
renew() {
  if [[ -n ${server[n2]:-} ]]; then end_server n2; fi
  "$gobctl" cluster down --timeout 10 >/dev/null 2>&1
  begin 2
  : >"$dir/n2.log"
  serve n2
  until_true 20 said n2 "taking processes"
}
# out_pages: of the only migrant, as n2 knows it.
out_pages() {
  expect 0 "$gobctl" ps --json --node n2
  json 'j[-1]["out_pages"]'
}
# stands NAME: a traveller that has moved to n2 as $there, stands, and has hardly any of its memory.
stands() {
  launch "$1" 64 part
  first=$pid
  touch "$dir/$1.pause" # or it would fetch all
  move "$pid" n1 n2 --no-stream
  kill -STOP "$there"
  rm "$dir/$1.pause"
  until_true 30 is_stopped "$there"
  until_true 30 gone "$first"
  until_true 10 no_images "$first" # nobody needs them once it has been made
  [[ $(out_pages) -gt 1000 ]] || fail "its memory is there already: nothing is tested"
}
# Whoever looks after the process, and process 1 of its namespaces, have its command line.
no_receiver() { ! pgrep -f "gobmigrate receive migrate\.n2\.$1\." >/dev/null; }
nothing_left() {
  until_true 60 gone "$there"
  until_true 60 no_receiver "$first"
  until_true 30 no_containers n2
  no_images "$first" || fail "images are left: $(find /dev/shm -maxdepth 1 -name 'gob-migrate.*')"
  ! grep "gob-migrate.n2.$first\." /proc/net/unix /proc/self/mountinfo || fail "a socket or mount is left"
}

# It leaves in order: what it had is with the others.
renew
stands one
expect 0 "$gobctl" leave --socket "$(socket n1)"
is_stopped "$there" || fail "it does not stand any more"
kill -CONT "$there"
before=$(wc -l <"$dir/one")
all_right one $((before + 64)) # all parts of its memory
touch "$dir/one.stop"
until_true 60 said n2 "process $there ended with status 7"
nothing_left

# It dies: who stands touches nothing, and lives on; who goes on is killed as soon as it needs what is lost.
renew
stands two
kill -9 "$(<"$GOB_DIR/n1/gobd.pid")"
kill -CONT "$there"
until_true 60 said n2 "the process is killed, since part of its memory is lost"
nothing_left
! grep -v 'wrong 0$' "$dir/two" || fail "it ran on wrong memory: $(cat "$dir/two.wrong")"
expect 0 "$gobctl" ps --json --node n2
equal "$(json 'j[-1]["state"], j[-1]["signal"], "memory is lost" in j[-1]["killed_because"]')" "('ended', 9, True)"

# Likewise one that is killed while it stands.
renew
stands three
kill -9 "$(<"$GOB_DIR/n1/gobd.pid")"
kill -9 "$there"
until_true 60 said n2 "process $there ended with signal 9"
nothing_left
end_server n2
finish
