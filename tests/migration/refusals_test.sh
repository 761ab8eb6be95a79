#!/usr/bin/env bash
# What is refused before anything is stopped, each with its reason; the process goes on, untouched.
# Arguments: gobctl gobd gobmigrate traveller criu_shim.
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
begin 2
one=$(socket n1)
cp "$criu" "$dir/criu-of-n2.sh"
GOB_CRIU=$dir/criu-of-n2.sh serve n2
until_true 20 said n2 "taking processes"

# odd.py NAME KIND: writes to NAME.pid which process is to move, and then goes on until NAME.stop is there,
# as do the processes that it leaves behind.
cat >"$dir/odd.py" <<'END'
import ctypes, mmap, os, pty, socket, struct, sys, time
name, kind = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        with open(name + ".pid", "w") as out: out.write(f"lacks {os.strerror(ctypes.get_errno())}\n")
        sys.exit(1)
    return result
def also(): pass
def go_on():
    while not os.path.exists(name + ".stop"):
        also()
        time.sleep(0.01)
    os._exit(0)
def this_moves():
    with open(name + ".new", "w") as out: out.write(f"{os.getpid()}\n")
    os.rename(name + ".new", name + ".pid")
    go_on()
def child_moves(first=lambda: None):  # the parent stays
    if os.fork() == 0:
        first()
        this_moves()
    go_on()
def mapped(size, fd):
    return mmap.mmap(fd, size, flags=mmap.MAP_SHARED)

if kind == "io_uring": kept = call(425, 4, ctypes.create_string_buffer(120))
elif kind == "bpf": kept = call(321, 0, struct.pack("IIII", 2, 4, 8, 1).ljust(128, b"\0"), 128)  # an array
elif kind == "perf": kept = call(298, struct.pack("IIQ", 1, 128, 0).ljust(128, b"\0"), 0, -1, -1, 0)
elif kind == "userfaultfd": kept = call(323, 1)
elif kind == "semaphore": kept = os.eventfd(3, os.EFD_SEMAPHORE)
elif kind == "packets":
    ends = os.pipe2(os.O_DIRECT)
    child_moves(lambda: os.close(ends[0]))
elif kind == "own-packets":
    ends = os.pipe2(os.O_DIRECT)
    this_moves()
elif kind == "both-ends":
    ends = os.pipe()
    child_moves()
elif kind == "nine-pipes":
    ends = [os.pipe() for _ in range(9)]
    if os.fork() == 0:
        for into, out in ends: os.close(out)
        this_moves()
    for into, out in ends: os.close(into)
    go_on()
elif kind == "two-terminals":
    ends = [pty.openpty() for _ in range(2)]
    def child():
        for master, slave in ends: os.close(master)
        os.setsid()
        for i in range(2): os.dup2(ends[i][1], i)
    child_moves(child)
elif kind == "linked":
    kept = open(name + ".data", "w")
    os.link(name + ".data", name + ".other")
    os.unlink(name + ".data")
elif kind == "large":
    kept = open(name + ".data", "w")
    os.truncate(name + ".data", 65 << 20)
    os.unlink(name + ".data")
elif kind == "folder":
    os.mkdir(name + ".folder"); os.chdir(name + ".folder"); os.rmdir(name + ".folder")
elif kind == "loopback":
    there = socket.create_server(("127.0.0.1", 0))
    def child():
        global here
        there.close()
        here = socket.create_connection(there_at)
    there_at = there.getsockname()
    child_moves(child)
elif kind == "descriptor":
    file = os.memfd_create("descriptor"); os.truncate(file, 8192)
    kept = mapped(8192, file)
    child_moves(lambda: os.close(file))
elif kind == "beyond":
    file = os.memfd_create("beyond"); os.truncate(file, 8192)
    kept = mapped(8192, file)
    os.truncate(file, 4096)
    os.close(file)
    child_moves()
elif kind == "huge":
    kept = mmap.mmap(-1, 2 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)  # MAP_HUGETLB
    kept[0] = 1
elif kind == "huge-common":  # the parent has it, too
    file = os.memfd_create("huge", 4); os.truncate(file, 2 << 20)  # MFD_HUGETLB
    kept = mapped(2 << 20, file)
    os.close(file)
    kept[0] = 1
    child_moves()
elif kind == "late-terminal":
    def also():
        if not os.path.exists(name + ".opened") and os.path.exists(name + ".terminal"):
            global kept
            kept = os.open(open(name + ".terminal").read().strip(), os.O_RDWR | os.O_NOCTTY)
            open(name + ".opened", "w").close()
elif kind == "old-libgob":
    file = os.memfd_create("gob:container"); os.truncate(file, 8192)
    kept = mapped(8192, file)
    os.close(file)
elif kind == "left-behind":  # a descendant of a migrant whose parent has ended
    if os.fork() == 0:
        if os.fork() == 0: go_on()
        while not os.path.exists(name + ".leave"): time.sleep(0.01)
        os._exit(0)
    import signal
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
this_moves()
END
# odd KIND: one such process; then in $pid, or that is why there is none.
odd() {
  (
    for fd in "/proc/$BASHPID/fd"/*; do
      [[ ${fd##*/} -le 2 ]] || eval "exec ${fd##*/}>&-"
    done
    exec setsid python3 "$dir/odd.py" "$dir/$1" "$1"
  ) </dev/null >"$dir/$1.said" 2>&1 &
  disown
  until_true 30 lines "$dir/$1.pid" 1 || fail "$1: $(cat "$dir/$1.said")"
  pid=$(<"$dir/$1.pid")
}
# refuses WORD OPTIONS...: $pid is not moved, and still runs.
refuses() {
  expect 3 "$gobmigrate" "$pid" n2 --socket "$one" "${@:2}"
  says "it was not touched"
  says "$1"
  if gone "$pid" || is_stopped "$pid"; then fail "it does not run any more"; fi
}
declare -A words=(
  [io_uring]="anon_inode:[io_uring], which CRIU cannot move"
  [bpf]="anon_inode:bpf-map, which CRIU cannot move"
  [perf]="anon_inode:[perf_event], which CRIU cannot move"
  [userfaultfd]="anon_inode:[userfaultfd], which CRIU cannot move"
  [semaphore]="counts as a semaphore (EFD_SEMAPHORE)"
  [packets]="in packets, which cannot be relayed"
  [own-packets]="in packets (O_DIRECT), which CRIU cannot move"
  [both-ends]="of which the processes that move have both ends"
  [nine-pipes]="more than 8 pipes to processes that stay are not relayed"
  [two-terminals]="only one terminal can be relayed"
  [linked]="is a folder, or has another name"
  [large]="has more than the 64 MiB that are copied"
  [folder]="is a folder, or has another name"
  [loopback]="of this node, which stays: close it first"
  [descriptor]="which would show old bytes"
  [beyond]="has mapped more than there is of"
  [old-libgob]="its libgob is of a release that cannot move"
  [huge]="has mapped /anon_hugepage (deleted), which CRIU cannot move"
  [huge-common]="pages of another size"
)
# Huge pages for two of them, given back at the end.
huge=/proc/sys/vm/nr_hugepages
huge_before=$(cat $huge 2>/dev/null)
give_back() { [[ -z $huge_before ]] || echo "$huge_before" 2>/dev/null >$huge; }
trap 'clean_up; give_back' EXIT
[[ -z $huge_before ]] || echo $((huge_before + 2)) 2>/dev/null >$huge
if [[ ! $(cat $huge 2>/dev/null) -ge $((${huge_before:-0} + 2)) ]]; then
  echo "not tested: memory of huge pages, of which this machine gives none"
  unset "words[huge]" "words[huge-common]"
fi
for kind in "${!words[@]}"; do
  odd "$kind"
  if [[ $pid == lacks* ]]; then
    echo "not tested: this kernel $pid ($kind)"
    continue
  fi
  refuses "${words[$kind]}"
  touch "$dir/$kind.stop"
  until_true 20 zombie_or_gone "$pid"
done

# Namespaces of its own. The program itself, whoever starts it.
for kind in pid mount net ipc uts user cgroup; do
  # shellcheck disable=SC2016
  unshare --fork --kill-child "--$kind" sleep 600 &
  outer=$!
  until_true 20 pgrep -P "$outer" -x sleep >/dev/null
  pid=$(pgrep -P "$outer" -x sleep)
  refuses "in another ${kind/mount/mnt} namespace than gobmigrate"
  kill -KILL "$outer" # it does not hear of others
  until_true 20 zombie_or_gone "$pid"
done

# Being traced. The tracer seizes it and waits.
launch traced 4
python3 -c 'import ctypes, sys, time
result = ctypes.CDLL(None).ptrace(0x4206, int(sys.argv[1]), None, None)
print(result, flush=True)
time.sleep(600)' "$pid" >"$dir/tracer.said" &
tracer=$!
until_true 20 lines "$dir/tracer.said" 1
equal "$(<"$dir/tracer.said")" 0
refuses "is being traced by process $tracer; end the debugger first"
kill "$tracer"
wait "$tracer"
# Stopped.
kill -STOP "$pid"
until_true 20 is_stopped "$pid"
expect 3 "$gobmigrate" "$pid" n2 --socket "$one"
says "is stopped; continue it first"
kill -CONT "$pid"

# CRIU at the source: missing, too old, or one that does not know the kernel. For a move that fails when CRIU
# begins, before anything is stopped.
expect 3 "$gobmigrate" "$pid" n2 --socket "$one" --criu "$dir/missing"
says "does not answer like CRIU (status 127)"
printf '#!/bin/sh\necho "Version: 3.16.1"\n' >"$dir/old.sh"
cat >"$dir/unknown.sh" <<END
#!/bin/sh
error="Error (criu/crtools.c:260): Could not initialize kernel features detection."
case \$1 in
  check) echo "\$error" >&2; exit 1 ;;
  dump)
    while [ "\$1" != --images-dir ]; do shift; done
    echo "\$error" >"\$2/dump.log"
    exit 1
    ;;
  *) exec "$criu" "\$@" ;;
esac
END
chmod +x "$dir"/*.sh
expect 3 "$gobmigrate" "$pid" n2 --socket "$one" --criu "$dir/old.sh"
says "CRIU 3.16.1 is too old; 3.17 or later is needed"
for dry in "" --dry-run; do
  # shellcheck disable=SC2086
  expect 3 "$gobmigrate" "$pid" n2 --socket "$one" --criu "$dir/unknown.sh" $dry
  says "it does not know this kernel, Linux $(uname -r); install a later one"
done
# And at the target, where the server does not even start with such a one.
expect 3 "$gobmigrate" serve --socket "$(socket n1)" --criu "$dir/unknown.sh"
says "it does not know this kernel"
expect 3 "$gobmigrate" serve --socket "$(socket n1)" --criu "$dir/old.sh"
says "too old"
rm "$dir/criu-of-n2.sh"
refuses "node n2 refuses: \"$dir/criu-of-n2.sh --version\" does not answer like CRIU"
cp "$dir/old.sh" "$dir/criu-of-n2.sh"
refuses "node n2 refuses: CRIU 3.16.1 is too old"
cp "$criu" "$dir/criu-of-n2.sh"

# What came here moves on as a whole, from here, and not without its memory. It can move at all.
launch whole 64 tree
move "$pid" n1 n2 --no-stream
child=$(pgrep -P "$there" -x traveller)
serve n1
until_true 20 said n1 "taking processes"
expect 3 "$gobmigrate" "$there" n2 --socket "$one"
says "belongs to node n2: start gobmigrate with the socket of its gobd"
expect 3 "$gobmigrate" "$child" n1 --socket "$(socket n2)"
says "came here with its parent: they only move on together"
touch "$dir/whole.stop"
until_true 60 said n2 "process $there ended with status 7"
launch corner 64 corner
move "$pid" n1 n2 --no-stream
expect 3 "$gobmigrate" "$there" n1 --socket "$(socket n2)" --mode basic
says "part of its memory is still on its way here"
kill "$there"
until_true 60 said n2 "process $there ended"
odd left-behind
move "$pid" n1 n2
touch "$dir/left-behind.leave"
until_true 30 eval "! pgrep -P $there"
expect 3 "$gobmigrate" "$there" n1 --socket "$(socket n2)"
says "is no descendant of it any more: it would be left behind"
touch "$dir/left-behind.stop"
until_true 60 said n2 "process $there ended"

# A terminal that it opens where it is now; that of its first node would be relayed.
python3 -c 'import os, pty, sys, time
master, slave = pty.openpty()
with open(sys.argv[1] + ".new", "w") as out: out.write(os.ttyname(slave) + "\n")
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(600)' "$dir/late-terminal.other" &
terminal=$!
until_true 20 lines "$dir/late-terminal.other" 1
odd late-terminal
move "$pid" n1 n2
mv "$dir/late-terminal.other" "$dir/late-terminal.terminal"
until_true 30 test -e "$dir/late-terminal.opened"
expect 3 "$gobmigrate" "$there" n1 --socket "$(socket n2)"
says "it was not touched"
says "a terminal that it has opened since it came here"
touch "$dir/late-terminal.stop"
until_true 60 said n2 "process $there ended"
kill "$terminal"
wait "$terminal"

touch "$dir/traced.stop"
end_server n1
end_server n2
finish
