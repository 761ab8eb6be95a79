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

# The files of options of a FLAVOUR, one of build.sh's; each adds to those before.
kernel_options() {
  echo "$here/lean.config"
  case $1 in node|node-debug) echo "$here/node.config" ;; esac
  case $1 in debug|node-debug) echo "$here/debug.config" ;; esac
}

# Names what a kernel is built from.
kernel_key() {
  local parts
  mapfile -t parts < <(kernel_options "$1")
  parts+=("$here/build.sh")
  [ "$1" = base ] || parts+=("$here"/series/*.patch)
  echo "$1-$(source_version)-$(cat "${parts[@]}" <(gcc -dumpfullversion) | sha256sum | cut -c 1-16)"
}
