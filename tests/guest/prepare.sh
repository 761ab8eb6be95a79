#!/usr/bin/env bash
# prepare.sh: makes what a guest boots from, once, and prints the folder that holds it:
#   vmlinux       Debian's 6.12 kernel, unpacked so that an emulated processor need not do it
#   initrd.cpio   busybox, the few modules a guest needs, init.sh
#   modules       link to the kernel package's module tree, for modprobe in the guest
# The kernel package is fetched with apt and unpacked, never installed. Everything lies in
# ${XDG_CACHE_HOME:-~/.cache}/gobelins/guest, in a folder named by what went into it.
# Status 77: this machine cannot have it, with the reason on stderr.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/gobelins/guest
modules=(virtio_pci 9p 9pnet_virtio overlay crc32_generic rdma_rxe rdma_ucm ib_umad virtio_net veth
  dummy bridge fuse sch_netem sch_tbf)

cannot() { echo "guest: $1" >&2; exit 77; }
for tool in qemu-system-x86_64 /bin/busybox cpio xzcat zstdcat apt-get dpkg; do
  command -v "$tool" >/dev/null || cannot "$tool is not installed; see scripts/packages.txt"
done
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9

# The plain flavour of the newest 6.12 that apt knows; without apt's lists, the newest in the cache.
package=$(apt-cache depends linux-image-6.12-amd64 2>/dev/null | awk '/Depends:/{print $2; exit}')
if [ -n "$package" ]; then
  version=$(apt-cache show "$package" | awk '/^Version:/{print $2; exit}')
  kernel=$cache/$package-$version
else
  kernel=$(find "$cache" -maxdepth 1 -name 'linux-image-6.12*' -print | sort -V | tail -n 1)
  [ -n "$kernel" ] || cannot "apt knows no linux-image-6.12-amd64 (apt-get update?), and none is cached"
fi
if [ ! -e "$kernel/complete" ]; then
  rm -rf "$kernel" "$cache/fetch"
  mkdir -p "$kernel" "$cache/fetch"
  (cd "$cache/fetch" && apt-get -qq download "$package" 2>apt.log) ||
    cannot "apt-get download $package failed: $(tail -n 1 "$cache/fetch/apt.log")"
  dpkg -x "$cache"/fetch/*.deb "$kernel"
  rm -rf "$cache/fetch"
  touch "$kernel/complete"
fi
release=$(ls "$kernel/lib/modules")

root=$cache/root-$(cat <(echo "$kernel ${modules[*]}") "$here/init.sh" /bin/busybox "$here/prepare.sh" |
  sha256sum | cut -c 1-16)
if [ -e "$root/complete" ]; then
  echo "$root"
  exit 0
fi
rm -rf "$root"
mkdir -p "$root"
ln -s "$kernel/lib/modules" "$root/modules"
[ -e "$kernel/lib/modules/$release/modules.dep" ] || /sbin/depmod -b "$kernel" "$release"

# A vmlinuz is a small program with the kernel packed behind it: try wherever a packer's mark is.
packed=$kernel/boot/vmlinuz-$release
is_elf() { [ "$(head -c 4 "$1" | tail -c 3)" = ELF ]; }
unpack() {
  local mark=$1 tool=$2 at
  for at in $(LC_ALL=C grep -obUaP "$mark" "$packed" | cut -d: -f1); do
    # The packed kernel is followed by other bytes, which the tool complains about.
    tail -c +$((at + 1)) "$packed" | "$tool" >"$root/vmlinux" 2>/dev/null || true
    is_elf "$root/vmlinux" && return 0
  done
  return 1
}
unpack '\x28\xB5\x2F\xFD' zstdcat || unpack '\xFD7zXZ\x00' xzcat ||
  { echo "guest: cannot unpack $packed" >&2; exit 1; }

tree=$root/tree
mkdir -p "$tree"/{bin,dev,proc,sys,lower,upper,new,modules}
cp /bin/busybox "$tree/bin/busybox"
install -m 755 "$here/init.sh" "$tree/init"
for module in "${modules[@]}"; do
  /sbin/modprobe -S "$release" -d "$kernel" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ {print $2}' | while read -r file; do
  name=$(basename "${file%.xz}")
  case $file in
    *.xz) xzcat "$file" >"$tree/modules/$name" ;;
    *) cp "$file" "$tree/modules/$name" ;;
  esac
  echo "$name" >>"$tree/modules/order"
done
(cd "$tree" && find . -print0 | cpio --null -o -H newc --quiet) >"$root/initrd.cpio"
rm -rf "$tree"
touch "$root/complete"
echo "$root"
