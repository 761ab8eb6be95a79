#!/usr/bin/env bash
# What does not fit into the frames and swap of the cluster, or with --mode basic into /dev/shm, is refused
# before the freeze, with what there is and what to do, and what fits moves. Arguments: gobctl gobd gobmigrate traveller criu_shim.
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
budget=16M
begin 2
one=$(socket n1)
serve n2
until_true 20 said n2 "taking processes"

# Twice 16 MiB are less than 48.
launch large 48
for way in gob basic; do
  for dry in "" --dry-run; do
    # shellcheck disable=SC2086
    expect 3 "$gobmigrate" "$pid" n2 --socket "$one" --mode $way $dry
    says "have to pass through containers, and there is no room"
    says "n1 has 1"
    says "MiB left (budget 16 MiB, no swap), n2 has"
    says "--budget, or --swap"
  done
done
all_right large "$(wc -l <"$dir/large")"
! is_stopped "$pid" || fail "it was stopped"
touch "$dir/large.stop"
until_true 60 gone "$pid"
none_left "$pid"

# A node by itself has no room for these 20 MiB, the two have.
launch fits 20
before=$(wc -l <"$dir/fits")
move "$pid" n1 n2 --wait
equal "$(json 'j["arrival"]["complete"]')" True
all_right fits "$before"
kill "$there"
until_true 60 said n2 "process $there ended"

# One that grows between the look and the freeze goes on: nothing of it has left. CRIU is started
# before the process is stopped.
cat >"$dir/grow.py" <<'END'
import os, sys, time
name, memory, number = sys.argv[1], [], 0
while True:
    if os.path.exists(name + ".grow") and not memory:
        memory = [os.urandom(1 << 20) for _ in range(48)]
        open(name + ".grown", "w").write("all\n")
    with open(name, "a") as out: out.write(f"{number} wrong 0\n")
    number += 1
    time.sleep(0.005)
END
cat >"$dir/grows.sh" <<END
#!/bin/sh
if [ "\$1" = dump ]; then
  touch "$dir/grows.grow"
  while [ ! -s "$dir/grows.grown" ]; do sleep 0.01; done
fi
exec "$criu" "\$@"
END
chmod +x "$dir/grows.sh"
start grows python3 "$dir/grow.py" "$dir/grows"
expect 1 timeout 100 "$gobmigrate" "$pid" n2 --socket "$one" --criu "$dir/grows.sh"
says "the process goes on here"
says "there is no room"
all_right grows "$(wc -l <"$dir/grows")"
kill "$pid"
none_left "$pid"

# With swap it can move.
"$gobctl" cluster down --timeout 10 >/dev/null
wait "${server[n2]}"
unset "server[n2]"
begin 2 --swap 64M
serve n2
until_true 20 eval "[[ \$(grep -c 'taking processes' '$dir/n2.log') -eq 2 ]]"
launch swapped 48
before=$(wc -l <"$dir/swapped")
move "$pid" n1 n2 --wait
all_right swapped "$before"
kill "$there"
until_true 60 said n2 "process $there ended"

# CRIU's files have all memory with basic, and there must be room for them at both ends. Here the end in
# question has a /dev/shm of its own, as another machine would.
shm='mount -t tmpfs -o size=8m none /dev/shm && exec "$@"'
unshare --mount bash -c "$shm" - sleep 600 &
holder=$!
until_true 20 eval "[[ \$(stat -f -c %b /proc/$holder/root/dev/shm) -eq 2048 ]]"
start source nsenter "--mount=/proc/$holder/ns/mnt" "$traveller" "$dir/source" 16
expect 3 nsenter "--mount=/proc/$holder/ns/mnt" "$gobmigrate" "$pid" n2 --socket "$one" --mode basic
says "only 8 MiB are free in /dev/shm here, where CRIU's files of"
says "mount -o remount,size="
says_not "n2 refuses"
all_right source "$(wc -l <"$dir/source")"
kill "$pid" "$holder"
none_left "$pid"
end_server n2
unshare --mount bash -c "$shm" - "$gobmigrate" serve --socket "$(socket n2)" >>"$dir/n2.log" 2>&1 &
server[n2]=$!
until_true 20 eval "[[ \$(grep -c 'taking processes' '$dir/n2.log') -eq 3 ]]"
launch small 16
for dry in "" --dry-run; do
  # shellcheck disable=SC2086
  expect 3 "$gobmigrate" "$pid" n2 --socket "$one" --mode basic $dry
  says "node n2 refuses: only 8 MiB are free in /dev/shm here, where CRIU's files of"
done
before=$(wc -l <"$dir/small")
all_right small "$before"
move "$pid" n1 n2 --wait # with gob they are small
all_right small "$before"
kill "$there"
until_true 60 said n2 "process $there ended"
end_server n2
finish
