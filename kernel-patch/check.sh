#!/usr/bin/env bash
# check.sh: is the series fit to be sent? It must apply to the packaged source with all its context,
# be clean in checkpatch --strict, and touch less than 200 lines of the core kernel.
# Only the files it touches are unpacked. Status 77: no source here (the reason is printed).
set -euo pipefail
. "$(dirname "$0")/source.sh"
version=$(source_version)
mapfile -t touched < <(sed -n 's|^--- a/||p' "$here"/series/*.patch | sort -u)
tools=(scripts/checkpatch.pl scripts/spelling.txt scripts/const_structs.checkpatch)
files=$cache/files-$version-$(printf '%s\n' "${touched[@]}" | sha256sum | cut -c 1-16)
mkdir -p "$cache"
exec 9>"$cache/check.lock"
flock 9
if [ ! -e "$files/complete" ]; then
  rm -rf "$files"
  mkdir -p "$files"
  # What an earlier patch of the series creates is not in the package.
  tar -xf "$source_package" -C "$files" --strip-components=1 --ignore-failed-read \
    "${touched[@]/#/linux-source-6.12/}" "${tools[@]/#/linux-source-6.12/}" 2>"$files/tar.log" || true
  [ -x "$files/scripts/checkpatch.pl" ] || { cat "$files/tar.log" >&2; exit 1; }
  touch "$files/complete"
fi
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
cp -a "$files/." "$tree"
for patch in "$here"/series/*.patch; do
  patch -d "$tree" -p1 --fuzz=0 --no-backup-if-mismatch -s <"$patch" ||
    { echo "check.sh: ${patch##*/} does not apply to linux-source-6.12 $version" >&2; exit 1; }
done
echo "applies to linux-source-6.12 $version: $(ls "$here/series" | wc -l) patches"
# --no-tree: the tree has only what the series touches.
perl "$files/scripts/checkpatch.pl" --no-tree --strict --quiet --no-summary "$here"/series/*.patch
echo "checkpatch --strict: clean"
"$here/core-lines.sh"
