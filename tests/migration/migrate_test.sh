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
expect 3 "$gobmigrate" "$pid" n2 --socket "$one"
says "nobody takes processes on node n2"
says "it was not touched"

serve n2
until_true 20 said n2 "taking processes"
expect 0 "$gobmigrate" "$pid" n2 --socket "$one" --dry-run
says "It can move"
expect 3 "$gobmigrate" "$pid" n9 --socket "$one"
says "no node n9"
exec 9< <(exec sleep 600)
writer=$!
cat <&9 >/dev/null 2>&1 &
piped=$!
expect 3 "$gobmigrate" "$piped" n2 --socket "$one"
says "from which process $$ reads, too"
exec 9<&-
kill "$piped" "$writer"

# As page_map.cc asks: a page that was only read is one that others have, too.
shares_zeros=$(python3 - <<'END'
import ctypes, mmap, struct
memory = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ)
address = ctypes.c_size_t.from_address(id(memory) + object.__basicsize__).value
memory[0]
with open("/proc/self/pagemap", "rb", 0) as pages:
    pages.seek(address // 4096 * 8)
    entry = struct.unpack("<Q", pages.read(8))[0]
print("false" if entry == 0 or entry >> 56 & 1 else "true")
END
)
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
# All of its threads wait for a page at once.
launch crowd 16 threads 200 && moves crowd --no-stream
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

# CRIU before 4 takes a page with bytes for one of zeros, on kernels without such a page: here it leaves
# out its longest run as often as $dir/spoils says. gobmigrate moves the process anew, three times in all.
cat >"$dir/spoil.py" <<'END'
import glob, struct, sys
def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128: return value, at
def pages(entry):
    at, fields = 0, {}
    while at < len(entry):
        key, at = varint(entry, at)
        fields[key >> 3], at = varint(entry, at)
    return fields.get(2, 0)
for name in glob.glob(sys.argv[1] + "/pagemap-[0-9]*.img"):
    data, at, entries = open(name, "rb").read(), 8, []
    while at < len(data):
        size = struct.unpack_from("<I", data, at)[0]
        entries.append(data[at:at + 4 + size])
        at += 4 + size
    entries.remove(max(entries[1:], key=lambda entry: pages(entry[4:])))
    open(name, "wb").write(data[:8] + b"".join(entries))
END
cat >"$dir/spoils.sh" <<END
#!/bin/sh
"$criu" "\$@"
result=\$?
if [ "\$1" = dump ] && [ \$result -eq 0 ]; then
  echo dump >>"$dir/dumps"
  while [ "\$1" != --images-dir ]; do shift; done
  [ \$(wc -l <"$dir/dumps") -gt \$(cat "$dir/spoils") ] || python3 "$dir/spoil.py" "\$2" || exit 1
fi
exit \$result
END
chmod +x "$dir/spoils.sh"
if [[ $shares_zeros == true ]]; then
  echo "this kernel has a shared page of zeros: nothing is compared"
else
  launch anew 8
  before=$(wc -l <"$dir/anew")
  echo 3 >"$dir/spoils"
  expect 1 "$gobmigrate" "$pid" n2 --socket "$one" --mode basic --criu "$dir/spoils.sh"
  says "goes on here"
  says "CRIU left out page"
  equal "$(wc -l <"$dir/dumps")" 3
  all_right anew "$before"
  rm "$dir/dumps"
  echo 2 >"$dir/spoils"
  moves anew --mode basic --criu "$dir/spoils.sh"
  equal "$(wc -l <"$dir/dumps")" 3
fi

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
