#!/usr/bin/env bash
# gobd with the rights that its unit gives it does all that gobd.toml and gobctl offer with files: two
# nodes under the unit's bounding set and filter of system calls (systemd itself does not run here).
# Arguments: gobd, gobctl, source directory, a program that maps and counts (map_counter), preload library.
# shellcheck source=../gobctl/checks.sh source-path=SCRIPTDIR
source "$(dirname "$0")/../gobctl/checks.sh"
gobd=$1 gobctl=$2 source_dir=$3 counter=$4 preload=$5
here=$(cd "$(dirname "$0")" && pwd)
unit=$source_dir/packaging/gobd.service.in
drop_in=$source_dir/packaging/gobd-memory-only.conf

# These give a service mounts of its own (systemd.exec(5)): nobody else would see the files.
private='Protect(System|Home|KernelTunables|KernelModules|KernelLogs|ControlGroups|Proc)|Private(Tmp|Devices|Mounts|IPC)'
private+='|ProcSubset|MountFlags|MountAPIVFS|Root(Directory|Image)|(ReadWrite|ReadOnly|Inaccessible|Exec|NoExec|BindReadOnly|Bind)Paths'
private+='|TemporaryFileSystem|DynamicUser|NetworkNamespacePath|IPCNamespacePath|LogNamespace'
expect 1 grep -E "^($private)=" "$unit"
equal "$out" ""
expect 0 grep -qE '^DeviceAllow=/dev/fuse rw$' "$unit"

if [[ $EUID -ne 0 || ! -e /dev/fuse || ! -e /dev/userfaultfd ]] || ! command -v systemd-analyze >/dev/null ||
    ! python3 -c 'import ctypes; ctypes.CDLL("libseccomp.so.2")' 2>/dev/null; then
  finish || exit 1
  echo "SKIPPED: needs root, /dev/fuse, /dev/userfaultfd, systemd-analyze and libseccomp.so.2"
  exit 77
fi

dir=$(mktemp -d)
chmod 755 "$dir"
declare -A pids=()
end() {
  local node
  for node in "${!pids[@]}"; do kill "${pids[$node]}" 2>/dev/null && wait "${pids[$node]}"; done
  for node in n1 n2; do umount -l "$dir/$node.mnt" 2>/dev/null; done
  rm -rf --one-file-system "$dir"
}
trap end EXIT
mkdir "$dir/n1.mnt" "$dir/n2.mnt" "$dir/tree" "$dir/tree/theirs" "$dir/notify"
chown 65534:65534 "$dir/tree/theirs"
read -r port1 port2 < <(python3 -c 'import socket
held = [socket.socket() for _ in range(2)]
for s in held: s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in held))')
mount_line() { echo "mount = \"$dir/$1.mnt\""; }
configure() {
  local node
  for node in n1 n2; do
    cat >"$dir/$node.toml" <<END
cluster = "unit"
node = "$node"
budget = "64M"
control_socket = "$dir/$node.sock"
$("$1" $node)
[[nodes]]
name = "n1"
host = "127.0.0.1"
port = $port1
[[nodes]]
name = "n2"
host = "127.0.0.1"
port = $port2
END
  done
}
# start NODE FILE...: a gobd under these files of systemd; returns when it serves.
start() {
  local node=$1
  shift
  python3 - "$dir/notify/$node" "$dir/$node.ready" <<'END' &
import os, socket, sys
heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
heard.bind(sys.argv[1])
os.mkfifo(sys.argv[1] + ".bound")
open(sys.argv[1] + ".bound", "w").close()
heard.settimeout(30)
while b"READY=1" not in heard.recv(4096): pass
open(sys.argv[2], "w").close()
END
  listeners[$node]=$!
  until [[ -p $dir/notify/$node.bound ]]; do
    kill -0 "${listeners[$node]}" || exit 1 # it has said why
    sleep 0.02
  done
  read -r <"$dir/notify/$node.bound"
  NOTIFY_SOCKET=$dir/notify/$node exec_unit "$node" "$@" &
  pids[$node]=$!
}
exec_unit() {
  local node=$1
  shift
  exec python3 "$here/run_as_unit.py" "$@" -- "$gobd" --config "$dir/$node.toml" >>"$dir/$node.log" 2>&1
}
declare -A listeners=()
start_both() {
  local node
  rm -rf "$dir"/notify/*
  for node in n1 n2; do start $node "$@"; done
  for node in n1 n2; do
    wait "${listeners[$node]}" || fail "$node does not serve: $(tail -5 "$dir/$node.log")"
  done
}
stop() {
  kill "$2" "${pids[$1]}"
  wait "${pids[$1]}"
  unset "pids[$1]"
}
on() { local node=$1; shift; expect 0 "$gobctl" "$@" --socket "$dir/$node.sock"; }
as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }

configure mount_line
start_both "$unit"
on n1 attach data --tree "$dir/tree"
seen=$dir/n2.mnt/data

# Root, and another user with the rights of his own.
expect 0 sh -c "echo secret >$seen/secret && chmod 600 $seen/secret && chown 0:0 $seen/secret"
equal "$(cat "$dir/tree/secret")" secret
expect 1 as_nobody cat "$seen/secret"
says "Permission denied"
expect 2 as_nobody sh -c "echo no >$seen/no"
expect 0 as_nobody sh -c "echo his >$seen/theirs/file && chmod 4711 $seen/theirs/file"
equal "$(stat -c '%u %g %a' "$dir/tree/theirs/file")" "65534 65534 4711"
expect 0 chown 1:2 "$seen/theirs/file"
equal "$(stat -c '%u %g' "$dir/tree/theirs/file")" "1 2"
expect 1 as_nobody chown 65534 "$seen/theirs/file"
expect 0 mkfifo "$seen/fifo"
expect 0 mknod "$seen/null" c 1 3
equal "$(stat -c '%F %t %T' "$dir/tree/null")" "character special file 1 3"
expect 0 sh -c "mkdir $seen/sub && mv $seen/secret $seen/sub && ln -s sub/secret $seen/link && ln $seen/sub/secret $seen/second"
equal "$(cat "$seen/link")" secret
if command -v setfattr >/dev/null; then
  expect 0 setfattr -n user.word -v right "$seen/second"
  equal "$(getfattr --only-values -n user.word --absolute-names "$dir/tree/second")" right
fi

# A mapped file, its home killed and found again by its handle.
truncate -s 8192 "$dir/tree/counter"
expect 0 env GOB_SOCKET="$dir/n2.sock" LD_PRELOAD="$preload" "$counter" "$seen/counter" 1000
stop n1 -KILL
rm -rf "$dir"/notify/*
start n1 "$unit"
wait "${listeners[n1]}" || fail "n1 does not serve again: $(tail -5 "$dir/n1.log")"
# It serves before n2 has heard that it does.
give_up=$((SECONDS + 30))
until [[ $(cat "$seen/link" 2>/dev/null) == secret || $SECONDS -ge $give_up ]]; do sleep 0.02; done
equal "$(cat "$seen/link")" secret
on n1 detach data
equal "$(od -An -t u8 -j 4096 -N 8 "$dir/tree/counter" | tr -d ' ')" 1000
for node in n1 n2; do stop $node -TERM; done
[[ -z $(ls "$dir/n2.mnt") ]] || fail "n2 has left its mount"

# Memory alone, with fewer rights.
configure true
start_both "$unit" "$drop_in"
on n1 create words --size 1M
on n2 ls
says words
for node in n1 n2; do stop $node -TERM; done

[[ $failures -eq 0 ]] || tail -n 40 "$dir"/n?.log >&2
finish
