#!/usr/bin/env bash
# two_guests.sh GOBD GOBCTL HELLO_SHARED: two emulated machines with a cable between them, a gobd on
# each, and one program that both take part in: its pages go over RDMA from kernel to kernel.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
gobd=$1 gobctl=$2 hello=$3
"$here/prepare.sh" >/dev/null || exit $?
dir=$(mktemp -d)
guests=()
clean_up() {
  [ ${#guests[@]} -eq 0 ] || kill "${guests[@]}" 2>/dev/null
  wait
  rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

for i in 1 2; do
  mkdir "$dir/share$i"
  cat >"$dir/n$i.toml" <<TOML
node = "n$i"
control_socket = "/run/gob.sock"
transport = "verbs"
budget = "256M"
page_timeout_ms = 60000
peer_timeout_ms = 10000
form_timeout_ms = 200000
[[nodes]]
name = "n1"
host = "10.78.0.1"
[[nodes]]
name = "n2"
host = "10.78.0.2"
TOML
  # A guest's part. Its gobd forms a cluster with the other's as soon as that is there.
  cat >"$dir/part$i.sh" <<PART
export GOB_SOCKET=/run/gob.sock
$gobd --config $dir/n$i.toml &
daemon=\$!
until $gobctl nodes --json 2>/dev/null | grep -c '"member": true' | grep -qx 2; do
  kill -0 \$daemon || exit 1
  sleep 0.5
done
$hello $((i - 1)) 2 || exit 1
$gobctl stat --transport
$gobctl stat --json >/share/stat.json
# Neither leaves before the other has looked: its peer is gone from the figures then.
$gobctl create looked-$i --size 4K || exit 1
until $gobctl ls --json | grep -q '"looked-$((3 - i))"'; do
  kill -0 \$daemon || exit 1
  sleep 0.5
done
kill -TERM \$daemon
wait \$daemon
PART
done
for i in 1 2; do
  GUEST_SHARE=$dir/share$i GUEST_MEMORY=1024 \
    QEMU_NETWORK="-netdev dgram,id=wire,local.type=unix,local.path=$dir/wire$i,remote.type=unix,remote.path=$dir/wire$((3 - i)) -device virtio-net-pci,netdev=wire,mac=52:54:00:00:00:0$i" \
    "$here/run.sh" -s "wire:10.78.0.$i" -t 400 "sh $dir/part$i.sh" >"$dir/output$i" 2>&1 &
  guests+=($!)
done
status=0
for i in 1 2; do
  wait "${guests[$((i - 1))]}" || status=1
done
guests=()
for i in 1 2; do
  echo "--- guest $i"
  cat "$dir/output$i"
  grep -q 'rank .* right$' "$dir/output$i" || { echo "guest $i: no right result"; status=1; }
  grep -q '"transport": "verbs"' "$dir/share$i/stat.json" || { echo "guest $i: not over RDMA"; status=1; }
done
exit $status
