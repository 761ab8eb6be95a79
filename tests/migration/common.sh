# What the tests of gobmigrate share: nodes with servers, programs that check their own memory, and
# waiting for what other processes do. Sourced with the arguments gobctl gobd gobmigrate traveller
# criu_shim, or - for none; then `begin NODES`.
# shellcheck shell=bash
# shellcheck source=../gobctl/checks.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/../gobctl/checks.sh"
gobctl=$1 gobd=$2 gobmigrate=$3 traveller=$4 shim=$5
if [[ $EUID -ne 0 ]]; then
  echo "moving processes needs root"
  exit 77
fi
command -v criu >/dev/null || fail "criu is not installed; see scripts/packages.txt"

dir=$(mktemp -d)
leave_nothing "$dir" "$gobctl"
export GOB_DIR=$dir/cluster
unset GOB_SOCKET XDG_RUNTIME_DIR
declare -A server=()  # of each node: process number
clean_up() {
  local pid name
  for name in "$dir"/*; do [[ ! -f $name ]] || touch "$name.stop"; done
  for pid in $(travellers "$dir/*"); do kill -9 "$pid" 2>/dev/null; done
  for pid in "${server[@]}"; do kill "$pid" 2>/dev/null; done
  "$gobctl" cluster down --timeout 10 >/dev/null 2>&1
  [[ $failures -eq 0 ]] || tail -n 100 "$dir"/*.log "$GOB_DIR"/*/gobd.log
  # What is still mounted are somebody's files: rm must not get there.
  for name in "$GOB_DIR"/*.mnt; do [[ ! -d $name ]] || umount -l "$name" 2>/dev/null; done
  rm -rf --one-file-system "$dir"
}
trap clean_up EXIT

# CRIU before 4.2 does not know this kernel's vdso, and waits for a breakpoint that virtual machines
# may never deliver: see criu_shim.c. Without a shim: CRIU as it is, on a kernel that it knows.
if [[ $shim != - ]]; then
  criu=$dir/criu.sh
  printf '#!/bin/sh\nLD_PRELOAD=${LD_PRELOAD:+$LD_PRELOAD:}%s CRIU_FAULT=130 exec %s "$@"\n' "$shim" "$(command -v criu)" >"$criu"
  chmod +x "$criu"
  export GOB_CRIU=$criu
fi

# until_true SECONDS CONDITION...: waits for what another process does.
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [[ $SECONDS -lt $end ]] || { fail "not in time: $*"; return 1; }
    sleep 0.02
  done
}
socket() { echo "$GOB_DIR/$1/gobd.sock"; }
lines() { [[ -e $1 && $(wc -l <"$1") -ge $2 ]]; }
gone() { ! kill -0 "$1" 2>/dev/null; }
# said NODE TEXT: its server's log has it.
said() { grep -q "$2" "$dir/$1.log"; }

# serve NODE: a server that takes processes there.
serve() {
  "$gobmigrate" serve --socket "$(socket "$1")" >>"$dir/$1.log" 2>&1 &
  server[$1]=$!
}
# serve_moodily NODE: CRIU makes no process there as long as $dir/moody exists.
serve_moodily() {
  # shellcheck disable=SC2016  # it is another shell's
  printf '#!/bin/sh\n[ "$1" != restore ] || [ ! -e %s/moody ] || exit 9\nexec %s "$@"\n' "$dir" "$criu" >"$dir/moody.sh"
  chmod +x "$dir/moody.sh"
  GOB_CRIU=$dir/moody.sh serve "$1"
}
# serve_elsewhere NODE WORDS...: one started by these words that has other files than this machine in
# the folder $app, as on another: a decoy, and nothing else.
app=$dir/app
serve_elsewhere() {
  # shellcheck disable=SC2016
  "${@:2}" unshare --mount bash -c 'mount -t tmpfs none "$1" && head -c 8M /dev/zero >"$1/one.data" &&
    exec "$2" serve --socket "$3"' - "$app" "$gobmigrate" "$(socket "$1")" >>"$dir/$1.log" 2>&1 &
  server[$1]=$!
}
# end_server NODE: asks it to end, and it does.
end_server() {
  kill "${server[$1]}"
  wait "${server[$1]}"
  equal $? 0
  unset "server[$1]"
}
# begin NODES OPTIONS...: a cluster of them, each with $budget.
budget=1G
begin() {
  expect 0 "$gobctl" cluster up --gobd "$gobd" --nodes "$1" --budget $budget "${@:2}"
  [[ -S $(socket n1) ]] || fail "no socket of n1 below $GOB_DIR"
}

# travellers FILE: those that write to FILE. By their open files: a command line may be among the
# memory that has not arrived. Zombies have none.
travellers() {
  local at
  for at in $(pgrep -x traveller); do
    [[ -z $(find "/proc/$at/fd" -lname "$1" 2>/dev/null) ]] || echo "$at"
  done
}
# start NAME COMMAND...: a program that could be moved, and writes lines as a traveller does to the
# file NAME; its number is then in $pid.
start() {
  local name=$1
  (
    # Whoever runs the tests may have left pipes open in this shell.
    for fd in "/proc/$BASHPID/fd"/*; do
      [[ ${fd##*/} -le 2 ]] || eval "exec ${fd##*/}>&-"
    done
    exec setsid "${@:2}"
  ) </dev/null >/dev/null 2>&1 &
  pid=$!
  disown
  until_true 60 lines "$dir/$name" 3
}
# launch NAME ARGUMENTS...: a traveller.
launch() { start "$1" "$traveller" "$dir/$1" "${@:2}"; }
# all_right NAME LINES: it never saw a wrong word, and worked a few more rounds after LINES.
all_right() {
  until_true 120 lines "$dir/$1" $(($2 + 3))
  local wrong
  wrong=$(grep -v 'wrong 0$' "$dir/$1" | head -n 3)
  [[ -z $wrong ]] || fail "$1 met wrong memory: $wrong $(cat "$dir/$1.wrong")"
}
# move PID FROM TO OPTIONS...: its number there is then in $there.
move() {
  local from=$2 to=$3
  expect 0 "$gobmigrate" "$1" "$to" --socket "$(socket "$from")" --json "${@:4}"
  # shellcheck disable=SC2034  # for those who source this
  there=$(json 'j["pid"]') || there=none # no number: kill(1) takes 0 for this script and all it runs
}
# state PROCESS: its letter in proc(5), then in $state; without starting a program.
state_of() {
  local line=''
  state=''
  { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
  line=${line##*) }
  state=${line:0:1}
}
zombie_or_gone() { ! state_of "$1" || [[ $state == Z ]]; }
is_stopped() { state_of "$1" && [[ $state == [Tt] ]]; }
none_stopped() {
  local at
  for at in $(travellers "$dir/$1"); do ! is_stopped "$at" || return 1; done
}
# relays: those of this test's cluster, by number.
relays() {
  local at
  for at in $(pgrep -x gobmigrate-rly); do
    ! grep -qsz "^GOB_DIR=$GOB_DIR\$" "/proc/$at/environ" || echo "$at"
  done
}
no_relay() { [[ -z $(relays) ]]; }
# slow_criu: makes $dir/slow.sh, a CRIU that does not restore before $dir/go is there.
slow_criu() {
  # shellcheck disable=SC2016  # it is another shell's
  printf '#!/bin/sh\nwhile [ "$1" = restore ] && [ ! -e %s/go ]; do sleep 0.02; done\nexec %s "$@"\n' \
    "$dir" "$criu" >"$dir/slow.sh"
  chmod +x "$dir/slow.sh"
}
# is_at PHASE: has the move of $pid to n2 come so far? Starts no program: phases are short.
is_at() {
  case $1 in
    asked) said n2 "migrate.n2.$pid.*begins" ;; # before the freeze, where time does not press
    dumping) compgen -G "/dev/shm/gob-migrate.n2.$pid.*.out" >/dev/null ;;
    traced) state_of "$pid" && [[ $state == t ]] ;; # by CRIU
    stopped) is_stopped "$pid" ;;
    restoring) compgen -G "/dev/shm/gob-migrate.n2.$pid.*[0-9]/pstree.img" >/dev/null ;;
    running) said n2 "process $pid runs here" ;;
  esac
}
# reach PHASE NAME: moves traveller NAME, made anew, from n1 to n2, and returns when the move is
# there; gobmigrate is then $mover. On a busy machine a phase may pass unseen: then once more.
reach() {
  local try
  for try in 1 2 3 4 5; do
    rm -f "$dir/$2"*
    launch "$2" 48
    "$gobmigrate" "$pid" n2 --socket "$(socket n1)" >"$dir/mover.log" 2>&1 &
    mover=$!
    until is_at "$1"; do
      if ! state_of "$mover" || [[ $state == Z ]]; then break; fi
    done
    ! is_at "$1" || return 0
    wait "$mover"
    one_or_none "$2" "missed $1 ($try)"
  done
  fail "the move was never $1: $(cat "$dir/mover.log")"
  return 1
}
# one_or_none NAME WHAT: after an accident, at most one process, which is right and not stopped.
one_or_none() {
  local left before
  until_true 60 none_stopped "$1"
  until_true 60 eval "[[ \$(travellers '$dir/$1' | wc -l) -le 1 ]]"
  left=$(travellers "$dir/$1" | wc -l)
  echo "$2: $left process left"
  before=$(wc -l <"$dir/$1")
  # The one that is left may be ended a little later, when it is clear that its memory is lost.
  until_true 120 eval "lines '$dir/$1' $((before + 3)) || [[ -z \$(travellers '$dir/$1') ]]"
  [[ -z $(travellers "$dir/$1") ]] || all_right "$1" "$before"
  touch "$dir/$1.stop"
  until_true 60 eval "[[ -z \$(travellers '$dir/$1') ]]"
}
# none_listed NODE PATTERN OPTIONS...: gobctl ls answers, and shows none of these.
none_listed() {
  local listed
  listed=$("$gobctl" ls --quiet --node "$1" "${@:3}") && ! grep -qE "$2" <<<"$listed"
}
no_containers() { none_listed "${1:-n1}" '^migrate(-files)?\.'; }
no_images() { [[ -z $(find /dev/shm -maxdepth 1 -name "gob-migrate.*.$1.*") ]]; }
# none_left PID...: nothing is left over of moves of these processes.
none_left() {
  local of
  until_true 30 no_containers
  for of in "$@"; do until_true 10 no_images "$of"; done
}
