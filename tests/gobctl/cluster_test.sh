#!/usr/bin/env bash
# Development clusters of daemons that are scripted (fake_gobd): starting, failing to start, asking,
# stopping. Arguments: gobctl fake_gobd.
# shellcheck source=checks.sh source-path=SCRIPTDIR
source "$(dirname "$0")/checks.sh"
gobctl=$1
fake=$2
dir=$(mktemp -d)
leave_nothing "$dir" "$gobctl"
export GOB_DIR=$dir/cluster
unset GOB_SOCKET XDG_RUNTIME_DIR NOTIFY_SOCKET

up() { "$gobctl" cluster up --gobd "$fake" "$@"; }
running() { pgrep -f "$fake --config $GOB_DIR/" | wc -l; }
clean_up() {
  "$gobctl" cluster down --timeout 1 >/dev/null 2>&1
  rm -rf "$dir"
}
trap clean_up EXIT

# Up, and what it leaves.
expect 0 up --nodes 3 --budget 64M
says "ready"; says "export GOB_SOCKET=$GOB_DIR/n1/gobd.sock"; says "gobctl cluster down"
says_not $'\033'
equal "$(running)" 3
[[ $failures -eq 0 ]] || finish  # nothing below can work
for node in n1 n2 n3; do
  [[ -S $GOB_DIR/$node/gobd.sock && -s $GOB_DIR/$node/gobd.toml && -f $GOB_DIR/$node/gobd.log ]] ||
    fail "files of $node"
  [[ $(readlink "/proc/$(cat "$GOB_DIR/$node/gobd.pid")/exe") == "$fake" ]] || fail "pid of $node"
done
[[ ! -e $GOB_DIR/notify.sock ]] || fail "notify.sock is left"
expect 6 up; says "a cluster runs in $GOB_DIR"
expect 0 "$gobctl" cluster status; says "n3"; says "running"
expect 0 "$gobctl" cluster status --json
equal "$(json '[n["running"] for n in j["nodes"]]')" "[True, True, True]"

# Nodes are told apart by --node, and a node is found without any option.
expect 0 "$gobctl" nodes --node n2; says "as node n2 sees it"; says "127.0.0.1:"
expect 0 "$gobctl" nodes --quiet; equal "$out" $'n1\nn2\nn3'
expect 0 "$gobctl" nodes --json --node n3
equal "$(json '[n["name"] for n in j["nodes"] if n["self"]]')" "['n3']"
expect 4 "$gobctl" nodes --node n4; says "its nodes are n1, n2, n3"
expect 0 env GOB_SOCKET="$GOB_DIR/n2/gobd.sock" "$gobctl" nodes; says "as node n2"

# Containers.
expect 0 "$gobctl" ls; says "No containers"
expect 0 "$gobctl" create matrix --size 64M; says "Created matrix, 64 MiB, rw-------"
expect 0 "$gobctl" create matrix2 --size 1.5G --mode 0664 --json
equal "$(json '(j["size_bytes"], j["mode"])')" "(1610612736, '0664')"
expect 6 "$gobctl" create matrix --size 64M; says "taken"
expect 5 "$gobctl" create forbidden --size 64M
expect 7 "$gobctl" create huge --size 64M
evil=$(printf 'e\033]0;v\a\n')
expect 0 "$gobctl" create "$evil" --size 4K; says 'e\x1b]0;v\x07'; says_not $'\033'
expect 0 "$gobctl" ls; says "matrix2"; says "rw-rw-r--"; says_not $'\033'
expect 0 "$gobctl" ls --json; equal "$(json 'len(j)')" 3
expect 0 "$gobctl" rm "$evil"
expect 0 "$gobctl" flush matrix; says "Flushed 12 pages from node n1; 3 stay here"
expect 4 "$gobctl" flush nothing
expect 8 "$gobctl" leave; says "the pages went nowhere"

# Statistics.
expect 0 "$gobctl" stat; says "Node n1"; says "Epoch 7, members n1, n2, n3"; says "1 MiB of 64 MiB"
expect 0 "$gobctl" stat --transport; says "RDMA device rxe0 port 1"; says "17 RTS"; says "4711"
says "completer_retry_err"; says_not "duplicate_request"
expect 0 "$gobctl" stat --transport --json
equal "$(json 'j["node"]["peers"][0]["paths"][0]["writes"], j["node"]["rdma"]["counters"]["duplicate_request"]')" "(4711, 0)"
expect 2 "$gobctl" stat matrix --transport
expect 0 "$gobctl" stat matrix
for text in "11 readable, 22 writable, 33 swapped" "n2 44" "45.1 us" "1.23 ms" "999 ns" "55" "66" "77" \
    "BOUNCING PAGE" "1000 times" "409600" "false sharing"; do
  says "$text"
done
equal "$(grep -c ' times$' <<<"$out")" 10
expect 0 "$gobctl" stat matrix --top 3; equal "$(grep -c ' times$' <<<"$out")" 3
expect 0 "$gobctl" stat matrix --json
equal "$(json 'j["containers"][0]["faults"]["read"]["p50_ns"]')" 45100
equal "$(json 'j["containers"][0]["owners"]')" "[{'node': 'n2', 'pages': 44}]"
expect 4 "$gobctl" stat nothing; says 'no container named "nothing"'
expect 0 "$gobctl" stat matrix --watch 0.1 --rounds 2; says "A SECOND"; says "bytes a second"
expect 0 "$gobctl" stat --watch 0.1 --rounds 2; says "FAULTS/S"
expect 0 "$gobctl" stat --json --watch 0.1 --rounds 3; equal "$(wc -l <<<"$out")" 3

# rm goes on after an error, which it reports.
expect 4 "$gobctl" rm nothing matrix matrix2; says "nothing"
expect 0 "$gobctl" ls --quiet; equal "$out" ""

# A watch ends when its gobd does, and says so.
coproc watch { exec "$gobctl" stat --watch 60 --node n3 2>&1; }
watch_pid=$!
exec 8<&"${watch[0]}"
read -r -t 30 -u 8 out; says "Node n3"
kill_now "$(cat "$GOB_DIR/n3/gobd.pid")"
out=$(cat <&8); says "has ended or closed"
wait $watch_pid && fail "a watch of a dead gobd succeeds"

# A dead node is seen, and can be started again; a pid file never hits another process.
expect 3 "$gobctl" cluster status; says "1 of 3 nodes do not serve"; says "not running"
expect 3 "$gobctl" ls --node n3; says "no gobd listens"
expect 0 "$gobctl" cluster restart n3 --gobd "$fake"; says "ready"
expect 0 "$gobctl" cluster status
expect 0 "$gobctl" cluster restart n3 --gobd "$fake"
equal "$(running)" 3
expect 4 "$gobctl" cluster restart n4 --gobd "$fake"
sleep 600 &
bystander=$!
kill_now "$(cat "$GOB_DIR/n2/gobd.pid")"
echo $bystander >"$GOB_DIR/n2/gobd.pid"
expect 0 "$gobctl" cluster down; says "Stopped 2 of 3 nodes"
kill -0 $bystander 2>/dev/null || fail "a bystander was killed"
kill $bystander
equal "$(running)" 0
[[ ! -e $GOB_DIR ]] || fail "left behind: $(ls -R "$GOB_DIR")"

# What does not start leaves nothing running, and its log is shown.
export FAKE_GOBD_n2=fail
expect 3 up --nodes 3; says "node n2"; says "ended with status 3"; says "a fake failure"
equal "$(running)" 0
export FAKE_GOBD_n2=mute
expect 3 up --nodes 2 --timeout 3; says "was not ready"; says "waiting for godot"
equal "$(running)" 0
unset FAKE_GOBD_n2
expect 3 "$gobctl" cluster up --gobd /bin/true --nodes 1; says "ended with status 0"

# Interrupted while it waits: everything is stopped.
coproc starter { FAKE_GOBD_n1=mute exec "$gobctl" cluster up --gobd "$fake" --nodes 2 2>&1; }
starter_pid=$!
exec 8<&"${starter[0]}"
while read -r -t 30 -u 8 out && [[ $out != *"ready  n2"* ]]; do :; done
says "ready  n2"
kill -INT $starter_pid
out=$(cat <&8); says "interrupted"
wait $starter_pid && fail "an interrupted start succeeds"
equal "$(running)" 0

# The remains of failed starts are replaced; a node that ignores SIGTERM is killed.
export FAKE_GOBD_n1=stubborn
expect 0 up --nodes 2 --swap 1M --shards 2
grep -q "shards = 2" "$GOB_DIR/n1/gobd.toml" || fail "shards in the configuration"
grep -q "swap = 1048576" "$GOB_DIR/n1/gobd.toml" || fail "swap in the configuration"
[[ -d $GOB_DIR/n1/swap ]] || fail "no swap directory"
expect 0 "$gobctl" cluster down --timeout 0.3 --keep; says "did not end within"; says "files are kept"
equal "$(running)" 0
[[ -s $GOB_DIR/n1/gobd.toml ]] || fail "files are not kept"
expect 0 "$gobctl" cluster down; says "Stopped 0 of 2"
[[ ! -e $GOB_DIR ]] || fail "left behind: $(ls -R "$GOB_DIR")"
unset FAKE_GOBD_n1

# Two at a time in one place: one waits for nobody and says so.
expect 0 up --nodes 1
exec 9<"$GOB_DIR/lock"
flock 9
expect 8 "$gobctl" cluster down; says "another gobctl"
exec 9<&-
expect 0 "$gobctl" cluster down
finish
