#!/usr/bin/env bash
# Programs with memory in common go on as they like when it is a container: they fork children, which
# have it, too, and move or remove a part of it. Arguments: gobctl gobd gobmigrate traveller criu_shim commoner.
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
# shellcheck source=commoners.sh source-path=SCRIPTDIR
source "$(dirname "$0")/commoners.sh"
begin 2
for node in n1 n2; do serve $node && until_true 20 said $node "taking processes"; done

# hire NAME: it forks a worker, which begins to work.
hire() {
  touch "$dir/$1.hire"
  until_true 60 lines "$dir/$1.worker" 5
}
# A server of many processes: one works elsewhere, and both fork, all the time, and workers that stay.
for kind in anonymous segment; do
  share $kind $kind 64 fork
  move "$child" n1 n2
  child=$there
  both_right $kind
  hire $kind
  hire $kind.child
  right $kind $kind.child $kind.worker $kind.child.worker
  move "$child" n2 n1 # with its worker
  child=$there
  right $kind $kind.child $kind.worker $kind.child.worker
  move "$child" n1 n2
  right $kind $kind.child $kind.worker $kind.child.worker
  all_counted $kind
  until_true 90 no_memory
  none_swept
done

# A worker goes on when its parent has died, and gets a signal, as the others, if whoever looks after the memory dies.
share orphan anonymous 64
move "$child" n1 n2
hire orphan
hire orphan.child
kill -9 "$there" "$pid"
right orphan.worker orphan.child.worker
for keeper in $(keepers n1) $(keepers n2); do kill -9 "$keeper"; done
until_true 90 eval "[[ -z \$(commoners orphan) ]]"
never_wrong orphan.worker
never_wrong orphan.child.worker
until_true 90 no_memory

# Guards that come to it only when all is over still give the container up.
share late anonymous 64
move "$child" n1 n2
hire late.child
for node in n1 n2; do end_server $node; done # they would remove it, too
guards="$(keepers n1 gobmigrate-cgd) $(keepers n2 gobmigrate-cgd)"
stopped=$guards
for guard in $guards; do kill -STOP "$guard"; done
for each in $(keepers n1) $(keepers n2) $(commoners late); do kill -9 "$each"; done
until_true 90 eval "[[ -z \$(commoners late) ]]"
for guard in $guards; do kill -CONT "$guard"; done
stopped=''
until_true 90 no_memory
for node in n1 n2; do serve_anew $node; done

# Also if its guard died before it, and nobody is left who could take the memory away but gobd.
share alone anonymous 64
move "$child" n1 n2
hire alone.child
for keeper in $(keepers n2 gobmigrate-cgd) $(keepers n2); do kill -9 "$keeper"; done
until_true 90 said n2 "process $there ended with signal 7"
until_true 90 eval "[[ \$(commoners alone | wc -l) -eq 1 ]]"
never_wrong alone.child
never_wrong alone.child.worker
right alone
touch "$dir/alone.stop"
until_true 90 no_memory

# A mutex and a condition of pthread, for their turns.
share mutex anonymous 16 mutex
move "$child" n1 n2
both_right mutex
move "$there" n2 n1
both_right mutex
touch "$dir/mutex.stop"
for one in mutex mutex.child; do until_true 60 lines "$dir/$one.end" 1; done

# It lies elsewhere, or only in part, or is cut: the memory stays the same.
share moves anonymous 64
move "$child" n1 n2
for one in moves moves.child; do
  touch "$dir/$one.remap"
  until_true 30 done_with $one.remap
  both_right moves
  touch "$dir/$one.cut"
  until_true 30 done_with $one.cut
  both_right moves
done
move "$there" n2 n1
both_right moves
all_counted moves
# Half of it elsewhere is a mapping of its own, which nobody serves: a signal, and no wrong word.
share split anonymous 64
move "$child" n1 n2
touch "$dir/split.child.split"
until_true 90 said n2 "process $there ended with signal 7"
never_wrong split.child
right split
touch "$dir/split.stop"
until_true 90 no_memory
# Such a one that cannot be stopped yet does not keep the keeper from the others of that memory: their
# children get it.
share held anonymous 64
move "$child" n1 n2
hire held.child
touch "$dir/held.child.hold"
until_true 30 test -e "$dir/held.child.held"
touch "$dir/held.child.split"
until_true 30 is_stopped "$there" # but for that thread
touch "$dir/held.child.worker.brood"
some_work() { for each in {0..3}; do lines "$dir/held.child.worker.brood.$each" 2 || return; done; }
until_true 50 some_work # less than the guard's patience
is_stopped "$there" || fail "it does not stand any more: nothing was tested"
touch "$dir/held.child.free"
until_true 30 zombie_or_gone "$there"
never_wrong held.child
right held held.child.worker
touch "$dir/held.stop"
until_true 90 said n2 "process $there ended with signal 7"
until_true 90 no_memory
for node in n1 n2; do end_server $node; done
finish
