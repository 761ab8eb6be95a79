#!/usr/bin/env bash
# What a test started ends with it, however that ends: by timeout, by SIGKILL. Waits for process PID;
# if it has not removed FOLDER itself, ends all that has GOB_DIR=FOLDER/cluster in its environment,
# and removes FOLDER. Started by leave_nothing (checks.sh). Arguments: PID FOLDER GOBCTL.
set -u
folder=$2 gobctl=$3
tail --pid="$1" -s 0.5 -f /dev/null
[[ -d $folder ]] || exit 0

# started PATTERN: those whose name is like this.
started() {
  local at name
  while read -r at; do
    at=${at#/proc/} at=${at%/environ}
    { read -r name <"/proc/$at/comm"; } 2>/dev/null || continue
    # shellcheck disable=SC2053  # it is a pattern
    [[ $at == $$ || $name != $1 ]] || echo "$at"
  done < <(grep -lsz "^GOB_DIR=$folder/cluster\$" /proc/[0-9]*/environ)
}
end() {
  local at
  for at in $(started "$1"); do kill -9 "$at" 2>/dev/null; done
}
shopt -s extglob
# Programs first; then gobd and gobmigrate's helpers have nothing left to hold, and clean up.
end '!(gobd|gobmigrate*)'
"$gobctl" cluster down --dir "$folder/cluster" --timeout 10
for _ in {1..50}; do
  [[ -n $(started 'gobmigrate*') ]] || break
  sleep 0.2
done
end '*'
# What is still mounted are somebody's files: rm must not get there.
for each in "$folder"/cluster/*.mnt; do [[ ! -d $each ]] || umount -l "$each" 2>/dev/null; done
rm -rf --one-file-system "$folder"
