#!/usr/bin/env bash
# build.sh [lean|node|debug|node-debug|base]: builds a small kernel for the guest from Debian's linux-source-6.12
# and prints the folder that holds it (image, and but for base gob.ko and the tests).
#   lean    patched (the default)    debug   patched, with KASAN, lockdep and DEBUG_VM
#   node    patched, with network and namespaces, for gobd; node-debug: both
#   base    not patched, to compare costs with
# Kept in ~/.cache/gobelins/kernel by what it was built from; only a cold cache builds. That takes
# about ten minutes of two quiet cores; KERNEL_BUILD_LIMIT seconds (5400) at most, with
# KERNEL_BUILD_NICE (12) and KERNEL_BUILD_JOBS (one for each core).
# build.sh --key FLAVOUR only prints where the kernel is, or ends with 77 if it is not built.
set -euo pipefail
. "$(dirname "$0")/source.sh"
only_look=
if [ "${1:-}" = --key ]; then only_look=yes; shift; fi
flavour=${1:-lean}
case $flavour in lean|node|debug|node-debug|base) ;; *) sed -n '2,10p' "$0" >&2; exit 2 ;; esac
version=$(source_version)
kernel=$cache/$(kernel_key "$flavour")
if [ -e "$kernel/complete" ]; then echo "$kernel"; exit 0; fi
[ -z "$only_look" ] || cannot "the $flavour kernel is not built: kernel-patch/build.sh $flavour"

for tool in gcc make bc bison flex ccache patch; do
  command -v "$tool" >/dev/null || cannot "$tool is not installed; see scripts/packages.txt"
done
[ -e /usr/include/gelf.h ] || cannot "libelf-dev is not installed; see scripts/packages.txt"
mkdir -p "$cache"
log=$cache/build-$flavour.log
say() { echo "build.sh: $*" >&2; }
failed() { tail -n 30 "$log" >&2; say "$1; all output is in $log"; exit 1; }

# One source tree for each state, always at the same path: the compiler's cache goes by that. When
# the series changes, only files that become other files are written: make compiles no more than that.
state=patched
series=("$here"/series/*.patch)
if [ "$flavour" = base ]; then state=base series=(); fi
source=$cache/source-$state
# One build of a kernel at a time, and the source stays as it is while any is built from it.
exec 8>"$cache/build-$flavour.lock" 9>"$source.lock"
flock 8
flock 9
if [ "$(cat "$source/.version" 2>/dev/null)" != "$version" ]; then
  say "unpacking linux-source-6.12 $version"
  rm -rf "$source"
  mkdir -p "$source"
  tar -xf "$source_package" -C "$source" --strip-components=1
  touch "$source/.touched"
  echo "$version" >"$source/.version"
fi
stamp=$(cat /dev/null "${series[@]}" | sha256sum)
if [ "$(cat "$source/.series" 2>/dev/null)" != "$stamp" ]; then
  say "applying ${#series[@]} patches"
  rm -f "$source/.series"
  files=$(mktemp -d)
  trap 'rm -rf "$files"' EXIT
  cat /dev/null "${series[@]}" | sed -n 's|^--- a/||p; s|^+++ b/||p' |
    sort -u - "$source/.touched" >"$files/.touched"
  mkdir "$files/tree"
  # What the series creates is not in the package.
  tar -xf "$source_package" -C "$files/tree" --strip-components=1 --ignore-failed-read \
    --files-from <(sed 's|^|linux-source-6.12/|' "$files/.touched") 2>/dev/null || true
  for patch in "${series[@]}"; do
    patch -d "$files/tree" -p1 --fuzz=0 -s <"$patch" >"$log" || failed "${patch##*/} does not apply"
  done
  while read -r file; do
    if cmp -s "$files/tree/$file" "$source/$file"; then continue; fi
    if [ -e "$files/tree/$file" ]; then
      mkdir -p "$(dirname "$source/$file")"
      cp "$files/tree/$file" "$source/$file"
      touch "$source/$file"
    else
      rm -f "$source/$file"
    fi
  done <"$files/.touched"
  cp "$files/.touched" "$source/.touched"
  echo "$stamp" >"$source/.series"
fi
flock -s 9
[ "$(cat "$source/.series")" = "$stamp" ] || failed "another checkout has changed $source; try again"

out=$cache/out-$flavour
mkdir -p "$out"
mapfile -t options < <(kernel_options "$flavour")
# A fixed date and builder, or the compiler's cache would miss what mentions them.
export KBUILD_BUILD_TIMESTAMP=@0 KBUILD_BUILD_USER=gobelins KBUILD_BUILD_HOST=gobelins
make_kernel() {
  nice -n "${KERNEL_BUILD_NICE:-12}" timeout "${KERNEL_BUILD_LIMIT:-5400}" \
    make -s -C "$source" O="$out" CC="ccache gcc" -j"${KERNEL_BUILD_JOBS:-$(nproc)}" "$@" >>"$log" 2>&1
}
: >"$log"
stamp=$version-$(cd "$source" && sed -n /Kconfig/p .touched | xargs cat "${options[@]}" | sha256sum)
if [ "$(cat "$out/.gobelins" 2>/dev/null)" != "$stamp" ]; then
  make_kernel tinyconfig || failed "make tinyconfig failed"
  (cd "$out" && "$source/scripts/kconfig/merge_config.sh" -m -O "$out" .config "${options[@]}") \
    >>"$log" || failed "cannot merge the configurations"
  make_kernel olddefconfig || failed "make olddefconfig failed"
  echo "$stamp" >"$out/.gobelins"
fi
# Options that have gone or depend on others would be dropped without a word.
grep -h '=[ym]$' "${options[@]}" | while read -r option; do
  case $flavour:$option in base:CONFIG_LINKER=*|base:CONFIG_GOB=*) continue ;; esac
  grep -qx "$option" "$out/.config" || { echo "not in the configuration: $option" >>"$log"; exit 1; }
done || failed "the configuration lacks something"

say "building the $flavour kernel (log: $log)"
begun=$SECONDS
targets=(vmlinux) image=vmlinux
# An unpacked kernel boots fastest, but one with KASAN cannot be booted so: what runs before its first
# page table (memcmp from the PVH entry, Linux 6.12) would be checked in a shadow that is not there.
if [[ $flavour = *debug ]]; then targets=(bzImage) image=arch/x86/boot/bzImage; fi
[ "$flavour" = base ] || targets+=(modules)
make_kernel "${targets[@]}" || failed "make ${targets[*]} failed, or took more than ${KERNEL_BUILD_LIMIT:-5400} s"
say "built in $((SECONDS - begun)) s"

rm -rf "$kernel"
mkdir -p "$kernel"
cp "$out/$image" "$kernel/image"
cp "$out/.config" "$kernel/"
if [ "$flavour" != base ]; then
  cp "$out/drivers/misc/gob.ko" "$kernel/"
  mkdir -p "$kernel/include/linux"
  cp "$source/include/uapi/linux/gob.h" "$kernel/include/linux/"
  for program in gob_test gob_calls gob_stress gob_churn gob_cost; do
    gcc -static -O2 -Wall -Werror -pthread -idirafter "$kernel/include" \
      "$source/tools/testing/selftests/gob/$program.c" -o "$kernel/$program" >>"$log" 2>&1 ||
      failed "cannot compile $program"
  done
fi
touch "$kernel/complete"
echo "$kernel"
