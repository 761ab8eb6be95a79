#!/usr/bin/env bash
# try.sh [-k lean|node|debug|node-debug|base] [-b] [-t SECONDS] [-p PROGRAM ...] [COMMAND]
# Boots the patched kernel in an emulated machine and runs there the kselftest, the stress program on
# shared memory and on ext4, and the removal of the module; or COMMAND, a line for busybox's shell
# (programs: /gob_test, /gob_calls, /gob_stress, /gob_churn, /gob_cost; an ext4 file system is on /mnt). Ends with its status.
#   -k   which kernel (build.sh); built first where the cache has it not
#   -b   only if it is built: else status 77 and the reason
#   -t   time limit of the guest, 300 s if not given; then status 124
#   -p   a program of this machine, to be in /programs with the libraries it needs; may be repeated
# Status 125: the guest died, with what it last said. Environment: QEMU_ARGUMENTS, more of them.
set -euo pipefail
. "$(dirname "$0")/source.sh"
flavour=lean only_built= seconds=300 packed=()
while getopts k:bt:p: option; do
  case $option in
    k) flavour=$OPTARG ;;
    b) only_built=--key ;;
    t) seconds=$OPTARG ;;
    p) packed+=("$OPTARG") ;;
    *) sed -n '2,10p' "$0" >&2; exit 2 ;;
  esac
done
shift $((OPTIND - 1))
for tool in qemu-system-x86_64 /bin/busybox cpio mke2fs; do
  command -v "$tool" >/dev/null || cannot "$tool is not installed; see scripts/packages.txt"
done
# shellcheck disable=SC2086
kernel=$("$here/build.sh" $only_built "$flavour") || exit $?
echo "kernel: $kernel"

work=$(mktemp -d)
qemu=
# The pid is timeout's, which passes the signal on to QEMU.
trap '[ -z "$qemu" ] || kill "$qemu" 2>/dev/null || true; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
tree=$work/tree
mkdir -p "$tree"/{bin,dev,proc,sys,tmp,mnt}
cp /bin/busybox "$tree/bin/"
programs=$kernel
# An unpatched kernel has no tests of its own; what measures costs is the patched one's.
# shellcheck disable=SC2086
[ "$flavour" != base ] || programs=$("$here/build.sh" $only_built lean) || exit $?
for file in gob.ko gob_test gob_calls gob_stress gob_churn gob_cost; do
  if [ "$flavour" = base ] && [ "$file" != gob_cost ]; then continue; fi
  cp "$programs/$file" "$tree/"
done
if [ ${#packed[@]} -gt 0 ]; then
  mkdir "$tree/programs"
  for program in "${packed[@]}"; do
    objcopy --strip-debug "$program" "$tree/programs/${program##*/}"
  done
  # Each library by the path where the loader looks for it.
  ldd "${packed[@]}" | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\/.*ld-linux/ { print $1 }' | sort -u |
    while read -r library; do
      mkdir -p "$tree/${library%/*}"
      cp -L "$library" "$tree/$library"
    done
fi
truncate -s 64M "$tree/disk"
mke2fs -q -t ext4 "$tree/disk"
cp "$here/guest-init.sh" "$tree/init"
if [ $# -gt 0 ]; then printf '%s\n' "$*" >"$tree/command"; else cp "$here/guest-tests.sh" "$tree/command"; fi
(cd "$tree" && find . -print0 | cpio --null -o -H newc --quiet | gzip -1) >"$work/initrd"

console=$work/console
: >"$console"
# One thread for both processors, as in tests/guest/run.sh.
# shellcheck disable=SC2086
timeout -k 5 "$seconds" qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \
  -machine pc -accel tcg,thread=single -cpu max,la57=off -smp 2 -m 1024 -kernel "$kernel/image" \
  -initrd "$work/initrd" -serial file:"$console" \
  -append "console=ttyS0 quiet panic=-1 oops=panic nokaslr mitigations=off tsc=reliable no_timer_check random.trust_cpu=on" \
  ${QEMU_ARGUMENTS:-} </dev/null >"$work/qemu.log" 2>&1 &
qemu=$!
tail -f -n +1 --pid=$qemu -s 0.2 "$console" | sed -u 's/\r$//; /^guest: status [0-9]*$/d'
ended=0
wait $qemu || ended=$?
cat "$work/qemu.log" >&2
status=$(tr -d '\r' <"$console" | sed -n 's/^guest: status \([0-9]*\)$/\1/p' | tail -n 1)
if [ -n "$status" ]; then exit "$status"; fi
if [ $ended -eq 124 ] || [ $ended -eq 137 ]; then
  echo "try.sh: the guest did not end within $seconds s" >&2
  exit 124
fi
echo "try.sh: the guest died (QEMU ended with $ended)" >&2
exit 125
