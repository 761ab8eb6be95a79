#!/usr/bin/env bash
# Processes that were moved are shown, waited for and sent signals from any node, wherever they are.
# Arguments: gobctl gobd gobmigrate traveller criu_shim.
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
begin 3
for node in n1 n2 n3; do serve $node; done
for node in n1 n2 n3; do until_true 20 said $node "taking processes"; done
expect 0 "$gobctl" ps --node n3
says "No process was moved"

# shown FILTER: what gobctl on n3 says of the migrant $id, as `m`.
shown() {
  expect 0 "$gobctl" ps --node n3 --json
  json "(lambda m: ($1))([m for m in j if m['id'] == '$id'][-1])"
}
# awaits NODE WORD: somebody at that node waits for the end of a migrant.
awaits() {
  "$gobctl" wait "$2" --node "$1" >"$dir/waiter.log" 2>&1 &
  waiter=$!
}
# got STATUS: and comes back with it.
got() {
  local status=0
  wait "$waiter" || status=$?
  [[ $status -eq $1 ]] || fail "gobctl wait: $status instead of $1: $(cat "$dir/waiter.log")"
}
no_receiver() { ! pgrep -f "gobmigrate receive migrate\.[^ ]*\.$1\." >/dev/null; }

# A move that fails leaves nothing to be shown.
launch one 32 corner
printf '#!/bin/sh\n[ "$1" != dump ] || exit 9\nexec %s "$@"\n' "$criu" >"$dir/broken.sh"
chmod +x "$dir/broken.sh"
expect 3 "$gobmigrate" "$pid" n2 --socket "$(socket n1)" --criu "$dir/broken.sh"
says "it was not touched"
expect 0 "$gobctl" ps --node n3
says "No process was moved"

# Most of its memory is out when somebody elsewhere kills it, and nothing is left.
move "$pid" n1 n2 --no-stream
id=n1/$pid
equal "$(shown 'm["state"], m["node"], m["from"], m["moves"], m["command"]')" "('arriving', 'n2', 'n1', 1, 'traveller')"
equal "$(shown 'm["pid"], m["out_pages"] > 0')" "($there, True)"
expect 0 "$gobctl" ps --here --node n1
says "No process was moved here"
expect 0 "$gobctl" ps --here --node n2
says "arriving"
says "$id"
expect 0 env TERM=xterm NO_COLOR= script -qec "'$gobctl' ps --node n1" /dev/null
says $'\e[32m'
expect 125 "$gobctl" wait "$pid" --limit 0.2 --node n1
says "has not ended yet"
awaits n1 "$pid"
expect 0 "$gobctl" kill "$id" --signal KILL --node n3
got 137
equal "$(shown 'm["state"], m["exit_status"], m["signal"], m["out_pages"]')" "('ended', None, 9, 0)"
until_true 30 gone "$there"
until_true 30 no_receiver "$pid"
none_left "$pid"
expect 0 "$gobctl" ps --node n1
says "ended by SIGKILL"
expect 0 "$gobctl" ps --quiet --node n1
equal "$out" ""
expect 4 "$gobctl" kill "$pid" --node n2
says "ended already"

# Its own status comes back to where it was started, two moves later.
launch two 16
id=n1/$pid
awaits n1 nobody
got 125
first=$pid
move "$pid" n1 n2
awaits n1 "$first"
move "$there" n2 n3
until_true 30 gone "$first"
equal "$(shown '[s["node"] for s in m["stays"]]')" "['n1', 'n2', 'n3']"
expect 0 "$gobctl" kill traveller --signal CONT --node n2
touch "$dir/two.stop"
got 7
equal "$(shown 'm["state"], m["exit_status"], m["node"]')" "('ended', 7, 'n3')"
expect 7 "$gobctl" wait "$there" --node n2 --json
equal "$(json 'j["exit_status"]')" 7

# A signal that meets a move arrives after it, wherever that has come to.
launch met 16
id=n1/$pid
"$gobmigrate" "$pid" n2 --socket "$(socket n1)" >"$dir/mover.log" 2>&1 &
mover=$!
until_true 60 eval "[[ \$('$gobctl' ps --quiet --node n1) == '$id' ]]"
awaits n1 "$pid"
expect 0 "$gobctl" kill "$pid" --node n1
wait "$mover" || fail "the move: $(cat "$dir/mover.log")"
got 143

# All of a tree.
launch tree 8 tree
id=n1/$pid
move "$pid" n1 n2
awaits n3 "$id"
expect 0 "$gobctl" kill "$id" --signal KILL --all --node n1
got 137
until_true 30 eval "[[ -z \$(travellers '$dir/tree') ]]"
none_left "$pid"

# Wrong words.
expect 2 "$gobctl" kill "$id" --signal NONSENSE --node n1
says "is no signal"
expect 4 "$gobctl" kill 1 --node n1
says "never moved"
launch same1 4
move "$pid" n1 n2
launch same2 4
move "$pid" n1 n2
expect 2 "$gobctl" kill traveller --node n1
says "say which"
touch "$dir/same1.stop" "$dir/same2.stop"
expect 7 "$gobctl" wait "n1/$pid" --node n1

# A node that dies takes what is known with it, and nobody waits for ever.
launch lost 32 corner
id=n1/$pid
move "$pid" n1 n3 --no-stream
awaits n1 "$pid"
kill -9 "$(cat "$GOB_DIR/n3/gobd.pid")"
got 125
expect 0 "$gobctl" ps --node n1
says "unknown"
touch "$dir/lost.all" # pages that only other nodes had
until_true 60 eval "[[ -z \$(travellers '$dir/lost') ]]"
wait "${server[n3]}" # its server ends with it
unset "server[n3]"
for node in n1 n2; do end_server $node; done
finish
