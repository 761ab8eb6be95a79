#!/usr/bin/env bash
# Memory that processes have in common becomes a container when one of them moves: programs that know
# nothing of gob go on sharing it, on two nodes. Arguments: gobctl gobd gobmigrate traveller criu_shim commoner.
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
# shellcheck source=commoners.sh source-path=SCRIPTDIR
source "$(dirname "$0")/commoners.sh"
begin 2 --mount
for node in n1 n2; do serve $node && until_true 20 said $node "taking processes"; done

# Moves that fail: CRIU says no, or gobmigrate is killed, when the memory is a container by then. Both go
# on with it, here.
cat >"$dir/no-dump.sh" <<END
#!/bin/sh
if [ "\$1" = dump ]; then
  while [ "\$1" != --images-dir ]; do shift; done
  ls "\$2/plugins" && cat "\$2/irmap-cache" >/dev/null
  grep -q "memfd:gob-common:migrate-memory" "/proc/\$CHILD/maps" || touch "$dir/too-early"
  [ ! -e "$dir/killer" ] || kill -9 "\$(cat "$dir/killer")"
  exit 1
fi
exec "$criu" "\$@"
END
chmod +x "$dir/no-dump.sh"
fails() { CHILD=$child GOB_CRIU=$dir/no-dump.sh exec "$gobmigrate" "$child" n2 --socket "$(socket n1)"; }
declare -A parent_of child_of
share back anonymous 64
parent_of[back]=$pid child_of[back]=$child
(fails) >"$dir/failed" 2>&1
equal $? 1
both_right back
# Now it is one already, and only the place is kept for it.
(echo "$BASHPID" >"$dir/killer"; fails) >"$dir/failed" 2>&1
equal $? 137
both_right back
share killed anonymous 64
parent_of[killed]=$pid child_of[killed]=$child
(echo "$BASHPID" >"$dir/killer"; fails) >"$dir/failed" 2>&1
equal $? 137
both_right killed
[[ ! -e $dir/too-early ]] || fail "the memory was no container when CRIU looked"
# Then the child moves, and after it the parent, to the same node.
for name in back killed; do
  move "${child_of[$name]}" n1 n2
  both_right $name
  move "${parent_of[$name]}" n1 n2
  both_right $name
  all_counted $name
done
until_true 90 no_memory

# A thread sleeps in the memory, and is woken by the other node.
share sleeps anonymous 64 wait
move "$child" n1 n2
both_right sleeps
[[ ! -e $dir/sleeps.woken ]] || fail "it was woken before its time"
touch "$dir/sleeps.wake"
until_true 30 lines "$dir/sleeps.woken" 1
all_counted sleeps

# Semaphores and memory of a python3 that knows nothing of this: each waits for the other, round by round.
cat >"$dir/pingpong.py" <<'END'
import mmap, multiprocessing, os, sys
name = sys.argv[1]
memory = mmap.mmap(-1, 4096)
ping, pong = multiprocessing.Semaphore(0), multiprocessing.Semaphore(0)
child = os.fork() == 0
if child: os.setsid()
mine, other = (pong, ping) if child else (ping, pong)
wrong = number = 0
while not memory[64]:
    if child and not other.acquire(timeout=60): sys.exit("not woken")
    if memory[64]: break
    count = int.from_bytes(memory[:8], "little")
    wrong += count != 2 * number + child  # it is this one's turn
    number += 1
    memory[:8] = (count + 1).to_bytes(8, "little")
    with open(name + (".child" if child else ""), "a") as out: out.write(f"{number} wrong {wrong}\n")
    mine.release()
    if not child and not other.acquire(timeout=60): sys.exit("not woken")
    if not child and os.path.exists(name + ".stop"): memory[64] = 1
if not child: mine.release()
with open(name + (".child" if child else "") + ".end", "w") as out: out.write(f"{number} {wrong} {int.from_bytes(memory[:8], 'little')}\n")
os._exit(0)
END
start pingpong python3 "$dir/pingpong.py" "$dir/pingpong"
child=$(pgrep -P "$pid")
move "$child" n1 n2
both_right pingpong
move "$there" n2 n1
both_right pingpong
touch "$dir/pingpong.stop"
until_true 60 lines "$dir/pingpong.end" 1
until_true 60 lines "$dir/pingpong.child.end" 1

# One that dies leaves the other alone; and if whoever looks after the memory of a node is killed, the
# programs there get a signal, and never zeros.
share dies segment 64
move "$child" n1 n2
kill -9 "$pid"
until_true 60 lines "$dir/dies.child" $(($(wc -l <"$dir/dies.child") + 5))
for keeper in $(keepers n2); do kill -9 "$keeper"; done
until_true 90 said n2 "process $there ended with signal 7"
[[ -z $(grep -v 'wrong 0$' "$dir/dies.child") ]] || fail "it met wrong memory: $(grep -v 'wrong 0$' "$dir/dies.child" | head -n 3)"

# Those of another node go on.
share kept anonymous 64
move "$child" n1 n2
for keeper in $(keepers n2); do kill -9 "$keeper"; done
until_true 90 said n2 "process $there ended with signal 7"
never_wrong kept.child
right kept
touch "$dir/kept.stop"
until_true 90 no_memory

# What would show old bytes is refused before anything is touched.
share opened open 64
expect 3 "$gobmigrate" "$child" n2 --socket "$(socket n1)"
says "has it open as descriptor"
both_right opened
expect 0 "$gobmigrate" "$pid" n2 --socket "$(socket n1)" --dry-run  # they move together
all_counted opened

# A key that leads to the segment: nobody makes a new, empty one by it as long as the old one is used.
share key key 64
key=$((0x60b00000 + pid))
# ask FLAGS: shmget(2) with them says this number, or 0.
ask() { perl -e '$! = 0; shmget($ARGV[0], 64 * 4096, $ARGV[1]); print $! + 0' "$key" "$1"; }
equal "$(ask 0)" 0
move "$child" n1 n2
equal "$(ask $((01600)))" 22 # IPC_CREAT: EINVAL
equal "$(ask $((03600)))" 17 # and IPC_EXCL: EEXIST
equal "$(ask 0)" 22
both_right key
all_counted key
until_true 90 no_memory
no_key() { [[ $(ask 0) -eq 2 ]]; }
until_true 30 no_key

for kind in anonymous segment memfd; do
  share $kind $kind 256
  number=$pid
  [[ $kind != segment ]] || segment=$(awk '$1 == "shm" { next } $5 == '"$number"' { print $2 }' /proc/sysvipc/shm)
  for leg in "n1 n2" "n2 n1" "n1 n2"; do
    read -r from to <<<"$leg"
    move "$child" "$from" "$to"
    [[ $there != none ]] || break
    until_true 30 zombie_or_gone "$child"
    child=$there
    both_right $kind
  done
  [[ $kind != segment ]] || ! grep -q "^ *[-0-9]* *$segment " /proc/sysvipc/shm || fail "segment $segment is still there"
  all_counted $kind
  until_true 90 no_memory
done
for node in n1 n2; do end_server $node; done
finish
