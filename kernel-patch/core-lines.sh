#!/usr/bin/env bash
# core-lines.sh: how many lines of the core kernel the series adds or changes, by file. Not counted:
# files of its own, the module (drivers/misc), documentation, tests, MAINTAINERS.
set -euo pipefail
cd "$(dirname "$0")/series"
awk '
  /^--- / { old = $2 }
  /^\+\+\+ / { file = substr($2, 3); next }
  /^diff / { file = "" ; next }
  old == "/dev/null" || file == "" { next }
  file ~ /^(Documentation|tools|drivers\/misc)\/|^MAINTAINERS$/ { next }
  /^-- ?$/ || /^--- / { next }
  /^\+/ { added[file]++; all_added++ }
  /^-/ { removed[file]++; all_removed++ }
  END {
    for (file in added) printf "%5d added %5d removed  %s\n", added[file], removed[file], file | "sort -k5"
    close("sort -k5")
    printf "%5d added %5d removed  core kernel\n", all_added, all_removed
    exit all_added >= 200
  }' ./*.patch
