#!/usr/bin/env bash
# Programs with containers mapped move, and go on sharing them with programs on other nodes.
# Arguments: gobctl gobd gobmigrate traveller criu_shim libgob.so.
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
libgob=$6
begin 3 --mount
mkdir "$dir/disk"
head -c 8192 /dev/zero >"$dir/disk/table"
expect 0 "$gobctl" attach work --tree "$dir/disk" --node n1
expect 0 "$gobctl" create pool --size 1M --node n1
expect 0 "$gobctl" create other --size 64K --node n1
for node in n1 n2; do serve $node && until_true 10 said $node "taking processes"; done

# Each of two programs adds to one number under one lock, and says how often: nothing may get lost.
# Each also writes words of its own that nobody else changes, and looks whether they stay.
cat >"$dir/adder.py" <<'END'
import ctypes, os, sys, threading, time
name, lib, socket, file, count, mine = sys.argv[1:]
gob = ctypes.CDLL(lib, use_errno=True)
gob.gob_last_error.restype = ctypes.c_char_p
def do(call, *words):
    if call(*words) != 0: sys.exit(call.__name__ + ": " + gob.gob_last_error().decode())
connection = ctypes.c_void_p()
do(gob.gob_connect, socket.encode(), ctypes.byref(connection))
gob.gob_map.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
def mapped(container):
    at = ctypes.c_void_p()
    do(gob.gob_map, container, 0, 0, 3, ctypes.byref(at))
    return at.value
def opened(word):
    container = ctypes.c_void_p()
    do(gob.gob_open, connection, word, 3, ctypes.byref(container))
    return container
def of_file():
    container = ctypes.c_void_p()
    fd = os.open(file, os.O_RDWR)
    do(gob.gob_open_file, connection, fd, ctypes.byref(container))
    os.close(fd)
    return container
places = [mapped(opened(b"pool")), mapped(opened(b"other")), mapped(of_file())]
sums = [ctypes.c_uint64.from_address(at) for at in places]
own = [ctypes.c_uint64.from_address(at + 4096 + 8 * int(mine)) for at in places]
wrong = number = 0
stop = False
def looks():  # a thread that only touches memory
    last = 0
    global wrong
    while not stop:
        now = sums[0].value
        wrong += now < last
        last = now
        time.sleep(0.001)
if count == "threads": threading.Thread(target=looks).start()
while not os.path.exists(name + ".stop"):
    number += 1
    do(gob.gob_lock, connection, b"sum", ctypes.c_int64(-1))
    for each in sums: each.value += 1
    do(gob.gob_unlock, connection, b"sum")
    wrong += any(each.value != number - 1 for each in own)
    for each in own: each.value = number
    with open(name, "a") as out: out.write(f"{number} wrong {wrong}\n")
    time.sleep(0.005)  # or they would take the cores from whoever moves them
stop = True
do(gob.gob_lock, connection, b"sum", ctypes.c_int64(-1))
with open(name + ".sum", "w") as out: out.write(f"{number} {wrong} {' '.join(str(each.value) for each in sums)} {gob.gob_node_id(connection)}\n")
do(gob.gob_unlock, connection, b"sum")
END
adder() { start "$1" python3 "$dir/adder.py" "$dir/$1" "$libgob" "$(socket "$2")" "$GOB_DIR/$2.mnt/work/table" "${@:3}"; }

adder stays n3 plain 1
adder moves n1 threads 2
# A move that fails puts it back, with its containers.
before=$(wc -l <"$dir/moves")
# It waits as CRIU does until the process stands still and has let go of its containers.
cat >"$dir/no-dump.sh" <<END
#!/bin/sh
if [ "\$1" = dump ]; then
  while [ "\$1" != --images-dir ]; do shift; done
  ls "\$2/plugins" && cat "\$2/irmap-cache" >/dev/null
  ! ls -l /proc/$pid/fd | grep -q userfaultfd || touch "$dir/too-early"
  [ ! -e "$dir/killer" ] || kill -9 "\$(cat "$dir/killer")"
  exit 1
fi
exec "$criu" "\$@"
END
chmod +x "$dir/no-dump.sh"
fails() { GOB_CRIU=$dir/no-dump.sh exec "$gobmigrate" "$pid" n2 --socket "$(socket n1)"; }
(fails) >"$dir/failed" 2>&1
equal $? 1
all_right moves "$before"
# So does the guard, if gobmigrate is killed when it has let go of them.
before=$(wc -l <"$dir/moves")
(echo "$BASHPID" >"$dir/killer"; fails) >"$dir/failed" 2>&1
equal $? 137
all_right moves "$before"
[[ ! -e $dir/too-early ]] || fail "it had not let go of its containers"

for leg in "n1 n2" "n2 n1" "n1 n2"; do
  read -r from to <<<"$leg"
  before=$(wc -l <"$dir/moves")
  there_before=$(wc -l <"$dir/stays")
  move "$pid" "$from" "$to"
  [[ $there != none ]] || break
  until_true 30 gone "$pid"
  pid=$there
  all_right moves "$before"
  all_right stays "$there_before"
done

touch "$dir/moves.stop" "$dir/stays.stop"
until_true 60 lines "$dir/moves.sum" 1
until_true 60 lines "$dir/stays.sum" 1
read -r moved_count wrong _ <"$dir/moves.sum"
equal "$wrong" 0
read -r stayed_count wrong _ <"$dir/stays.sum"
equal "$wrong" 0
# Whoever stopped last saw all that either added, in every container.
last=$(sort -k3 -n "$dir/moves.sum" "$dir/stays.sum" | tail -n 1)
read -r _ _ sum_pool sum_other sum_file _ <<<"$last"
equal "$sum_pool" $((moved_count + stayed_count))
equal "$sum_other" $((moved_count + stayed_count))
equal "$sum_file" $((moved_count + stayed_count))
# It is the other node's program by now.
read -r _ _ _ _ _ node <"$dir/moves.sum"
equal "$node" 1
finish
