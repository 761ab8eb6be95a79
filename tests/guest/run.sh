#!/usr/bin/env bash
# run.sh [-s SETUP] [-t SECONDS] [-d FOLDER] COMMAND [ARGUMENT ...]
# Runs a command in an emulated machine with RDMA devices made of software, and ends with its status.
# The guest sees the host's files (its writes stay in its memory); what the command prints is
# printed here. A single COMMAND is a line for the shell.
#   -s rxe        one device, rxe0, which talks to itself (the default)
#   -s nodes:N    devices node1 ... nodeN at 10.77.0.1 ... 10.77.0.N
#   -s wire:ADDR  a device on the network that QEMU_NETWORK makes, at this address
#   -s none       no RDMA device
# Environment: GUEST_SHARE=FOLDER is /share in the guest, for files to bring back (kept afterwards);
# QEMU_NETWORK: more arguments for QEMU. GUEST_MEMORY: MiB, 2048 if not given.
# Status: the command's; 77 this machine cannot run guests (reason on stderr); 124 too slow;
# 125 the guest died without a status.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
setup=rxe seconds=120 folder=$PWD
while getopts s:t:d: option; do
  case $option in
    s) setup=$OPTARG ;;
    t) seconds=$OPTARG ;;
    d) folder=$OPTARG ;;
    *) sed -n '2,3p' "$0" >&2; exit 2 ;;
  esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || { echo "run.sh: no command; see the head of $0" >&2; exit 2; }
root=$("$here/prepare.sh") || exit $?

share=${GUEST_SHARE:-}
[ -n "$share" ] || share=$(mktemp -d)
qemu=
clean_up() {
  # exec kept the pid: this is timeout, which passes the signal on to QEMU.
  [ -z "$qemu" ] || kill "$qemu" 2>/dev/null
  wait
  [ -n "${GUEST_SHARE:-}" ] || rm -rf "$share"
}
trap clean_up EXIT
trap 'exit 130' INT TERM
rm -f "$share/status"
: >"$share/output"
cp "$here/inside.sh" "$share/inside.sh"
if [ $# -eq 1 ]; then printf '%s\n' "$1"; else printf "env"; printf " %q" "$@"; fi >"$share/command"
printf 'FOLDER=%q\nSETUP=%q\nMODULES=%q\n' "$folder" "$setup" "$(readlink -f "$root/modules")" \
  >"$share/settings"

kernel_line="console=ttyS0 quiet panic=-1 oops=panic nokaslr mitigations=off tsc=reliable"
kernel_line+=" clocksource=tsc audit=0 selinux=0 apparmor=0 cryptomgr.notests no_timer_check"
kernel_line+=" random.trust_cpu=on"
# Both emulated processors have one thread: with one each (thread=multi), QEMU before 8.1 runs code that
# the other processor has just replaced, and a kernel that patches itself dies of it (int3).
# shellcheck disable=SC2086
timeout -k 5 "$seconds" qemu-system-x86_64 \
  -nodefaults -no-user-config -display none -no-reboot \
  -machine pc -accel tcg,thread=single,tb-size=256 -cpu max,la57=off,erms=off,fsrm=off \
  -smp 2 -m "${GUEST_MEMORY:-2048}" \
  -kernel "$root/vmlinux" -initrd "$root/initrd.cpio" -append "$kernel_line" \
  -serial file:"$share/console" -device isa-debug-exit,iobase=0xf4,iosize=0x04 \
  -fsdev local,id=host,path=/,security_model=none,readonly=on,multidevs=remap \
  -device virtio-9p-pci,fsdev=host,mount_tag=host \
  -fsdev local,id=share,path="$share",security_model=none \
  -device virtio-9p-pci,fsdev=share,mount_tag=share \
  ${QEMU_NETWORK:-} </dev/null >"$share/qemu.log" 2>&1 &
qemu=$!
# What the command prints appears while it runs.
tail -f -n +1 --pid=$qemu -s 0.2 "$share/output" &
wait $qemu
ended=$?
qemu=
wait

if [ -s "$share/status" ]; then exit "$(cat "$share/status")"; fi
cat "$share/qemu.log" >&2
tail -n 40 "$share/console" >&2
if [ $ended -eq 124 ] || [ $ended -eq 137 ]; then
  echo "run.sh: no end within $seconds s: $*" >&2
  exit 124
fi
echo "run.sh: the guest died without a status: $*" >&2
exit 125
