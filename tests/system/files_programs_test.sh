#!/usr/bin/env bash
# Programs as people use them, on files that two nodes mount: fio with verification, git and a
# build, sqlite3. Arguments: gobctl gobd libgob_preload.so.
# shellcheck source=../gobctl/checks.sh source-path=SCRIPTDIR
source "$(dirname "$0")/../gobctl/checks.sh"
gobctl=$1 gobd=$2 preload=$3
for program in fio git cc make sqlite3; do
  command -v "$program" >/dev/null || fail "$program is not installed; see scripts/packages.txt"
done
dir=$(mktemp -d)
leave_nothing "$dir" "$gobctl"
export GOB_DIR=$dir/cluster
unset GOB_SOCKET XDG_RUNTIME_DIR
clean_up() {
  "$gobctl" cluster down --timeout 10 >/dev/null 2>&1
  # What is still mounted are somebody's files: rm must not get there.
  for mount in "$GOB_DIR"/*.mnt; do
    [ ! -d "$mount" ] || umount -l "$mount" 2>/dev/null
  done
  rm -rf --one-file-system "$dir"
}
trap clean_up EXIT
mkdir "$dir/disk"
chmod 755 "$dir"
expect 0 "$gobctl" cluster up --gobd "$gobd" --nodes 2 --mount
expect 0 "$gobctl" attach work --tree "$dir/disk" --node n1
says "Attached"
expect 0 "$gobctl" ls --node n2
says tree
one=$GOB_DIR/n1.mnt/work two=$GOB_DIR/n2.mnt/work

# fio: what one node wrote, the other verifies, block by block.
job=(--name=job --size=2M --bs=4k --ioengine=psync --verify=crc32c --output-format=terse --thread)
expect 0 fio "${job[@]}" --directory="$one" --rw=randwrite --do_verify=1
expect 0 fio "${job[@]}" --directory="$two" --rw=randwrite --verify_only
expect 0 fio "${job[@]}" --directory="$two" --rw=write --bs=64k --do_verify=1
expect 0 fio "${job[@]}" --directory="$one" --rw=write --bs=64k --verify_only

# git and a build: cloned on one node, built on the other, run on the first.
origin=$dir/origin
mkdir "$origin"
(
  cd "$origin" || exit 1
  printf 'int twice(int x) { return 2 * x; }\n' >twice.c
  printf '#include <stdio.h>\nint twice(int);\nint main(void) { printf("%%d\\n", twice(21)); }\n' >main.c
  printf 'answer: main.o twice.o\n\tcc -o $@ $^\n%%.o: %%.c\n\tcc -c -o $@ $<\n' >Makefile
  mkdir folder
  for i in $(seq 40); do echo "text $i" >"folder/file$i"; done
  git init -q . && git add . && git -c user.name=t -c user.email=t@example.org commit -qm first
) || fail "no repository to clone"
expect 0 git clone -q --no-hardlinks "$origin" "$one/clone"
expect 0 make -s -C "$two/clone"
expect 0 "$one/clone/answer"
equal "$out" 42
expect 0 git -C "$two/clone" -c safe.directory='*' fsck --strict
expect 0 git -C "$one/clone" -c safe.directory='*' status --porcelain --untracked-files=no
equal "$out" ""
expect 0 make -s -C "$one/clone"
equal "$out" ""

# sqlite3, from two nodes in turn, with its rollback journal and its locks.
expect 0 sqlite3 "$one/data.db" "pragma journal_mode=delete; create table t(node int, i int);"
for i in $(seq 8); do
  expect 0 sqlite3 "$one/data.db" "pragma busy_timeout=10000; insert into t values(1, $i);"
  expect 0 sqlite3 "$two/data.db" "pragma busy_timeout=10000; insert into t values(2, $i);"
done
# And at the same time: the locks keep them apart.
for path in "$one" "$two"; do
  for i in $(seq 5); do
    sqlite3 "$path/data.db" "pragma busy_timeout=60000; insert into t values(3, $i);" \
      >/dev/null || echo "insert failed" >>"$dir/failed"
  done &
done
wait
[ ! -e "$dir/failed" ] || fail "an insert failed while the other node inserted"
expect 0 sqlite3 "$two/data.db" "select count(*) from t; pragma integrity_check;"
equal "$out" $'26\nok'

# With its write-ahead log, by which processes share memory: a file that they map. At once, too.
with_preload() {
  local node=$1
  shift
  env GOB_SOCKET="$GOB_DIR/n$node/gobd.sock" LD_PRELOAD="$preload" "$@"
}
expect 0 with_preload 1 sqlite3 "$one/data.db" "pragma journal_mode=wal; create table w(node int, i int);"
equal "$out" wal
for node in 1 2; do
  for i in $(seq 20); do echo "insert into w values($node, $i);"; done |
    with_preload "$node" sqlite3 -bail -cmd ".timeout 60000" "$GOB_DIR/n$node.mnt/work/data.db" \
      >"$dir/inserts$node" 2>&1 || echo "node $node" >>"$dir/failed" &
done
wait
[ ! -e "$dir/failed" ] || fail "sqlite3 with a write-ahead log: $(cat "$dir/failed" "$dir"/inserts*)"
expect 0 with_preload 2 sqlite3 "$two/data.db" \
  "select count(*) from w; pragma integrity_check; pragma journal_mode=delete;"
equal "$out" $'40\nok\ndelete'

# One file by itself.
echo alone >"$dir/single"
expect 0 "$gobctl" attach single --file "$dir/single" --node n2
expect 0 cat "$GOB_DIR/n1.mnt/single"
equal "$out" alone
echo "and more" >>"$GOB_DIR/n1.mnt/single"
expect 0 cat "$GOB_DIR/n2.mnt/single"
equal "$out" $'alone\nand more'
expect 0 "$gobctl" detach single --node n1
equal "$(cat "$dir/single")" $'alone\nand more'
[ ! -e "$GOB_DIR/n1.mnt/single" ] || fail "a detached file is still there"

expect 0 "$gobctl" detach work --node n2
[ -x "$dir/disk/clone/answer" ] || fail "the files are not on their disk"
expect 0 "$gobctl" cluster down
[ ! -e "$GOB_DIR" ] || fail "cluster down left files in $GOB_DIR"
finish
