#!/usr/bin/env bash
# Processes that move between real daemons, every byte of their memory checked by themselves after
# the move. Arguments: gobctl gobd gobmigrate traveller criu_shim.
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
begin 2
one=$(socket n1)

# Refusals come before anything is touched.
expect 3 "$gobmigrate" $$ n2 --socket "$one"
says "gobmigrate itself runs under"
launch one 32
expect 3 "$gobmigrate" "$pid" n2 --socket "$one" --criu /bin/true
says "does not answer like CRIU"
expect 1 "$gobmigrate" "$pid" n2 --socket "$one"
says "nobody takes processes on node n2"
says "goes on here"

serve n2
until_true 20 said n2 "taking processes"
expect 0 "$gobmigrate" "$pid" n2 --socket "$one" --dry-run
says "It can move"
expect 1 "$gobmigrate" "$pid" n9 --socket "$one"
says "no node n9"
exec 9< <(exec sleep 600)
writer=$!
cat <&9 >/dev/null 2>&1 &
piped=$!
expect 3 "$gobmigrate" "$piped" n2 --socket "$one"
says "from which process $$ reads, too"
exec 9<&-
kill "$piped" "$writer"

# moves NAME OPTIONS...: moves $pid; afterwards it is right, runs at the target only, and ends as it
# would have.
moves() {
  local name=$1 before nice
  before=$(wc -l <"$dir/$name")
  nice=$(ps -o ni= -p "$pid" | tr -d ' ')
  move "$pid" n1 n2 "${@:2}"
  echo "$name: $(json '"frozen for %.0f ms: %s" % (j["freeze_ms"], j["phases_ms"])')"
  until_true 20 gone "$pid"
  all_right "$name" "$before"
  kill -0 "$there" 2>/dev/null || fail "process $there of $name does not run"
  equal "$(ps -o ni= -p "$there" | tr -d ' ')" "$nice"
  touch "$dir/$name.stop"
  until_true 60 said n2 "process $there ended with status 7"
  none_left "$pid"
}
moves one --wait
equal "$(json 'j["arrival"]["complete"]')" True
equal "$(json 'sum(j["arrival"]["fault_us_log2_histogram"]) == j["arrival"]["faults"]')" True
[[ $(json 'j["hidden_pages"]') -gt 7000 ]] || fail "CRIU saw most pages that it did not send"
launch threads 64 threads 5 && moves threads
launch tree 16 tree && moves tree
launch churn 16 churn && moves churn
launch sparse 1024 sparse && moves sparse
launch avx 4 avx && moves avx
launch basic 32 && moves basic --mode basic
# A CRIU that loads no library of ours sees all memory, and no harm is done.
printf '#!/bin/sh\nLD_PRELOAD= exec "$0.joined" "$@"\n' >"$dir/alone.sh"
cp "$criu" "$dir/alone.sh.joined" && chmod +x "$dir/alone.sh"
launch seen 32 && moves seen --criu "$dir/alone.sh"
equal "$(json 'j["hidden_pages"]')" 0

# One that ends by itself just before it is frozen is not said to go on.
printf '#!/bin/sh\nif [ "$1" = dump ]; then kill -9 "$3"; while kill -0 "$3" 2>/dev/null; do sleep 0.02; done; fi\nexec %s "$@"\n' "$criu" >"$dir/late.sh"
chmod +x "$dir/late.sh"
launch ended 4
expect 1 "$gobmigrate" "$pid" n2 --socket "$one" --criu "$dir/late.sh"
says "process $pid has ended before it could be moved"
none_left "$pid"

# A program that knows nothing of all this, with an interpreter's memory.
launch_python() {
  cat >"$dir/python.py" <<'END'
import hashlib, os, sys, time
name = sys.argv[1]
table = {str(i): hashlib.sha256(str(i).encode()).hexdigest() for i in range(60000)}
number = 0
while not os.path.exists(name + ".stop"):
    wrong = sum(hashlib.sha256(str(i).encode()).hexdigest() != table[str(i)]
                for i in range(number % 100, 60000, 100))
    table[str(60000 + number)] = hashlib.sha256(str(60000 + number).encode()).hexdigest()
    wrong += len(table) != 60001 + number
    with open(name, "a") as out:
        out.write(f"{number} {os.getpid()} wrong {wrong}\n")
    number += 1
    time.sleep(0.005)
sys.exit(7)
END
  start python python3 "$dir/python.py" "$dir/python"
}
# Its priority goes along, whatever that of CRIU is.
launch_python && renice -n 7 -p "$pid" >/dev/null && moves python

# gobmigrate is killed at some point of the move: one process, or a clear death, and nothing
# stopped left behind.
for phase in asked dumping traced stopped restoring running; do
  reach $phase victim || continue
  kill -9 "$mover" 2>/dev/null
  wait "$mover" 2>/dev/null
  one_or_none victim "gobmigrate killed when $phase"
  none_left "$pid"
done

end_server n2
finish
