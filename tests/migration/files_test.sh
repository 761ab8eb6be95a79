#!/usr/bin/env bash
# Processes whose files are on the node they come from only: executable, data and working folder do
# not exist, or are others, where they go. Nodes n2 and n3 see another folder at $dir/app than n1.
# Arguments: gobctl gobd gobmigrate traveller criu_shim.
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
begin 3 --mount
mkdir "$app" "$dir/disk"
cp "$traveller" "$app/traveller"
serve n1
for node in n2 n3; do serve_elsewhere $node; done
for node in n1 n2 n3; do until_true 20 said $node "taking processes"; done
# Its files there are what they were: the decoy.
untouched() {
  equal "$(nsenter --target "${server[$1]}" --mount ls "$app")" one.data
  nsenter --target "${server[$1]}" --mount cmp -s -n 8388608 "$app/one.data" /dev/zero ||
    fail "a file of $1 was changed"
}
# hop NAME FROM TO: $pid moves; it is right afterwards, and then $pid is its number there.
hop() {
  local before
  before=$(wc -l <"$dir/$1")
  move "$pid" "$2" "$3" "${@:4}"
  [[ $there != none ]] || return
  echo "$1: $2 to $3: frozen for $(json '"%.0f ms %s" % (j["freeze_ms"], j["phases_ms"])')"
  until_true 30 gone "$pid"
  pid=$there
  all_right "$1" "$before"
}

# A process that always holds a lock of the kernel goes on where it is, with the lock. It takes seconds
# to be sure of that: meanwhile the rest is tested.
expect 0 "$gobctl" attach work --tree "$dir/disk" --node n1
locked=$app/locked
touch "$locked"
start holder python3 -c 'import fcntl, sys, time
locked = open(sys.argv[2], "r+")
fcntl.flock(locked, fcntl.LOCK_EX)
while True:
    with open(sys.argv[1], "a") as out: out.write("holds\n")
    time.sleep(0.05)' "$dir/holder" "$locked"
holder=$pid
"$gobmigrate" "$holder" n2 --socket "$(socket n1)" >"$dir/refused" 2>&1 &
try=$!
still_held() {
  wait $try
  equal $? 1
  out=$(<"$dir/refused")
  says "$locked was locked whenever it was looked at"
  says "no mount of gob"
  until_true 10 lines "$dir/holder" $(($(wc -l <"$dir/holder") + 3))
  ! flock --nonblock "$locked" true || fail "the lock on $locked is lost"
  kill "$holder"
}

# The executable, a file that is read and mapped, one that is written, one that is appended to.
start app/one "$app/traveller" "$app/one" 8 files
expect 0 "$gobmigrate" "$pid" n2 --socket "$(socket n1)" --dry-run --json
equal "$(json 'sorted({f["reached"] for f in j["files"] if f["path"].startswith("'"$app"'/")})')" "['source']"
equal "$(json '[f["path"].rsplit("/", 1)[1] for f in j["files"] if f["path"].startswith("'"$app"'/")]' | tr -d "[]',")" \
  "traveller one one.data one.rounds"
equal "$(json 'j["folders"]')" "['$app']"
numbers=("$pid")
hop app/one n1 n2
equal "$(json '[(c["path"], c["home"]) for c in j["covers"]]')" "[('$app', 'n1')]"
cmp "/proc/$pid/exe" "$traveller" || fail "its executable is another there"
numbers+=("$pid")
hop app/one n2 n3
equal "$(json '[(c["path"], c["home"]) for c in j["covers"]]')" "[('$app', 'n1')]"
numbers+=("$pid")
hop app/one n3 n1
touch "$app/one.stop"
until_true 60 said n1 "process $pid ended with status 7"
python3 - "$app/one" <<'END' || fail "what was written is not in the source's file"
import struct, sys
lines = open(sys.argv[1]).read().splitlines()
assert [int(l.split()[0]) for l in lines] == list(range(len(lines))), "lines are missing or out of order"
rounds = open(sys.argv[1] + ".rounds", "rb").read()
assert rounds == struct.pack(f"<{len(lines)}Q", *range(len(lines))), "rounds"
END
for node in n2 n3; do untouched $node; done
none_left "${numbers[@]}"

# A program that opens more files later, by names relative to its folder: modules, a database with
# its journal, a file that is renamed over another. A second database is in gob's mount, which is at
# another path on the other node.
launch_python() {
  echo 'def twice(x): return 2 * x' >"$app/later.py"
  cat >"$app/rows.py" <<'END'
import os, sqlite3, sys, time
name, bases = sys.argv[1], sys.argv[2:]
dbs = [sqlite3.connect(base, timeout=30) for base in bases]
for db in dbs: db.execute("create table t(i int primary key, text text)")
number = wrong = 0
while not os.path.exists(name + ".stop"):
    for db in dbs:
        with db:
            db.execute("insert into t values(?, ?)", (number, "row %d" % number))
        wrong += db.execute("select count(*) from t").fetchone()[0] != number + 1
    if os.path.exists(name + ".import"):
        from later import twice
        wrong += twice(number) != 2 * number
    with open(name + ".new", "w") as out: out.write(str(number))
    os.rename(name + ".new", name + ".last")
    with open(name, "a") as out: out.write(f"{number} {os.getpid()} wrong {wrong}\n")
    number += 1
    time.sleep(0.05) # with no lock of the kernel held: the process is moved in one of these moments
sys.exit(7)
END
  cd "$app" || return
  start app/rows python3 rows.py rows "$@"
  cd - >/dev/null || return
}
launch_python rows.db "$GOB_DIR/n1.mnt/work/rows.db"
was=$pid
expect 0 "$gobmigrate" "$pid" n2 --socket "$(socket n1)" --dry-run --json
equal "$(json '[f["reached"] for f in j["files"] if f["path"].endswith("/rows.db")]')" "['source', 'mount']"
hop app/rows n1 n2
touch "$app/rows.import"
all_right app/rows "$(wc -l <"$app/rows")"
touch "$app/rows.stop"
until_true 60 said n2 "process $pid ended with status 7"
rounds=$(wc -l <"$app/rows")
for base in "$app/rows.db" "$dir/disk/rows.db"; do
  equal "$(sqlite3 "$base" 'select count(*) from t; pragma integrity_check')" "$rounds"$'\nok'
done
equal "$(cat "$app/rows.last")" $((rounds - 1))
untouched n2
still_held
none_left "$was" "$holder"
expect 0 "$gobctl" detach work --node n2

for node in n1 n2 n3; do end_server $node; done
finish
