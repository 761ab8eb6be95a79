#!/usr/bin/env bash
# sparse.sh [--known]: runs sparse over the files that the series makes or changes. It may say nothing of
# the series' own files, and of the others only what it says of the unpatched ones (sparse-known.txt).
# Builds the lean kernel first where the cache has it not. Status 77: it cannot run here.
#   --known  writes sparse-known.txt anew, from the same files without the series
set -euo pipefail
. "$(dirname "$0")/source.sh"
known=$here/sparse-known.txt
case ${1:-} in ""|--known) ;; *) sed -n '2,5p' "$0" >&2; exit 2 ;; esac
command -v sparse >/dev/null || cannot "no sparse: apt-get install sparse"
source=$cache/source-patched
out=$cache/out-lean
if [ -z "${GOB_SPARSE_LAYERS:-}" ]; then
  "$here/build.sh" lean >/dev/null
  exec 8>"$cache/build-lean.lock" 9>"$source.lock"
  flock 8
  flock -s 9
fi
if [ -n "${1:-}" ] && [ -z "${GOB_SPARSE_LAYERS:-}" ]; then
  # The source as it is, but for this process alone and with the series taken off.
  layers=$(mktemp -d)
  trap 'rm -rf "$layers"' EXIT
  mkdir "$layers"/{upper,work}
  GOB_SPARSE_LAYERS=$layers unshare --map-root-user --mount "$0" --known
  exit
fi
series=("$here"/series/*.patch)
if [ -n "${1:-}" ]; then
  mount -t overlay overlay "$source" \
    -o "lowerdir=$source,upperdir=$GOB_SPARSE_LAYERS/upper,workdir=$GOB_SPARSE_LAYERS/work"
  for ((i = ${#series[@]} - 1; i >= 0; --i)); do
    patch -R -d "$source" -p1 --fuzz=0 -s <"${series[i]}"
  done
fi
# The kernel's Makefile gives these, and the compiler's flags, which are in the files of commands.
flags=(-D__linux__ -Dlinux -D__STDC__ -Dunix -D__unix__ -D__x86_64__ --arch=x86 -mlittle-endian -m64
  -Wbitwise -Wno-return-void -Wno-unknown-attribute)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
checked=0
while read -r file; do
  commands=$out/$(dirname "$file")/.$(basename "$file" .c).o.cmd
  if [ ! -e "$commands" ]; then echo "not in this kernel: $file"; continue; fi
  [ -e "$source/$file" ] || continue  # the series' own, which has been taken off
  compiled=$(sed -nE "1s/^savedcmd_[^ ]* := (ccache )?gcc -Wp,[^ ]* (.*) -c -o .*/\2/p" "$commands")
  [ -n "$compiled" ] || { echo "sparse.sh: $commands does not say how $file is compiled" >&2; exit 1; }
  # Its own status says that it found something. The flags are quoted for a shell.
  (cd "$out" && eval "sparse ${flags[*]} $compiled $source/$file") >>"$log" 2>&1 || true
  checked=$((checked + 1))
done < <(sed -n 's|^+++ b/\(.*\.c\)$|\1|p' "${series[@]}" | grep -v ^tools/ | sort -u)
if grep -E 'unable to open|too many errors|: fatal' "$log" >&2; then exit 1; fi
# Without the numbers of lines, which the series moves.
found=$(sed -nE "s|^($source/)?(\./)?([^:]*):[0-9]+:[0-9]+: ((warning\|error).*)|\3: \4|p" "$log" | LC_ALL=C sort)
if [ -n "${1:-}" ]; then
  printf '%s\n' "$found" >"$known"
  echo "sparse: $(wc -l <"$known") lines about $checked files without the series"
  exit
fi
new=$(LC_ALL=C comm -13 "$known" - <<<"$found")
if [ -n "$new" ]; then printf 'new: %s\n' "$new"; exit 1; fi
echo "sparse: nothing new in $checked files"
