#!/usr/bin/env bash
# What processes share goes along with them and stays shared; what they share with others, and
# whatever else could not come, is refused before anything is touched.
# Arguments: gobctl gobd gobmigrate traveller criu_shim libgob.so.
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
libgob=$6
begin 2 --mount
serve n1
mkdir "$dir/disk"
# The target has no room for anything of more than some megabytes.
echo "MemAvailable: 80000 kB" >"$dir/meminfo"
# shellcheck disable=SC2016
unshare --mount bash -c 'mount --bind "$1" /proc/meminfo && exec "$2" serve --socket "$3"' \
  - "$dir/meminfo" "$gobmigrate" "$(socket n2)" >>"$dir/n2.log" 2>&1 &
server[n2]=$!
for node in n1 n2; do until_true 20 said $node "taking processes"; done
printf 'before%4090s' '' >"$dir/disk/seen"
expect 0 "$gobctl" attach work --tree "$dir/disk" --node n1
expect 0 "$gobctl" create pool --size 1M --node n1

# refused TEXT...: $pid cannot be moved, for these reasons, and runs on.
refused() {
  local text
  expect 3 "$gobmigrate" "$pid" n2 --socket "$(socket n1)" --dry-run --json
  out=$(json '"\n".join(j["obstacles"] + [j["target_refuses"]])')
  for text; do says "$text"; done
  ! is_stopped "$pid" || fail "it was stopped"
}
# held WORDS...: a program that could be moved but for what these words of Python do.
held() {
  start held python3 -c "import ctypes, fcntl, mmap, os, socket, sys, time
libc = ctypes.CDLL(None)
$1
with open(sys.argv[1], 'a') as out: out.write('1\n2\n3\n')
while True: time.sleep(0.1)" "$dir/held" "${@:2}"
}
release() { kill -9 "$pid"; until_true 10 zombie_or_gone "$pid"; rm -f "$dir/held"; }

held "
uffd = libc.syscall(323, 0o2000000 | 1)
terminal = os.open('/dev/ptmx', os.O_RDWR)
net = socket.socket(); net.bind(('127.0.0.1', 0)); net.listen(); end = socket.create_connection(net.getsockname())
kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
named = socket.socket(socket.AF_UNIX); named.bind('\0gob-sharing-test-%d' % os.getpid()); named.listen()
gob = ctypes.CDLL(sys.argv[2])
connection, pool, at = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
assert gob.gob_connect(sys.argv[3].encode(), ctypes.byref(connection)) == 0
assert gob.gob_open(connection, b'pool', 3, ctypes.byref(pool)) == 0
gob.gob_map.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
assert gob.gob_map(pool, 0, 0, 3, ctypes.byref(at)) == 0
large = os.open(sys.argv[4] + '/large', os.O_RDWR | os.O_CREAT); os.ftruncate(large, 65 << 20); os.unlink(sys.argv[4] + '/large')
folder = sys.argv[4] + '/folder'; os.mkdir(folder); os.chdir(folder); os.rmdir(folder)
" "$libgob" "$(socket n1)" "$dir"
refused "[userfaultfd], which CRIU cannot move" "/dev/ptmx, a device, or a terminal" "of this node, which stays" "is a socket neither of TCP" \
  "is a Unix socket with a name" \
  "/large (deleted) was removed while in use, and has more than the 64 MiB" "/folder (deleted) was removed while in use, and is a folder"
release

# Shared with a process that stays: memory, one end of a pair, a file without a name.
held "
memory = os.memfd_create('common'); os.ftruncate(memory, 4096); mapped = mmap.mmap(memory, 4096)
one, other = socket.socketpair()
gone = open(sys.argv[2] + '/gone', 'w+'); os.unlink(sys.argv[2] + '/gone')
os.mkfifo(sys.argv[2] + '/fifo'); fifo = os.open(sys.argv[2] + '/fifo', os.O_RDWR)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        one.close()
        while os.getppid() != 1: time.sleep(0.1)
        with open(sys.argv[1] + '.other', 'w') as out: out.write('%d\n' % os.getpid())
        while True: time.sleep(0.1)
    os._exit(0)
os.wait()
while not os.path.exists(sys.argv[1] + '.other'): time.sleep(0.01)
" "$dir"
until_true 10 lines "$dir/held.other" 1
other=$(<"$dir/held.other")
refused "the memory /memfd:common of process $pid is shared and cannot become a container: process" "has it open as descriptor" "is a Unix socket, which process $other has" \
  "/gone (deleted) was removed while in use, which process $other has" "is the named pipe $dir/fifo, which process $other has"
kill -9 "$other"
release

# Not itself, but how it runs.
held "" && kill -STOP "$pid" && until_true 10 is_stopped "$pid"
expect 3 "$gobmigrate" "$pid" n2 --socket "$(socket n1)"
says "is stopped; continue it first"
release
start held unshare --mount python3 -c 'import sys, time
with open(sys.argv[1], "a") as out: out.write("1\n2\n3\n")
while True: time.sleep(0.1)' "$dir/held"
refused "is in another mnt namespace than gobmigrate"
release
held "block = mmap.mmap(-1, 48 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); block.write(b'x' * (48 << 20))"
refused "MiB of memory are free here"
chmod 711 "$dir" && cp "$gobmigrate" "$dir/program"
expect 3 setpriv --reuid 65534 --regid 65534 --clear-groups "$dir/program" "$pid" n2 --socket "$(socket n1)"
says "needs root"
release

# Two processes and a thread, which share all they have; each has something to wait for in the kernel
# when it moves, and gets it afterwards.
cat >"$dir/shares.py" <<'END'
import mmap, os, select, socket, sys, tempfile, threading
name, seen = sys.argv[1:]
kSize = 1 << 20
memory = mmap.mmap(-1, kSize)
fd = os.memfd_create("common"); os.ftruncate(fd, kSize)
pool = mmap.mmap(fd, kSize)
nameless = tempfile.TemporaryFile(dir=os.path.dirname(name)); nameless.write(bytes(range(256)) * 400); nameless.flush()
gone = open(name + ".gone", "w+"); os.unlink(name + ".gone")
mine, childs = socket.socketpair()
into, out_of = os.pipe()
file = open(seen, "rb")
mapped = mmap.mmap(file.fileno(), 4096, mmap.MAP_SHARED, mmap.PROT_READ)
if os.fork() == 0:
    mine.close()
    while True:
        word = childs.recv(8)
        if not word: os._exit(0)
        at = int.from_bytes(word, "little") * 64 % kSize
        memory[at:at + 8] = word
        pool[kSize - 64 - at:kSize - 56 - at] = word
        gone.seek(0, 2); gone.write(word.hex()); gone.flush()
        childs.send(word)
childs.close()
# A thread that waits for a byte that comes only when the test says so, and one that waits for it.
told = threading.Event()
def wait():
    poll = select.epoll(); poll.register(into, select.EPOLLIN); poll.poll()
    if os.read(into, 1) == b"!": told.set()
threading.Thread(target=wait, daemon=True).start()
threading.Thread(target=lambda: (told.wait(), open(name + ".told", "w").write("told\n"))).start()
number = wrong = 0
while not os.path.exists(name + ".stop"):
    word = number.to_bytes(8, "little")
    mine.send(word)
    at = number * 64 % kSize
    wrong += mine.recv(8) != word or memory[at:at + 8] != word or pool[kSize - 64 - at:kSize - 56 - at] != word
    nameless.seek(0); wrong += nameless.read() != bytes(range(256)) * 400
    gone.seek(16 * number); wrong += gone.read() != word.hex()
    if os.path.exists(name + ".go"): os.unlink(name + ".go"); os.write(out_of, b"!")
    with open(name, "a") as out: out.write(f"{number} {os.getpid()} wrong {wrong}\n")
    with open(name + ".seen", "w") as out: out.write(mapped[:6].decode() + "\n")
    number += 1
sys.exit(7)
END
launch_shares() { start shares python3 "$dir/shares.py" "$dir/shares" "$GOB_DIR/n1.mnt/work/seen"; }
launch_shares
until_true 30 grep -q "^before" "$dir/shares.seen"
numbers=("$pid")
at=n1
for to in n2 n1; do
  before=$(wc -l <"$dir/shares")
  move "$pid" $at $to
  [[ $there != none ]] || break
  until_true 30 gone "$pid"
  pid=$there at=$to
  numbers+=("$pid")
  all_right shares "$before"
  # It sees what others write into the file that it has mapped.
  printf 'at_%s' "$at x" | head -c 6 | dd of="$GOB_DIR/n1.mnt/work/seen" conv=notrunc status=none
  until_true 30 grep -q "^at_$at" "$dir/shares.seen"
done
[[ ! -e $dir/shares.told ]] || fail "nobody waited during the moves"
touch "$dir/shares.go"
until_true 30 lines "$dir/shares.told" 1
touch "$dir/shares.stop"
until_true 60 said $at "process $pid ended with status 7"
none_left "${numbers[@]}"

for node in n1 n2; do end_server $node; done
finish
