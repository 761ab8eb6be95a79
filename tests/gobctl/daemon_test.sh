#!/usr/bin/env bash
# gobctl and real daemons: what programs on the nodes do is what it shows. Arguments: gobctl gobd
# libgob.so.
# shellcheck source=checks.sh source-path=SCRIPTDIR
source "$(dirname "$0")/checks.sh"
gobctl=$1
gobd=$2
library=$3
touch_py=$(dirname "$0")/touch.py
dir=$(mktemp -d)
leave_nothing "$dir" "$gobctl"
chmod 755 "$dir" # for the other user below
export GOB_DIR=$dir/cluster
unset GOB_SOCKET XDG_RUNTIME_DIR NOTIFY_SOCKET
clean_up() {
  "$gobctl" cluster down --timeout 10 >/dev/null 2>&1
  rm -rf "$dir"
}
trap clean_up EXIT

# touch NODE CONTAINER read|write PAGE...
touch_pages() {
  local node=$1
  shift
  python3 "$touch_py" "$library" "$GOB_DIR/$node/gobd.sock" "$@"
}

expect 0 "$gobctl" cluster up --nodes 3 --gobd "$gobd" --budget 16M
[[ $failures -eq 0 ]] || finish # nothing below can work
expect 0 "$gobctl" cluster status --json
equal "$(json '[(n["running"], n["members"]) for n in j["nodes"]]')" "[(True, 3), (True, 3), (True, 3)]"
# It goes before programs, where it may.
expect 0 awk '{print $19}' "/proc/$(json 'j["nodes"][0]["pid"]')/stat"
if [[ $(nice -n -40 nice 2>/dev/null) -eq -20 ]]; then equal "$out" -19; else equal "$out" "$(nice)"; fi
expect 0 "$gobctl" nodes --json --node n2
equal "$(json '[(n["name"], n["member"]) for n in j["nodes"]]')" \
  "[('n1', True), ('n2', True), ('n3', True)]"

# A container made at one node is known at the others, and so is its removal.
expect 0 "$gobctl" create matrix --size 1M --node n1
expect 0 "$gobctl" ls --quiet --node n3; equal "$out" "matrix"
expect 6 "$gobctl" create matrix --size 1M --node n2; says "matrix"
expect 2 "$gobctl" create a/b --size 1M; says "a/b"
expect 2 "$gobctl" create '' --size 1M
expect 4 "$gobctl" rm nothing; says "nothing"
expect 4 "$gobctl" stat nothing
expect 4 "$gobctl" flush nothing

# What programs do shows: writes at n1, reads at n2, and one page that both write in turn.
expect 0 touch_pages n1 matrix write {0..9}; equal "$out" "0 0 0 0 0 0 0 0 0 0 "
expect 0 touch_pages n2 matrix read {0..9}; equal "$out" "1 1 1 1 1 1 1 1 1 1 "
for round in 1 3 5 7; do
  expect 0 touch_pages n2 matrix write 200; equal "$out" "$((round - 1)) "
  expect 0 touch_pages n1 matrix write 200; equal "$out" "$round "
done
expect 0 "$gobctl" stat matrix --json --node n2
equal "$(json 'j["containers"][0]["bytes_in"] >= 10 * 4096')" True
equal "$(json 'j["containers"][0]["faults"]["read"]["count"] > 0')" True
equal "$(json '0 < j["containers"][0]["faults"]["read"]["p50_ns"] <= j["containers"][0]["faults"]["read"]["max_ns"]')" True
equal "$(json 'j["containers"][0]["bouncing"][0]["page"]')" 200
equal "$(json 'j["containers"][0]["bouncing"][0]["count"] >= 3')" True
# How nodes reach each other: whether this machine has an RDMA device or not, with a reason for TCP.
expect 0 "$gobctl" stat --transport --node n2; says "WHY TCP"; says "RDMA device"
expect 0 "$gobctl" stat --transport --json --node n2
equal "$(json 'all(p["paths"][0]["transport"] == "verbs" or p["paths"][0]["reason"] for p in j["node"]["peers"])')" True
equal "$(json 'sum(p["paths"][0]["bytes_in"] for p in j["node"]["peers"]) >= 10 * 4096')" True
expect 0 "$gobctl" stat matrix --node n2; says "BOUNCING PAGE"; says "819200"
owners=0
for node in n1 n2 n3; do
  expect 0 "$gobctl" stat matrix --json --node $node
  owners=$((owners + $(json 'sum(o["pages"] for o in j["containers"][0]["owners"])')))
done
equal "$owners" 11 # each page that exists has one owner, and one node that knows it

# A flush leaves nothing at n1 and loses nothing.
expect 0 "$gobctl" flush matrix --node n1; says "0 stay here"
expect 0 "$gobctl" stat matrix --json --node n1
equal "$(json 'j["containers"][0]["pages"]["readable"] + j["containers"][0]["pages"]["writable"]')" 0
expect 0 touch_pages n3 matrix read 0 9 200; equal "$out" "1 1 8 "

# Another user sees the container but may not use or remove it.
if [[ $EUID -eq 0 ]] && command -v setpriv >/dev/null; then
  cp "$gobctl" "$dir/gobctl" # the build directory may be closed to others
  other() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
  expect 5 other "$dir/gobctl" rm matrix --socket "$GOB_DIR/n2/gobd.sock"; says "matrix"
  expect 5 other "$dir/gobctl" leave --socket "$GOB_DIR/n2/gobd.sock"
  expect 5 other "$dir/gobctl" cluster down
fi

# A node leaves in good order: its pages are still there. Started again, it joins.
expect 0 "$gobctl" leave --node n2; says "leaves"
expect 0 touch_pages n3 matrix read 0 9 200; equal "$out" "1 1 8 "
expect 0 "$gobctl" cluster restart n2 --gobd "$gobd"
expect 0 "$gobctl" cluster status
expect 0 touch_pages n2 matrix read 0 9 200; equal "$out" "1 1 8 "

# A node is killed: the others say so, and it joins again.
kill_now "$(cat "$GOB_DIR/n3/gobd.pid")"
expect 3 "$gobctl" cluster status; says "not running"
expect 0 "$gobctl" cluster restart n3 --gobd "$gobd"
expect 0 "$gobctl" nodes --json --node n3
equal "$(json '[n["member"] for n in j["nodes"]]')" "[True, True, True]"
expect 0 "$gobctl" rm matrix --node n3
expect 0 "$gobctl" ls --quiet --node n1; equal "$out" ""

expect 0 "$gobctl" cluster down; says "Stopped 3 of 3 nodes"; says_not "killed"
[[ ! -e $GOB_DIR ]] || fail "left behind: $(ls -R "$GOB_DIR")"
finish
