#!/usr/bin/env bash
# sparse.sh: runs sparse over the files that the series makes or changes. It may say nothing of the
# series' own files, and of the others only what it says of the unpatched ones (sparse-known.txt).
# Builds the lean kernel first where the cache has it not. Status 77: it cannot run here.
set -euo pipefail
. "$(dirname "$0")/source.sh"
command -v sparse >/dev/null || cannot "no sparse: apt-get install sparse"
"$here/build.sh" lean >/dev/null
source=$cache/source-patched
out=$cache/out-lean
exec 8>"$cache/build-lean.lock" 9>"$source.lock"
flock 8
flock -s 9
mapfile -t files < <(sed -n 's|^+++ b/\(.*\.c\)$|\1|p' "$here"/series/*.patch | grep -v ^tools/ | sort -u)
objects=()
for file in "${files[@]}"; do
  object=${file%.c}.o
  if [ -e "$out/$object" ]; then objects+=("$object"); else echo "not in this kernel: $file"; fi
done
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The date and builder are build.sh's, or all would be compiled anew.
KBUILD_BUILD_TIMESTAMP=@0 KBUILD_BUILD_USER=gobelins KBUILD_BUILD_HOST=gobelins nice -n 12 \
  make -s -C "$source" O="$out" CC="ccache gcc" C=2 CHECK=sparse "${objects[@]}" >"$log" 2>&1 ||
  { tail -n 30 "$log" >&2; exit 1; }
# Without the numbers of lines, which the series moves.
found=$(sed -nE "s/^(.*\/source-patched\/)?([^:]*):[0-9]+:[0-9]+: ((warning|error).*)/\2: \3/p" "$log" | LC_ALL=C sort)
new=$(LC_ALL=C comm -13 "$here/sparse-known.txt" - <<<"$found")
if [ -n "$new" ]; then printf 'new: %s\n' "$new"; exit 1; fi
echo "sparse: nothing new in ${#objects[@]} files"
