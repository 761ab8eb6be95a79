#!/usr/bin/env bash
# gobbench's figure 13 has what it should; no times are judged. The program that moves
# checks its own result. Arguments: gobctl gobd gobmigrate traveller criu_shim gobbench.
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
gobbench=$6
images() { compgen -G '/dev/shm/gobbench-*'; }
before=$(images)
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

equal "$(images)" "$before"
# Nor are there any of one that is killed while a program is moved.
mkdir "$dir/tmp"
TMPDIR=$dir/tmp "$gobbench" figure 13 --size 8M --runs 1 --results '' >/dev/null 2>&1 &
until_true 60 eval '[[ $(images) != "$before" ]]'
kill -9 $!
until_true 30 eval '[[ $(images) == "$before" && -z $(ls "$dir/tmp") ]]'
until_true 30 eval '! pgrep -f "migrant .*$dir/tmp/"'
finish
