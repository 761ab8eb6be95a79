# Sourced by the scripts of this folder: where the kernel's source comes from.
# source_package is Debian's; all that is made of it lies in $cache.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/gobelins/kernel
source_package=/usr/src/linux-source-6.12.tar.xz

# cannot REASON: ends with the status that ctest takes for "skipped".
cannot() { echo "${0##*/}: skipped: $1" >&2; exit 77; }

source_version() {
  dpkg-query -W -f '${Version}' linux-source-6.12 2>/dev/null | grep . ||
    cannot "no kernel source: apt-get install linux-source-6.12"
}

# Names what a kernel is built from: FLAVOUR is one of build.sh's.
kernel_key() {
  local parts=("$here/lean.config" "$here/build.sh")
  [ "$1" = base ] || parts+=("$here"/series/*.patch)
  [ ! -e "$here/$1.config" ] || [ "$1" = lean ] || parts+=("$here/$1.config")
  echo "$1-$(source_version)-$(cat "${parts[@]}" <(gcc -dumpfullversion) | sha256sum | cut -c 1-16)"
}
