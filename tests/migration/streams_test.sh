#!/usr/bin/env bash
# Pipes to processes that stay go on working, byte for byte, wherever the process goes; nothing is
# left waiting when one end dies. Arguments: gobctl gobd gobmigrate traveller criu_shim.
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
# What stays, if a check failed, and what it started.
clean_up_python() {
  local at
  for at in $(pgrep -f "$dir/[a-z]*\.py"); do kill -9 "$at" 2>/dev/null; done
  clean_up
}
trap clean_up_python EXIT
begin 3
for node in n1 n2; do serve $node; done
serve_moodily n3
for node in n1 n2 n3; do until_true 20 said $node "taking processes"; done

# Answers each line of its input with its number, and reports to its standard error now and then.
cat >"$dir/echo.py" <<'END'
import sys
number = 0
for line in sys.stdin.buffer:
    sys.stdout.buffer.write(b"%d " % number + line)
    sys.stdout.buffer.flush()
    number += 1
    if number % 100 == 0: print(number, file=sys.stderr, flush=True)
print("end", number, flush=True)
sys.exit(9)
END
# Writes as fast as it is read.
cat >"$dir/pour.py" <<'END'
import os, signal
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
number = 0
while True:
    os.write(1, b"".join(b"%09d\n" % i for i in range(number, number + 100)))
    number += 100
END
# What stays: starts a program with pipes to itself, checks all that comes, and writes a line for each
# hundred answers to FILE, and in the end what it saw to FILE.end. Arguments: FILE, echo | pour, PROGRAM.
cat >"$dir/stays.py" <<'END'
import os, subprocess, sys, threading, time
name, how, *program = sys.argv[1:]
child = subprocess.Popen(["setsid", *program], stdin=subprocess.PIPE if how == "echo" else subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE if how == "echo" else subprocess.DEVNULL)
open(name + ".pid", "w").write(f"{child.pid}\n")
progress = open(name, "w", buffering=1)
written = 0
def feed():
    global written
    try:
        while not os.path.exists(name + ".stop"):
            child.stdin.write(b"line %d\n" % written); child.stdin.flush()
            written += 1
    except BrokenPipeError: pass
    child.stdin.close()
reports = []
verdict = "right"
if how == "echo":
    feeder = threading.Thread(target=feed); feeder.start()
    listener = threading.Thread(target=lambda: reports.extend(child.stderr)); listener.start()
    number = 0
    end = b""
    for line in child.stdout:
        if not line.endswith(b"\n"): break  # cut
        if line.startswith(b"end"): end = line; continue
        if line != b"%d line %d\n" % (number, number): verdict = f"wrong answer {number}: {line}"
        number += 1
        if number % 100 == 0: progress.write(f"{number}\n")
    if not os.path.exists(name + ".stop"): open(name + ".stop", "w")
    feeder.join(); listener.join()
    if end == b"": verdict += ", cut"
    elif end != b"end %d\n" % written or number != written: verdict = f"{number} answers to {written}, {end}"
    elif [int(line) for line in reports] != list(range(100, number + 1, 100)): verdict = f"reports: {reports}"
else:
    while not os.path.exists(name + ".read"): time.sleep(0.01)
    number = 0
    while number < 300000:
        line = child.stdout.readline()
        if line != b"%09d\n" % number: verdict = f"wrong line {number}: {line}"; break
        number += 1
    child.stdout.close()
open(name + ".end", "w").write(verdict + "\n")
END
# begin_with NAME HOW PROGRAM...: its number is then in $pid.
begin_with() {
  python3 "$dir/stays.py" "$dir/$1" "${@:2}" </dev/null >"$dir/$1.log" 2>&1 &
  until_true 60 lines "$dir/$1.pid" 1
  pid=$(<"$dir/$1.pid")
  until_true 60 eval "[[ \$(readlink /proc/$pid/exe) != *setsid ]]"
}
# goes_on NAME: a hundred more answers come, at least.
goes_on() { until_true 120 lines "$dir/$1" $(($(wc -l <"$dir/$1") + 2)); }
no_streams() { none_listed n1 '^migrant-streams' --all; }
ended() { until_true 120 lines "$dir/$1.end" 1 && out=$(<"$dir/$1.end"); }

# Round three nodes and home, answering all the time. A move that fails takes no byte.
begin_with echo echo python3 "$dir/echo.py"
goes_on echo
first=$pid
# shellcheck disable=SC2016  # it is another shell's
printf '#!/bin/sh\n[ "$1" != dump ] || exit 9\nexec %s "$@"\n' "$criu" >"$dir/broken.sh"
chmod +x "$dir/broken.sh"
expect 3 "$gobmigrate" "$pid" n2 --socket "$(socket n1)" --criu "$dir/broken.sh"
says "it was not touched"
until_true 60 no_relay
goes_on echo
at=n1
for to in n2 n3 n1; do
  move "$pid" $at $to
  [[ $there != none ]] || break
  until_true 30 zombie_or_gone "$pid" # what stays does not look after its child before the end
  pid=$there at=$to
  goes_on echo
done
touch "$dir/echo.stop"
expect 9 "$gobctl" wait "n1/$first" --limit 100 --node n2
ended echo
equal "$out" "right"
until_true 60 no_relay
until_true 30 no_streams

# Nobody reads, and the process waits, wherever it is; then somebody does, and stops.
begin_with pour pour python3 "$dir/pour.py"
until_true 60 eval "[[ \$(cat /proc/$pid/wchan) == *pipe_write ]]"
first=$pid
move "$pid" n1 n2
until_true 60 eval "[[ \$(cat /proc/$there/wchan) == *pipe_write ]]"
move "$there" n2 n3
touch "$dir/pour.read"
expect 141 "$gobctl" wait "n1/$first" --limit 100 --node n1
ended pour
equal "$out" "right"
until_true 60 no_relay

# The relay dies: the process sees the end of its input.
begin_with cut echo python3 "$dir/echo.py"
goes_on cut
move "$pid" n1 n2
goes_on cut
kill -9 "$(relays)"
ended cut
equal "$out" "right, cut"
"$gobctl" wait "n1/$pid" --limit 100 --node n1 >/dev/null
[[ $? -lt 125 ]] || fail "it did not end after its relay"

# has_input PROCESS: there is something to read for it.
has_input() {
  python3 - "$1" <<'END'
import os, select, sys
fd = os.open(f"/proc/{sys.argv[1]}/fd/0", os.O_RDONLY | os.O_NONBLOCK)
sys.exit(0 if select.select([fd], [], [], 0)[0] else 1)
END
}
# Who writes ends before the process reads: all of it is there, then the end.
cat >"$dir/late.py" <<'END'
import hashlib, os, sys, time
name = sys.argv[1]
open(name + ".pid", "w").write(f"{os.getpid()}\n")
while not os.path.exists(name + ".read"): time.sleep(0.01)
open(name, "w").write(hashlib.sha256(sys.stdin.buffer.read()).hexdigest() + "\n")
END
cat >"$dir/feed.py" <<'END'
import os, subprocess, sys, time
name, *program = sys.argv[1:]
child = subprocess.Popen(["setsid", *program], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
child.stdin.write(open(name + ".data", "rb").read()); child.stdin.flush()
while not os.path.exists(name + ".fed"): time.sleep(0.01)
END
head -c 60000 /dev/urandom >"$dir/late.data"
python3 "$dir/feed.py" "$dir/late" python3 "$dir/late.py" "$dir/late" </dev/null >"$dir/late.log" 2>&1 &
feeder=$!
until_true 60 lines "$dir/late.pid" 1
pid=$(<"$dir/late.pid")
expect 0 "$gobmigrate" "$pid" n2 --socket "$(socket n1)" --json --dry-run
equal "$(json '[s["fd"] for s in j["streams"]]')" "[0]"
move "$pid" n1 n2
# What it was given and has not read when a move fails is not given again.
until_true 60 has_input "$there"
touch "$dir/late.fed"
wait "$feeder"
touch "$dir/moody"
expect 1 "$gobmigrate" "$there" n3 --socket "$(socket n2)"
says "goes on here"
rm "$dir/moody"
move "$there" n2 n3
touch "$dir/late.read"
expect 0 "$gobctl" wait "n1/$pid" --limit 100 --node n1
equal "$(<"$dir/late")" "$(sha256sum <"$dir/late.data" | cut -d' ' -f1)"
until_true 60 no_relay

# Its node dies: who stays sees the end of what it wrote.
begin_with dead echo python3 "$dir/echo.py"
goes_on dead
move "$pid" n1 n3 --no-stream
kill -9 "$(cat "$GOB_DIR/n3/gobd.pid")"
ended dead
equal "$out" "right, cut"
until_true 60 no_relay
wait "${server[n3]}"
unset "server[n3]"
for node in n1 n2; do end_server $node; done
finish
