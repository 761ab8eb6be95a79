#!/usr/bin/env bash
# rxe-up.sh up|down|check INTERFACE: a software RDMA device (soft-RoCE) on a network interface.
#   up     adds the device rxe_INTERFACE and checks it
#   check  sends 4 KiB back and forth over it, from this machine to itself
#   down   removes it
# Needs root for up and down, the kernel module rdma_rxe, and the packages iproute2 and
# ibverbs-utils.
set -euo pipefail

usage() { sed -n '2,4p' "$0" >&2; exit 2; }
fail() { echo "rxe-up: $1" >&2; exit 1; }
[ $# -eq 2 ] || usage
interface=$2 device=rxe_$2

exists() { [ -d "/sys/class/infiniband/$device" ]; }
need_root() { [ "$(id -u)" -eq 0 ] || fail "$1 needs root"; }
need() { command -v "$1" >/dev/null || fail "$1 is missing: apt-get install $2"; }

check() {
  need ibv_rc_pingpong ibverbs-utils
  exists || fail "there is no device $device; try: $0 up $interface"
  # The index of the address to use: the interface's own IPv4 address, else whatever is first.
  local gid index=0
  for gid in "/sys/class/infiniband/$device"/ports/1/gids/*; do
    case $(cat "$gid") in 0000:0000:0000:0000:0000:ffff:*) index=${gid##*/}; break ;; esac
  done
  # The client retries while the server is not there yet.
  local port=$((20000 + $$ % 10000)) server log
  log=$(mktemp)
  timeout 30 ibv_rc_pingpong -d "$device" -g "$index" -p $port -s 4096 -n 1000 >/dev/null 2>"$log" &
  server=$!
  local tries=0
  until timeout 10 ibv_rc_pingpong -d "$device" -g "$index" -p $port -s 4096 -n 1000 127.0.0.1 \
    2>>"$log" | grep 'usec/iter'; do
    tries=$((tries + 1))
    if [ $tries -ge 20 ] || ! kill -0 $server 2>/dev/null; then
      kill $server 2>/dev/null || true
      cat "$log" >&2
      rm -f "$log"
      fail "$device is there, but nothing passes: is $interface up, with an address?"
    fi
    sleep 0.2
  done
  wait $server
  rm -f "$log"
  echo "$device works"
}

case $1 in
  up)
    need_root up
    need rdma iproute2
    [ -d "/sys/class/net/$interface" ] || fail "there is no network interface $interface"
    if ! exists; then
      modprobe rdma_rxe 2>/dev/null || [ -d /sys/module/rdma_rxe ] ||
        fail "this kernel has no module rdma_rxe; cloud kernels leave it out (README: tests/guest/run.sh)"
      rdma link add "$device" type rxe netdev "$interface" ||
        fail "the kernel refuses $device on $interface"
    fi
    check
    ;;
  check) check ;;
  down)
    need_root down
    need rdma iproute2
    exists || fail "there is no device $device"
    # Programs that use it, gobd among them, let go of it first: this may take a moment.
    rdma link delete "$device"
    ;;
  *) usage ;;
esac
