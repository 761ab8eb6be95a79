#!/usr/bin/env bash
# A process whose standard streams are a terminal moves: what it writes goes on appearing there, byte for
# byte, what is typed there for it reaches it, and the terminal and its shell notice nothing of a move that
# fails. Arguments: gobctl gobd gobmigrate traveller criu_shim.
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
here=$(cd "$(dirname "$0")" && pwd)
# The terminals, and what runs in them or came from there.
clean_up_terminals() {
  local at
  for at in $(pgrep -f "$dir/"); do
    [[ $at == "$$" || $(cat "/proc/$at/comm" 2>/dev/null) != python3 ]] || kill -9 "$at" 2>/dev/null
  done
  clean_up
}
trap clean_up_terminals EXIT
begin 3
for node in n1 n2; do serve $node; done
serve_moodily n3
for node in n1 n2 n3; do until_true 20 said $node "taking processes"; done

# Numbers lines, all the time; answers what is typed, signals and changes of the window.
cat >"$dir/talk.py" <<'END'
import os, select, signal, sys
def say(*words):
    text = (" ".join(map(str, words)) + "\n").encode()
    while text: text = text[os.write(1, text):]
heard = []  # of signals; said between lines, since one may come when a part of a line is written
signal.signal(signal.SIGINT, lambda *_: heard.append("interrupted"))
signal.signal(signal.SIGWINCH, lambda *_: heard.append("window"))
number = 0
while True:
    say("line", number, "x" * (number % 97)); number += 1
    while heard:
        what = heard.pop(0)
        say(what, *(os.get_terminal_size() if what == "window" else ()))
    if not select.select([0], [], [], 0.005)[0]: continue
    line = sys.stdin.buffer.raw.read(1000)
    if line == b"": say("end of file"); break
    say("heard", line)
    if line == b"look\n": say("seen", os.isatty(0), os.isatty(1), os.isatty(2), *os.get_terminal_size(), os.tcgetpgrp(0) == os.getpgrp())
    if line == b"end\n": break
    if line == b"hush\n":  # until it is interrupted
        while "interrupted" not in heard: select.select([], [], [], 0.005)
say("the end")
sys.exit(7)
END
# begin_in NAME HOW PROGRAM...: in a terminal; its number is then in $pid.
begin_in() {
  setsid "$here/terminal.py" "$dir/$1" 33 101 "${@:2}" </dev/null >"$dir/$1.log" 2>&1 &
  until_true 60 lines "$dir/$1.pid" 1
  pid=$(<"$dir/$1.pid")
}
# tell NAME ORDER: to the terminal or its shell.
# shellcheck disable=SC2016  # it is another shell's
tell() { timeout 10 bash -c 'printf "%s\n" "$1" >"$2"' - "${*:2}" "$dir/$1.do"; }
# shows NAME TEXT: its terminal has shown that.
shows() { grep -aqF -- "$2" "$dir/$1.out"; }
# goes_on NAME: a hundred more lines are shown, at least.
numbered() { grep -ac "^line" "$dir/$1.out"; }
has_numbered() { [[ $(numbered "$1") -ge $2 ]]; }
goes_on() { until_true 120 has_numbered "$1" $(($(numbered "$1") + 100)); }
event() { grep -q "^$2" "$dir/$1.events"; }
# Its lines are all there, once, in order, each ended as by the terminal itself. The echo of what is
# typed may come between a line and its end.
whole() {
  python3 - "$dir/$1.out" <<'END'
import re, sys
shown = re.sub(rb"(look|hello|hush|again|end)\r\n|\^C", b"", open(sys.argv[1], "rb").read())
lines = [(int(n), len(x)) for n, x in re.findall(rb"line (\d+) (x*)\r\n", shown)]
wrong = [(n, line) for n, line in enumerate(lines) if line != (n, n % 97)]
if shown.count(b"line ") not in (len(lines), len(lines) + 1): wrong.append("a line is cut")  # the last one may be
first = shown.find(f"line {wrong[0][0] - 1} ".encode()) if wrong and wrong[0] != "a line is cut" else len(shown)
near = shown[max(0, first):first + 400]
print(f"{len(lines)} lines, wrong: {wrong[:3]}, near {near}" if wrong or len(lines) < 100 else "right")
END
}
# facts PROCESS: foreground group, settings and size of its terminal.
facts() {
  python3 - "$1" <<'END'
import os, sys, termios
fd = os.open(f"/proc/{sys.argv[1]}/fd/0", os.O_RDONLY | os.O_NOCTTY)
group = open(f"/proc/{sys.argv[1]}/stat").read().rpartition(") ")[2].split()[5]
print(group, termios.tcgetattr(fd), os.get_terminal_size(fd))
END
}
# has_keys MIGRANT: gobctl fg has its terminal, which does nothing by itself then.
has_keys() {
  python3 - "$(pgrep -x -f "$gobctl fg $1.*")" <<'END'
import os, sys, termios
fd = os.open(f"/proc/{sys.argv[1]}/fd/0", os.O_RDONLY | os.O_NOCTTY)
sys.exit(0 if termios.tcgetattr(fd)[3] & termios.ICANON == 0 else 1)
END
}
no_streams() { none_listed n1 '^migrant-streams' --all; }

# A job in the background, round three nodes and home; nobody is stopped for writing.
begin_in talk bg python3 "$dir/talk.py"
goes_on talk
first=$pid at=n1
expect 0 "$gobmigrate" "$pid" n2 --socket "$(socket n1)" --json --dry-run
equal "$(json 'j["terminal"][:8]')" "/dev/pts"
for to in n2 n3 n1; do
  move "$pid" $at $to
  [[ $there != none ]] || break
  pid=$there at=$to
  [[ $to != n2 ]] || { tell talk tostop && until_true 30 event talk tostop; }
  goes_on talk
  [[ $to != n2 ]] || { tell talk size 44 120 && until_true 30 shows talk "window 120 44"; }
done
touch "$dir/moody"
expect 1 "$gobmigrate" "$pid" n3 --socket "$(socket n1)"
says "goes on here"
rm "$dir/moody"
goes_on talk
equal "$(whole talk)" "right"
expect 0 "$gobctl" kill "n1/$first" --signal TERM --node n2
expect 143 "$gobctl" wait "n1/$first" --limit 100 --node n2
until_true 60 no_relay
until_true 30 no_streams


# A job in the foreground: a move that fails changes nothing at the terminal, and its shell hears nothing.
begin_in typed fg python3 "$dir/talk.py"
first=$pid
tell typed "keys look\\n"
until_true 60 shows typed "seen True True True 101 33 True"
before=$(facts "$pid")
touch "$dir/moody"
expect 1 "$gobmigrate" "$pid" n3 --socket "$(socket n1)"
says "goes on here"
rm "$dir/moody"
goes_on typed
equal "$(facts "$pid")" "$before"
! event typed stopped || fail "its shell has seen it stand still"
# It moves, and gobctl fg gives it what is typed: lines, signals, but not the key that suspends.
move "$pid" n1 n2
until_true 30 event typed "ended -9"
goes_on typed
tell typed run "$gobctl fg n1/$first --socket $(socket n1)"
tell typed "keys hello\\n"
until_true 60 shows typed "heard b'hello\\n'"
# With this key a terminal drops what is on its way out (termios(3), NOFLSH): nothing may be.
tell typed "keys hush\\n"
until_true 60 shows typed "heard b'hush\\n'"
tell typed "keys \\x03"
until_true 60 shows typed interrupted
tell typed "keys \\x1a"
until_true 60 event typed stopped
goes_on typed
tell typed look
until_true 30 event typed "terminal"
tell typed run "$gobctl fg n1/$first --socket $(socket n1)"
tell typed "keys again\\n"
until_true 60 shows typed "heard b'again\\n'"
move "$there" n2 n3
goes_on typed
tell typed "keys end\\n"
until_true 60 event typed "ran 7"
# The shell hears of the end before what was written by then is in the file.
until_true 10 shows typed "the end"
equal "$(whole typed)" "right"
expect 7 "$gobctl" wait "n1/$first" --limit 100 --node n2
until_true 60 no_relay

# What was typed and not read yet goes along.
cat >"$dir/late.py" <<'END'
import os, sys, time
while not os.path.exists(sys.argv[1]): time.sleep(0.01)
for line in sys.stdin: print("heard", repr(line), flush=True)
print("end of file", flush=True)
END
begin_in late bg python3 "$dir/late.py" "$dir/late.read"
first=$pid
move "$pid" n1 n2
tell late run "$gobctl fg n1/$first --socket $(socket n1)"
until_true 60 has_keys "n1/$first"
tell late "keys first\\nsecond\\npart"
# The echo comes from where it is now.
until_true 60 shows late part
move "$there" n2 n3
touch "$dir/late.read"
until_true 60 shows late "heard 'second\\n'"
tell late "keys ial\\n\\x04"
until_true 60 shows late "heard 'partial\\n'"
until_true 60 event late "ran 0"
until_true 10 shows late "end of file"
until_true 60 no_relay

# One end of a pipeline moves: its input comes by a pipe, its output goes to the terminal.
cat >"$dir/count.py" <<'END'
import time
number = 0
while True:
    print("line", number, "x" * (number % 97), flush=True); number += 1
    time.sleep(0.005)
END
cat >"$dir/copy.py" <<'END'
import os, sys
open(sys.argv[1], "w").write(f"{os.getpid()}\n")
for line in sys.stdin: sys.stdout.write(line); sys.stdout.flush()
END
begin_in pipe bg bash -c "python3 $dir/count.py | python3 $dir/copy.py $dir/copy.pid"
until_true 60 lines "$dir/copy.pid" 1
pid=$(<"$dir/copy.pid")
goes_on pipe
move "$pid" n1 n2
goes_on pipe
equal "$(whole pipe)" "right"
# The terminal is gone.
tell pipe hang up
expect 129 "$gobctl" wait "n1/$pid" --limit 100 --node n1
until_true 60 no_relay

# So is the relay.
begin_in cut bg python3 "$dir/talk.py"
goes_on cut
move "$pid" n1 n2
goes_on cut
kill -9 "$(relays)"
expect 129 "$gobctl" wait "n1/$pid" --limit 100 --node n1

# The first process of a session takes its terminal along to the grave.
begin_in alone bg setsid -c -w python3 "$dir/talk.py"
goes_on alone
alone=$(pgrep -P "$pid" -x python3)
expect 3 "$gobmigrate" "$alone" n2 --socket "$(socket n1)"
says "is the first of the session"
says "sh -c 'PROGRAM; :'"
# A shell that stays does as it is told there.
begin_in advised bg setsid -c -w sh -c "python3 '$dir/talk.py'; :"
goes_on advised
shell=$(pgrep -P "$pid" -x sh)
expect 0 "$gobmigrate" "$(pgrep -P "$shell" -x python3)" n2 --socket "$(socket n1)"
goes_on advised

for node in n1 n2 n3; do end_server $node; done
finish
