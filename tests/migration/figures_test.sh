#!/usr/bin/env bash
# gobbench's figure 13 has what it should; no times are judged. The program that moves
# checks its own result. Arguments: gobctl gobd gobmigrate traveller criu_shim gobbench.
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
gobbench=$6
ways="'gob', 'basic', 'CRIU, lazy', 'CRIU, full'"

expect 2 "$gobbench" figure 13 --size 2
expect 2 "$gobbench" figure 13 --size 64 --cluster-dir "$dir"
expect 0 "$gobbench" figure 13 --size 8M --runs 1 --json --results "$dir/results"
rows="[r for r in j['rows'] if r['what'] == 'freeze']"
equal "$(json "sorted((r['way'], r['lines']) for r in $rows) == sorted((w, 1024) for w in [$ways])")" True
equal "$(json "all(r['freeze_ms'] > 0 and r['sent_bytes'] > r['memory_bytes'] for r in $rows if r['way'] != 'CRIU, lazy')")" True
# What faults took is told for every one of them.
equal "$(json "all(sum(f['faults'] for f in j['rows'] if f['what'] != 'freeze' and f['lines'] == r['lines']) == r['faults'] for r in $rows if r['way'] == 'gob')")" True
equal "$(json "len(j['targets'])")" 1
[[ -s $dir/results/figure_13/data.csv && -s $dir/results/figure_13/run.json ]] || fail "no files"

for images in /dev/shm/gobbench-*; do
  of=${images#*gobbench-}
  [[ ! -e $images ]] || kill -0 "${of%-*}" 2>/dev/null || fail "images are left: $images"
done
finish
