#!/usr/bin/env bash
# Processes that move between real daemons, every byte of their memory checked by themselves after
# the move. Arguments: gobctl gobd gobmigrate traveller criu_shim.
# shellcheck source=../gobctl/checks.sh source-path=SCRIPTDIR
source "$(dirname "$0")/../gobctl/checks.sh"
gobctl=$1 gobd=$2 gobmigrate=$3 traveller=$4 shim=$5
if [[ $EUID -ne 0 ]]; then
  echo "moving processes needs root"
  exit 77
fi
command -v criu >/dev/null || fail "criu is not installed; see scripts/packages.txt"

dir=$(mktemp -d)
export GOB_DIR=$dir/cluster
unset GOB_SOCKET XDG_RUNTIME_DIR
server='' started=()
clean_up() {
  local pid
  for pid in "${started[@]}"; do kill -9 "$pid" 2>/dev/null; done
  touch "$dir"/{one,threads,tree,churn,basic,victim}.stop
  [[ -z $server ]] || kill "$server" 2>/dev/null
  "$gobctl" cluster down --timeout 10 >/dev/null 2>&1
  [[ $failures -eq 0 ]] || cat "$dir"/server.log
  rm -rf "$dir"
}
trap clean_up EXIT

# CRIU before 4.2 does not know this kernel's vdso, and waits for a breakpoint that virtual machines
# may never deliver: see criu_shim.c.
criu=$dir/criu
printf '#!/bin/sh\nLD_PRELOAD=%s CRIU_FAULT=130 exec %s "$@"\n' "$shim" "$(command -v criu)" >"$criu"
chmod +x "$criu"
export GOB_CRIU=$criu

expect 0 "$gobctl" cluster up --gobd "$gobd" --nodes 2 --budget 1G
one=$GOB_DIR/n1/gobd.sock two=$GOB_DIR/n2/gobd.sock
[[ -S $one ]] || one=$(find "$GOB_DIR" -name '*.sock' | grep n1) two=$(find "$GOB_DIR" -name '*.sock' | grep n2)

# until SECONDS CONDITION...: waits for what another process does.
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [[ $SECONDS -lt $end ]] || { fail "not in time: $*"; return 1; }
    sleep 0.05
  done
}
lines() { [[ $(wc -l <"$1" 2>/dev/null || echo 0) -ge $2 ]]; }
gone() { ! kill -0 "$1" 2>/dev/null; }
ended() { grep -q "process $1 ended" "$dir/server.log"; }

# launch NAME ARGUMENTS...: a traveller, whose number is then in $pid.
launch() {
  local name=$1
  shift
  (
    # Whoever runs the tests may have left pipes open in this shell.
    for fd in "/proc/$BASHPID/fd"/*; do
      [[ ${fd##*/} -le 2 ]] || eval "exec ${fd##*/}>&-"
    done
    exec setsid "$traveller" "$dir/$name" "$@"
  ) </dev/null >/dev/null 2>&1 &
  pid=$!
  started+=("$pid")
  until_true 60 lines "$dir/$name" 3
}
# all_right NAME: it never saw a wrong word, and worked a few more rounds after LINES.
all_right() {
  until_true 120 lines "$dir/$1" $(($2 + 5))
  local wrong
  wrong=$(grep -cv 'wrong 0$' "$dir/$1")
  equal "$wrong" 0
}
none_left() {
  expect 0 "$gobctl" ls --quiet --node n1
  says_not "migrate.n2"
  [[ -z $(find /dev/shm -maxdepth 1 -name "gob-migrate.n2.$1.*") ]] || fail "images of $1 are left over"
}

# Refusals come before anything is touched.
expect 3 "$gobmigrate" $$ n2 --socket "$one"
says "gobmigrate itself runs under"
launch one 32
expect 3 "$gobmigrate" "$pid" n2 --socket "$one" --criu /bin/true
says "does not answer like CRIU"
expect 1 "$gobmigrate" "$pid" n2 --socket "$one"
says "nobody takes processes on node n2"
says "goes on here"

"$gobmigrate" serve --socket "$two" >"$dir/server.log" 2>&1 &
server=$!
until_true 20 grep -q "taking processes" "$dir/server.log"
expect 0 "$gobmigrate" "$pid" n2 --socket "$one" --dry-run
says "It can move"
expect 1 "$gobmigrate" "$pid" n9 --socket "$one"
says "no node n9"
exec 9> >(exec cat >/dev/null 2>&1)
piped=$!
expect 3 "$gobmigrate" "$piped" n2 --socket "$one"
says "whose other end"
exec 9>&-  # its end

# move NAME: moves $pid; afterwards it is right, runs at the target only, and ends as it would have.
move() {
  local name=$1 before there
  shift
  before=$(wc -l <"$dir/$name")
  expect 0 "$gobmigrate" "$pid" n2 --socket "$one" --json "$@"
  there=$(json 'j["pid"]')
  echo "$name: $(json '"frozen for %.0f ms: %s" % (j["freeze_ms"], j["phases_ms"])')"
  until_true 20 gone "$pid"
  all_right "$name" "$before"
  kill -0 "$there" 2>/dev/null || fail "process $there of $name does not run"
  touch "$dir/$name.stop"
  until_true 60 ended "$there"
  grep -q "process $there ended with status 7" "$dir/server.log" || fail "$name: no status 7"
  none_left "$pid"
}
move one
launch threads 64 threads 5 && move threads
launch tree 16 tree && move tree
launch churn 16 churn && move churn
launch basic 32 && move basic --mode basic

# The source's gobmigrate dies at some point of the move: one process, or a clear death, and
# nothing stopped left behind.
copies() {
  local at count=0
  for at in $(pgrep -f "^$traveller $dir/victim "); do
    [[ $(awk '/^State/ {print $2}' "/proc/$at/status" 2>/dev/null) =~ [TZ] ]] || count=$((count + 1))
  done
  echo "$count"
}
stopped() {
  local at
  for at in $(pgrep -f "^$traveller $dir/victim "); do
    [[ $(awk '/^State/ {print $2}' "/proc/$at/status" 2>/dev/null) == T ]] && return 0
  done
  return 1
}
none_stopped() { ! stopped; }
for delay in 0.02 0.1 0.2 0.3 0.4 0.6 0.9; do
  rm -f "$dir"/victim*
  launch victim 32
  "$gobmigrate" "$pid" n2 --socket "$one" >/dev/null 2>&1 &
  mover=$!
  sleep "$delay"
  kill -9 "$mover" 2>/dev/null
  wait "$mover" 2>/dev/null
  sleep 1
  until_true 30 none_stopped
  left=$(copies)
  [[ $left -le 1 ]] || fail "$left processes run after a kill at $delay s"
  echo "gobmigrate killed after $delay s: $left process left"
  wrong=$(grep -cv 'wrong 0$' "$dir/victim")
  equal "$wrong" 0
  touch "$dir/victim.stop"
  until_true 60 eval '! pgrep -f "^$traveller $dir/victim " >/dev/null'
  until_true 20 eval '! "$gobctl" ls --quiet --node n1 | grep -q "migrate.n2"'
  until_true 20 eval '[[ -z $(find /dev/shm -maxdepth 1 -name "gob-migrate.n2.$pid.*") ]]'
done

kill "$server"
wait "$server"
equal $? 0
server=''
exit $((failures > 0))
