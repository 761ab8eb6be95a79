#!/usr/bin/env bash
# Locks on files of a mount go along with the process that has them: at no moment anybody else gets one,
# and none is left when it has ended. Arguments: gobctl gobd gobmigrate traveller criu_shim moments.
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
moments=$6
# shellcheck disable=SC2046
trap 'kill -9 $(pgrep -f "locks.py [a-z]* $dir/") 2>/dev/null; clean_up' EXIT
begin 3 --mount
mkdir "$app" "$dir/disk"
chmod 777 "$dir/disk"
serve n1
serve_elsewhere n2
serve_moodily n3
for node in n1 n2 n3; do until_true 20 said $node "taking processes"; done
# The files are on n3: neither where the process starts nor where it goes first.
expect 0 "$gobctl" attach work --tree "$dir/disk" --node n3
folder() { echo "$GOB_DIR/$1.mnt/work"; }
program=$(dirname "$0")/locks.py
moved=()
# lock ROLE NAME NODE [HELD]: a program of locks.py, which could be moved; its number is then in $pid.
lock() {
  start "$2" python3 "$program" "$1" "$dir/$2" "$(folder "$3")" "${@:4}"
  moved+=("$pid")
}
has() { grep -qs "$2" "$dir/$1"; }
# hop NAME FROM TO: $pid moves; it is right afterwards, and then $pid is its number there.
hop() {
  local before
  before=$(wc -l <"$dir/$1")
  move "$pid" "$2" "$3" "${@:4}"
  [[ $there != none ]] || return
  echo "$1: $2 to $3: frozen for $(json '"%.0f ms %s, %d locks" % (j["freeze_ms"], j["phases_ms"], j["locks"])')"
  until_true 30 gone "$pid"
  pid=$there
  moved+=("$pid")
  all_right "$1" "$before"
}
# contenders NAME: one on each node tries to get what NAME holds; two more wait for it.
contenders() {
  local node
  for node in n1 n2 n3; do lock contend "$1.$node" $node "$dir/$1.held"; done
  lock wait "$1.wait.record" n2 "$dir/$1.held"
  lock wait "$1.wait.flock" n1 "$dir/$1.held"
}
# in_vain NAME: they have tried again, and nobody got anything.
in_vain() {
  local node before
  for node in n1 n2 n3; do
    before=$(wc -l <"$dir/$1.$node")
    until_true 30 lines "$dir/$1.$node" $((before + 3))
    ! grep -E 'got|broken' "$dir/$1.$node" || fail "on $node somebody got what $1 holds"
  done
  for node in record flock; do
    [[ $(tail -n 1 "$dir/$1.wait.$node") == *waits,* ]] || fail "who waits for a $node lock got it from $1"
  done
}
# free NAME: nobody holds anything any more; whoever wanted it gets it now.
free() {
  local node
  for node in record flock; do
    until_true 30 has "$1.wait.$node" 'granted\|broken'
    touch "$dir/$1.wait.$node.stop"
  done
  for node in n1 n2 n3; do until_true 30 has "$1.$node" "got child flock ofd read record"; done
  ! grep broken "$dir/$1".* || fail "a lock was held by two"
}

# Locks that cannot go along, which takes 5 s to be sure of: meanwhile the rest is tested. One on an open
# file that a process has, too, which stays; and one on a file that the process would have without
# the mount, because it is the target's own.
tries=()
refused() {
  "$gobmigrate" "$1" "$3" --socket "$(socket "$2")" >"$dir/refused$1" 2>&1 &
  tries+=("$1 $!")
}
# shellcheck disable=SC2016  # it is another shell's
start shared bash -c 'exec 9>"$1/shared" && flock 9 && "${@:2}"; :' - "$(folder n1)" \
  python3 "$program" late "$dir/shared" "$dir"
refused "$(pgrep -P "$pid")" n1 n2
parent=$pid
cd "$app" || exit 1
start own python3 "$program" late "$dir/own" .
cd - >/dev/null || exit 1
hop own n1 n2
touch "$dir/own.lock"
until_true 30 has own locked
refused "$pid" n2 n1

# To the files' node and back, by the other.
lock hold trip n1
expect 0 "$gobmigrate" "$pid" n2 --socket "$(socket n1)" --dry-run --json
# It runs, and changes its locks: which there are is certain, but not how far each one goes.
equal "$(json 'sorted((l["file"].rsplit("/", 1)[1], l["lock"].split()[0], l["goes"]) for l in j["locks"])')" \
  "[('flock', 'flock', True), ('ofd', 'bytes', True), ('record', 'bytes', True), ('record', 'bytes', True), ('record', 'bytes', True)]"
equal "$(json '[l["file"].rsplit("/", 1)[1] for l in j["locks"] if "by the open file" in l["lock"]]')" "['ofd']"
holder=$pid
contenders trip
in_vain trip
pid=$holder
hop trip n1 n2
equal "$(json 'j["locks"]')" 5
in_vain trip
hop trip n2 n3
in_vain trip
# A target that cannot make the process.
touch "$dir/moody"
hop trip n3 n1
in_vain trip
before=$(wc -l <"$dir/trip")
expect 1 "$gobmigrate" "$pid" n3 --socket "$(socket n1)"
rm "$dir/moody"
all_right trip "$before"
in_vain trip

# at_both_ends NAME: $pid, which is on n1, moves to n2, and both ends have the locks when this returns; then
# go_on lets the move go on.
at_both_ends() {
  local hold=$dir/moments.$1
  mkdir "$hold"
  mkfifo "$hold/reached" "$hold/release"
  exec 7<>"$hold/release" 8<>"$hold/reached"
  printf committing >"$hold/wanted"
  (exec env GOB_MOMENTS="$hold" LD_PRELOAD="$moments" "$gobmigrate" "$pid" n2 --socket "$(socket n1)" 7>&- 8>&-) \
    >"$dir/mover.log" 2>&1 &
  mover=$!
  read -r -t 60 -u 8 || fail "the target never had the process: $(cat "$dir/mover.log")"
}
go_on() {
  printf x >&7
  exec 7>&- 8>&-
  status=0
  wait $mover || status=$?
}

# gobmigrate is killed: the process stays, and so do its locks.
at_both_ends trip
in_vain trip
before=$(wc -l <"$dir/trip")
kill -9 $mover
go_on
all_right trip "$before"
in_vain trip
hop trip n1 n2
in_vain trip
touch "$dir/trip.release"
until_true 30 has trip "child wrong 0"
free trip
touch "$dir/trip.stop"
until_true 60 said n2 "process $pid ended with status 7"

# One that is killed, children first.
lock hold killed n1
holder=$pid
contenders killed
in_vain killed
pid=$holder
hop killed n1 n3
in_vain killed
rm "$dir/killed.held"
# shellcheck disable=SC2046
kill -9 $(pgrep -P "$pid") "$pid"
free killed

# The target dies, and the source is given up: nobody has the locks.
lock hold lost n1
holder=$pid
contenders lost
in_vain lost
pid=$holder
at_both_ends lost
in_vain lost
rm "$dir/lost.held"
for server in $(pgrep -f "^[^ ]*gobmigrate receive migrate.n2.$pid\."); do
  # Process 1 of the migrant's namespaces, which was forked by it, ends what there is.
  [[ $(<"/proc/$server/comm") == gobmigrate-wdn ]] || kill -9 "$server"
done
go_on
equal $status 4
free lost

# One that waits for a lock goes on waiting elsewhere, and leaves nothing behind.
lock hold short n3
lock wait queue.record n1 "$dir/short.held"
until_true 10 grep -q '^72 ' "/proc/$pid/syscall"
expect 0 "$gobmigrate" "$pid" n2 --socket "$(socket n1)" --json
equal "$(json 'j["locks"]')" 0
pid=$(json 'j["pid"]')
moved+=("$pid")
until_true 10 grep -q '^72 ' "/proc/$pid/syscall"
[[ $(tail -n 1 "$dir/queue.record") == *waits,* ]] || fail "it got a lock that another holds"
touch "$dir/short.release"
until_true 30 has queue.record granted
lock contend queue.rest n3 "$dir/short.held"
! has queue.rest got || fail "what the migrant got is free"
touch "$dir/queue.record.stop"
until_true 30 has queue.rest "got child flock ofd read record"
touch "$dir/short.stop"

# A database with a transaction that is open.
lock bank deal n1
hop deal n1 n2
expect 5 sqlite3 "$(folder n3)/bank.db" 'select count(*) from t'
says locked
hop deal n2 n3
expect 5 sqlite3 "$(folder n1)/bank.db" 'select count(*) from t'
touch "$dir/deal.commit"
until_true 30 has deal committed
for node in n1 n2 n3; do
  equal "$(sqlite3 "$(folder $node)/bank.db" 'select count(*) from t; pragma integrity_check')" $'2\nok'
done
touch "$dir/deal.stop"

# What was refused goes on where it is, with its lock.
for each in "${tries[@]}"; do
  wait "${each#* }"
  equal $? 1
done
out=$(<"$dir/refused${tries[0]% *}")
says "$(folder n1)/shared was locked whenever it was looked at"
says "process $parent, which stays, has the open file, too"
out=$(<"$dir/refused${tries[1]% *}")
says "the file is one of n1's own folder $app"
for node in n1 n3; do
  ! flock --nonblock "$(folder $node)/shared" true || fail "a lock is lost"
done
all_right shared "$(wc -l <"$dir/shared")"
all_right own "$(wc -l <"$dir/own")"
for name in shared own; do touch "$dir/$name.lock" "$dir/$name.stop"; done
for each in "${tries[@]}"; do until_true 30 gone "${each% *}"; done
until_true 30 flock --nonblock "$(folder n2)/shared" true

none_left "${moved[@]}"
expect 0 "$gobctl" detach work --node n2
for node in n1 n2 n3; do end_server $node; done
finish
