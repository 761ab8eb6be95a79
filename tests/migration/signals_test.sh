#!/usr/bin/env bash
# Timers and signals go along: those that run, those that are pending, and the descriptors that tell of
# them. The program checks itself. Arguments: gobctl gobd gobmigrate traveller criu_shim.
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
begin 2
for node in n1 n2; do serve $node && until_true 20 said $node "taking processes"; done

# Before each move NAME.arm makes it queue what shall be pending; NAME.armed says that it has. After the move
# NAME.check makes it look at all, and write what is wrong, or "right", to NAME.looked.
cat >"$dir/timers.py" <<'END'
import ctypes, os, select, signal, struct, sys, time
name = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
def do(function, *arguments):
    result = getattr(libc, function)(*arguments)
    if result < 0: raise OSError(ctypes.get_errno(), function)
    return result
class Spec(ctypes.Structure):
    _fields_ = [(each, ctypes.c_long) for each in ("every_s", "every_ns", "in_s", "in_ns")]
class Event(ctypes.Structure):
    _fields_ = [("value", ctypes.c_void_p), ("signo", ctypes.c_int), ("notify", ctypes.c_int), ("pad", ctypes.c_char * 48)]
fast, slow = Spec(0, 20_000_000, 0, 20_000_000), Spec(0, 0, 5000, 0)
now = ctypes.byref
counts = dict.fromkeys(("real", "virtual", "posix", "usr1"), 0)
def count(what): return lambda *_: counts.__setitem__(what, counts[what] + 1)
signal.signal(signal.SIGALRM, count("real"))
signal.signal(signal.SIGVTALRM, count("virtual"))
signal.signal(signal.SIGRTMIN + 1, count("posix"))
signal.signal(signal.SIGUSR1, count("usr1"))
blocked = {signal.SIGUSR1, signal.SIGUSR2, signal.SIGRTMIN + 2}
signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
mask = struct.pack("Q", sum(1 << (each - 1) for each in (signal.SIGUSR2, signal.SIGRTMIN + 2)))
signals = do("signalfd", -1, mask, os.O_NONBLOCK)
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
signal.setitimer(signal.ITIMER_VIRTUAL, 0.02, 0.02)
signal.setitimer(signal.ITIMER_PROF, 5000)  # once
posix = ctypes.c_void_p()
do("timer_create", 1, now(Event(0, signal.SIGRTMIN + 1, 0)), now(posix))
do("timer_settime", posix, 0, now(fast), None)
ticking, waiting = [do("timerfd_create", 1, os.O_NONBLOCK) for _ in range(2)]
do("timerfd_settime", ticking, 0, now(fast), None)
do("timerfd_settime", waiting, 0, now(slow), None)
counter = os.eventfd(12345, os.EFD_NONBLOCK)
poll = select.epoll()
for fd in (counter, signals): poll.register(fd, select.EPOLLIN)
wrong, moves = [], 0
def must(what, right):
    if not right: wrong.append(what)
def arm():
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR2)
    for value in (7, 8): do("sigqueue", os.getpid(), signal.SIGRTMIN + 2, ctypes.c_void_p(value))
def check():
    global moves
    moves += 1
    before = dict(counts)
    must("pending", signal.sigpending() >= blocked)
    must("ready", dict(poll.poll(0)).keys() == {counter, signals})
    heard = [struct.unpack_from("IiiIIiIIIIii", os.read(signals, 128)) for _ in range(3)]
    must(f"signalfd {heard}", [(each[0], each[11]) for each in heard] ==
         [(signal.SIGUSR2, 0), (signal.SIGRTMIN + 2, 7), (signal.SIGRTMIN + 2, 8)])
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    must("usr1", counts["usr1"] == moves)
    must("counter", os.eventfd_read(counter) == 12345)
    os.eventfd_write(counter, 12345)
    left = Spec()
    do("timerfd_gettime", waiting, now(left))
    must(f"waiting {left.in_s}", 4000 < left.in_s < 5000)
    once = signal.getitimer(signal.ITIMER_PROF)
    must(f"once {once}", 4000 < once[0] < 5000 and once[1] == 0)
    must("every", signal.getitimer(signal.ITIMER_REAL)[1] == 0.02)
    try: os.read(ticking, 8)  # the next one comes anew
    except BlockingIOError: pass
    last = time.monotonic() + 60
    ticks = 0
    while time.monotonic() < last and (ticks == 0 or any(counts[each] == before[each] for each in ("real", "virtual", "posix"))):
        try: ticks += struct.unpack("Q", os.read(ticking, 8))[0]
        except BlockingIOError: pass
    must(f"ticks {ticks}", ticks > 0)
    for each in ("real", "virtual", "posix"): must(each, counts[each] > before[each])
number = 0
while not os.path.exists(name + ".stop"):
    if os.path.exists(name + ".arm"):
        os.unlink(name + ".arm"); arm()
        open(name + ".armed", "w").write("armed\n")
    if os.path.exists(name + ".check"):
        os.unlink(name + ".check"); check()
        with open(name + ".new", "w") as out: out.write(" ".join(wrong) or "right"); out.write("\n")
        os.rename(name + ".new", name + ".looked")
    with open(name, "a") as out: out.write(f"{number} wrong {len(wrong)}\n")
    number += 1
    time.sleep(0.005)
os._exit(7)  # as python puts default handlers back when it ends
END
start timers python3 "$dir/timers.py" "$dir/timers"
from=n1
for to in n2 n1; do
  touch "$dir/timers.arm"
  until_true 30 lines "$dir/timers.armed" 1
  move "$pid" $from $to
  rm "$dir/timers.armed"
  touch "$dir/timers.check"
  until_true 90 lines "$dir/timers.looked" 1
  equal "$(<"$dir/timers.looked")" right
  rm "$dir/timers.looked"
  pid=$there from=$to
done
touch "$dir/timers.stop"
until_true 60 said n1 "process $pid ended with status 7"

# What a process has asked to be ended by ends it, wherever it is by then.
cat >"$dir/alarm.py" <<'END'
import signal, sys, time
signal.alarm(12)
number = 0
while True:
    with open(sys.argv[1], "a") as out: out.write(f"{number} wrong 0\n")
    number += 1
    time.sleep(0.005)
END
start alarm python3 "$dir/alarm.py" "$dir/alarm"
move "$pid" n1 n2
until_true 60 said n2 "process $there ended with signal 14"

# What is watched is known by numbers of one machine: there it goes along, to another it is refused.
cat >"$dir/watch.py" <<'END'
import ctypes, os, sys, time
name = sys.argv[1]
libc = ctypes.CDLL(None)
watch = libc.inotify_init1(os.O_NONBLOCK)
os.mkdir(name + ".watched")
if libc.inotify_add_watch(watch, (name + ".watched").encode(), 0x100) < 0: sys.exit(1)  # made
number = 0
while not os.path.exists(name + ".stop"):
    try:
        event = os.read(watch, 4096)
        open(name + ".seen", "a").write(event[16:].rstrip(b"\0").decode() + "\n")
    except BlockingIOError: pass
    with open(name, "a") as out: out.write(f"{number} wrong 0\n")
    number += 1
    time.sleep(0.005)
sys.exit(7)
END
start watch python3 "$dir/watch.py" "$dir/watch"
move "$pid" n1 n2
touch "$dir/watch.watched/one"
until_true 30 lines "$dir/watch.seen" 1
equal "$(<"$dir/watch.seen")" one
end_server n1
cat /proc/sys/kernel/random/uuid >"$dir/boot"
# shellcheck disable=SC2016  # it is another shell's
unshare --mount bash -c 'mount --bind "$1" /proc/sys/kernel/random/boot_id && exec "$2" serve --socket "$3"' \
  - "$dir/boot" "$gobmigrate" "$(socket n1)" >>"$dir/n1.log" 2>&1 &
server[n1]=$!
until_true 20 eval "[[ \$(grep -c 'taking processes' '$dir/n1.log') -eq 2 ]]"
expect 3 "$gobmigrate" "$there" n1 --socket "$(socket n2)"
says "watches files (inotify: 1)"
touch "$dir/watch.stop"
until_true 60 said n2 "process $there ended with status 7"
for node in n1 n2; do end_server $node; done
finish
