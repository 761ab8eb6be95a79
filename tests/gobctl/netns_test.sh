#!/usr/bin/env bash
# A development cluster in network namespaces, of scripted daemons: made, usable, gone afterwards.
# Arguments: gobctl fake_gobd. Needs root; status 77 (skipped) without.
# shellcheck source=checks.sh source-path=SCRIPTDIR
source "$(dirname "$0")/checks.sh"
gobctl=$1
fake=$2
if [[ $EUID -ne 0 ]]; then
  expect 5 "$gobctl" cluster up --gobd "$fake" --netns --dir "$(mktemp -du)"; says "needs root"
  [[ $failures -eq 0 ]] || exit 1
  echo "network namespaces need root"
  exit 77
fi
dir=$(mktemp -d)
leave_nothing "$dir" "$gobctl"
export GOB_DIR=$dir/cluster
unset GOB_SOCKET XDG_RUNTIME_DIR NOTIFY_SOCKET
mine() { ip netns list | awk '{print $1}' | grep -- "^gob-$tag-"; }
tag=none
clean_up() {
  "$gobctl" cluster down --timeout 1 >/dev/null 2>&1
  rm -rf "$dir"
}
trap clean_up EXIT

expect 0 "$gobctl" cluster up --gobd "$fake" --nodes 3 --netns; says "10.78.0.3:7400"
[[ $failures -eq 0 ]] || finish  # nothing below can work
tag=$(head -1 "$GOB_DIR/namespaces" | cut -d- -f2)
equal "$(mine | wc -l)" 4
expect 0 "$gobctl" nodes --node n3; says "10.78.0.1:7400"
for node in n1 n2 n3; do
  [[ $(readlink "/proc/$(cat "$GOB_DIR/$node/gobd.pid")/ns/net") != "$(readlink /proc/self/ns/net)" ]] ||
    fail "$node is in no namespace of its own"
done

# The nodes reach each other over the bridge.
read -r -d '' talk <<'PYTHON'
import socket, subprocess, sys
first, second = sys.argv[1:]
server = subprocess.Popen(["ip", "netns", "exec", first, "python3", "-c", """
import socket
s = socket.create_server(("10.78.0.1", 9999))
print("listening", flush=True)
print(s.accept()[1][0])
"""], stdout=subprocess.PIPE, text=True)
server.stdout.readline()
subprocess.run(["ip", "netns", "exec", second, "python3", "-c",
                "import socket; socket.create_connection(('10.78.0.1', 9999), 10)"], check=True)
print(server.stdout.readline().strip())
server.wait()
PYTHON
expect 0 python3 -c "$talk" "gob-$tag-n1" "gob-$tag-n3"; equal "$out" "10.78.0.3"

expect 0 "$gobctl" cluster restart n2 --gobd "$fake"
[[ $(readlink "/proc/$(cat "$GOB_DIR/n2/gobd.pid")/ns/net") != "$(readlink /proc/self/ns/net)" ]] ||
  fail "n2 came back outside of its namespace"
expect 0 "$gobctl" cluster down
equal "$(mine | wc -l)" 0
[[ ! -e $GOB_DIR ]] || fail "left behind: $(ls -R "$GOB_DIR")"

# Also after a start that failed, and after daemons that died.
FAKE_GOBD_n1=fail expect 3 "$gobctl" cluster up --gobd "$fake" --nodes 2 --netns
equal "$(mine | wc -l)" 0
expect 0 "$gobctl" cluster up --gobd "$fake" --nodes 1 --netns
kill_now "$(cat "$GOB_DIR/n1/gobd.pid")"
expect 0 "$gobctl" cluster up --gobd "$fake" --nodes 1
equal "$(mine | wc -l)" 0
finish
