#!/usr/bin/env bash
# Programs with memory in common fork more children than whoever looks after the memory can have
# descriptors: they wait, or are ended, and none ever reads zeros.
# Arguments: gobctl gobd gobmigrate traveller criu_shim commoner.
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
# shellcheck source=commoners.sh source-path=SCRIPTDIR
source "$(dirname "$0")/commoners.sh"
begin 2 --shards 3
for node in n1 n2; do serve $node && until_true 20 said $node "taking processes"; done

# has_room PROCESS NUMBER: it may have so many descriptors more than it has. A new one gets the lowest
# number that is free, which must be below the limit. What it had for the move is closed before.
has_room() {
  local seen=-1 looks=0
  until_true 30 no_containers
  until_true 60 room_settles "$@"
  prlimit --pid "$1" --nofile=$seen:
}
# room_settles PROCESS NUMBER: the limit for that, $seen, has been the same for a while.
room_settles() {
  local limit=0 free=0
  while [[ -e /proc/$1/fd/$limit || $((free += 1)) -le $2 ]]; do limit=$((limit + 1)); done
  [[ $limit -eq $seen ]] || looks=0
  seen=$limit
  [[ $((looks += 1)) -gt 25 ]]
}
gobd_of() {
  local at
  for at in $(pgrep -x gobd); do
    [[ $(tr '\0' ' ' 2>/dev/null <"/proc/$at/cmdline") != *"$GOB_DIR/$1"* ]] || echo "$at"
  done
}
gobd_said() { grep -q "$2" "$GOB_DIR/$1/gobd.log"; }

# The keeper has none left: some children work, some wait until others have ended.
share room anonymous 64
move "$child" n1 n2
keeper=$(keepers n2)
has_room "$keeper" 40
touch "$dir/room.child.brood"
until_true 60 said n2 "waits for a file descriptor of its keeper"
both_right room
until_true 60 said n2 "is ended: there are too many with this memory"
# brood: those that are left; each has worked since there are no others.
brood() { pgrep -P "$there" -x commoner; }
declare -A before=()
left=none
all_work() {
  local now file lines working=0
  now=$(brood)
  for file in "$dir"/room.child.brood.*; do
    lines=$(wc -l <"$file")
    [[ $now == "$left" ]] || before[$file]=$lines
    [[ $lines -le ${before[$file]:-0} ]] || working=$((working + 1))
  done
  left=$now
  [[ $working -gt 0 && $working -eq $(wc -w <<<"$now") ]]
}
until_true 60 all_work
echo "$(brood | wc -l) children of 24 had room"
[[ $(brood | wc -l) -lt 24 ]] || fail "all had room"
for one in "$dir"/room.child.brood.*; do never_wrong "${one##*/}"; done
both_right room
# One that ends makes room for others.
touch "$dir/room.stop"
until_true 90 eval "[[ -z \$(commoners room) ]]"
until_true 90 no_memory

# gobd has none left: a child waits until there is one.
share late anonymous 64
move "$child" n1 n2
gobd_n2=$(gobd_of n2)
limit=$(prlimit --pid "$gobd_n2" --nofile --noheadings --output SOFT)
has_room "$gobd_n2" 0
touch "$dir/late.child.hire"
either_said() { gobd_said n2 "no file descriptor is left for the child" || said n2 "a file descriptor: gobd"; }
until_true 60 either_said
prlimit --pid "$gobd_n2" --nofile="$limit":
until_true 60 lines "$dir/late.child.worker" 5
right late late.child late.child.worker
all_counted late
until_true 90 no_memory

# Memory that a program moves is served anew, before or after what it had there is free: nothing is lost.
share moved anonymous 64
move "$child" n1 n2
has_room "$gobd_n2" 0
touch "$dir/moved.child.remap"
until_true 60 done_with moved.child.remap
right moved
prlimit --pid "$gobd_n2" --nofile="$limit":
right moved moved.child
all_counted moved
until_true 90 no_memory

# The guard has none left, and could not keep that child from zeros: it takes the memory away.
share guarded anonymous 64
move "$child" n1 n2
for guard in $(keepers n2 gobmigrate-cgd); do has_room "$guard" 26; done
touch "$dir/guarded.child.brood"
until_true 60 said n2 "the guard of shared memory has no file descriptor left"
until_true 90 said n2 "process $there ended with signal 7"
for one in "$dir"/guarded.child*; do never_wrong "${one##*/}"; done
touch "$dir/guarded.stop"
until_true 90 eval "[[ -z \$(commoners guarded) ]]"
until_true 90 no_memory
for node in n1 n2; do end_server $node; done
finish
