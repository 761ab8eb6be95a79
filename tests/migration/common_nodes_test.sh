#!/usr/bin/env bash
# Memory in common on three nodes, and what becomes of it when a node dies: who has lost a page gets a
# signal, nobody waits for ever or meets a wrong word, and nothing is left.
# Arguments: gobctl gobd gobmigrate traveller criu_shim commoner.
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
# shellcheck source=commoners.sh source-path=SCRIPTDIR
source "$(dirname "$0")/commoners.sh"
begin 3
for node in n1 n2 n3; do serve $node; done
for node in n1 n2 n3; do until_true 20 said $node "taking processes"; done

# Each of three on a node of its own, and one comes back.
share three segment 64
touch "$dir/three.hire"
until_true 30 lines "$dir/three.worker" 5
worker=$(pgrep -n -P "$pid" -x commoner)
move "$child" n1 n2
child=$there
right three three.child three.worker
move "$worker" n1 n3
right three three.child three.worker
move "$child" n2 n1
right three three.child three.worker
move "$there" n1 n3
right three three.child three.worker
move "$pid" n1 n2
right three three.child three.worker
all_counted three
until_true 90 no_memory
none_swept

# The gobd of either side dies.
works_or_ended() { lines "$dir/$1" "$2" || [[ -z $(commoners "${1%.child}") ]] || gone "$3"; }
no_keepers() { [[ -z $(keepers "$1") ]]; }
for victim in n2 n1; do
  share $victim anonymous 64
  move "$child" n1 n2
  both_right $victim
  kill -9 "$(cat "$GOB_DIR/$victim/gobd.pid")"
  until_true 60 no_keepers $victim
  # Who was there has ended.
  lost=$pid; [[ $victim == n1 ]] || lost=$there
  until_true 60 zombie_or_gone "$lost"
  # The other one works on with what it has, until it misses a page.
  other=$victim; [[ $victim == n2 ]] || other=n1.child
  stays=$pid; [[ $victim == n2 ]] || stays=$there
  until_true 60 works_or_ended $other $(($(wc -l <"$dir/$other") + 20)) "$stays"
  never_wrong $victim
  never_wrong $victim.child
  touch "$dir/$victim.stop"
  until_true 60 zombie_or_gone "$stays"
  for node in n1 n2; do until_true 60 no_keepers $node; done
  [[ $victim == n1 ]] || until_true 90 no_memory
  wait "${server[$victim]}"
  unset "server[$victim]"
  [[ $victim == n1 ]] || { expect 0 "$gobctl" cluster down --timeout 10; }
  if [[ $victim == n2 ]]; then
    for node in n1 n3; do wait "${server[$node]}"; unset "server[$node]"; done
    begin 2
    for node in n1 n2; do : >"$dir/$node.log"; serve $node; done
    for node in n1 n2; do until_true 20 said $node "taking processes"; done
  fi
done
finish
