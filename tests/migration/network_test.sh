#!/usr/bin/env bash
# A server moves with its address and its connections, while a client that stays goes on using it.
# The two nodes are network namespaces on one bridge, in which the client is.
# Arguments: gobctl gobd gobmigrate traveller criu_shim.
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
for needed in redis-server nft; do
  command -v $needed >/dev/null || fail "$needed is not installed; see scripts/packages.txt"
done
space=gobnet$$
# Not for the background, where $! would be a shell.
in_space() { nsenter --net="/run/netns/$space$1" "${@:2}"; }
remove_spaces() {
  for name in n1 n2 c; do
    for left in $(ip netns pids $space$name); do kill -9 "$left" 2>/dev/null; done
    ip netns del $space$name 2>/dev/null
  done
}
trap 'clean_up; remove_spaces' EXIT
for name in c n1 n2; do
  ip netns add $space$name && ip -n $space$name link set lo up
done
ip -n ${space}c link add bridge type bridge
ip -n ${space}c link set bridge up
ip -n ${space}c address add 10.77.0.9/24 dev bridge
number=1
for name in n1 n2; do
  ip link add net0 netns $space$name type veth peer name $name netns ${space}c
  ip -n ${space}c link set $name master bridge up
  ip -n $space$name link set net0 up
  ip -n $space$name address add 10.77.0.$number/24 dev net0
  number=$((number + 1))
done
address=10.77.0.100
ip -n ${space}n1 address add $address/24 dev net0

begin 2
for node in n1 n2; do
  nsenter --net="/run/netns/$space$node" "$gobmigrate" serve --socket "$(socket $node)" >>"$dir/$node.log" 2>&1 &
  server[$node]=$!
done
for node in n1 n2; do until_true 20 said $node "taking processes"; done

# go FROM TO OPTIONS...: asks for $pid to move.
go() { in_space "$1" "$gobmigrate" "$pid" "$2" --socket "$(socket "$1")" "${@:3}"; }
# refused TEXT OPTIONS...: it cannot move to n2 with these, and why.
refused() {
  expect 3 go n1 n2 --dry-run "${@:2}"
  says "$1"
}
has_address() { [[ -n $(ip -n "$space$1" -o address show to $address) ]]; }
no_rules() { [[ -z $(in_space "$1" nft list ruleset) ]]; }

# start_redis NAME OPTIONS...: on n1, with the log NAME; it listens.
start_redis() {
  start "$1" nsenter --net="/run/netns/${space}n1" redis-server "${@:2}" --save '' \
    --protected-mode no --logfile "$dir/$1" --dir "$dir"
  until_true 60 grep -q "Ready to accept connections" "$dir/$1"
}
# The server, and a client that knows what it has stored.
start_redis redis --bind $address 127.0.0.1 --port 6379
cat >"$dir/client.py" <<'END'
import os, random, socket, sys
name, address = sys.argv[1:]
server = socket.create_connection((address, 6379))
answers = server.makefile("rb")
stored = {}
random.seed(1)
wrong = number = 0
def send(*words):
    server.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
def answer():
    line = answers.readline()
    if line[:1] != b"$": return line.rstrip()
    size = int(line[1:])
    return None if size < 0 else answers.read(size + 2)[:-2]
while not os.path.exists(name + ".stop"):
    keys = [b"key%d" % random.randrange(5000) for _ in range(50)]
    values = [random.randbytes(random.randrange(1, 2000)) for _ in keys]
    for key, value in zip(keys, values): send(b"GETSET", key, value)
    send(b"INCR", b"count")
    for key, value in zip(keys, values):
        wrong += answer() != stored.get(key)
        stored[key] = value
    number += 1
    wrong += answer() != b":%d" % number
    with open(name, "a") as out: out.write(f"{number} {os.getpid()} wrong {wrong}\n")
for key, value in stored.items():
    send(b"GET", key)
    wrong += answer() != value
send(b"DBSIZE")
wrong += answer() != b":%d" % (len(stored) + 1)
with open(name, "a") as out: out.write(f"all {len(stored)} wrong {wrong}\n")
END
server_pid=$pid
start client nsenter --net="/run/netns/${space}c" python3 "$dir/client.py" "$dir/client" $address
pid=$server_pid

refused "whose packets come to this node: let the address go along"
refused "10.77.0.200 is no IPv4 address of this node" --address 10.77.0.200
refused "10.77.0.1 is the first address of its network" --address 10.77.0.1
nsenter --net="/run/netns/${space}n1" python3 -c "import socket, sys, time
s = socket.socket(); s.bind(('$address', 0)); s.listen()
open(sys.argv[1], 'w').write('1\n'); time.sleep(600)" "$dir/other" &
other=$!
until_true 20 lines "$dir/other" 1
refused "is in use by a process that stays" --address $address
kill -9 $other
wait $other 2>/dev/null
expect 0 go n1 n2 --dry-run --json --address $address
equal "$(json 'j["sockets"]')" 3

# gobmigrate dies while all stands still, since the target does not go on: as if nothing had been.
receiver() { pgrep -f "gobmigrate receive migrate.n2.$pid."; }
dumped() { compgen -G "/dev/shm/gob-migrate.n2.$pid.*.out/stats-dump" >/dev/null; }
at=n1
for try in 1 2 3 4 5; do
  before=$(wc -l <"$dir/client")
  nsenter --net="/run/netns/${space}n1" "$gobmigrate" "$pid" n2 --socket "$(socket n1)" \
    --address $address >"$dir/mover.log" 2>&1 &
  mover=$!
  until is_at dumping; do
    if ! state_of $mover || [[ $state == Z ]]; then break; fi
  done
  receivers=$(receiver)
  # shellcheck disable=SC2086  # the server's process for this move, and its warden
  [[ -z $receivers ]] || kill -STOP $receivers
  until_true 60 eval "dumped || ! state_of $mover || [[ \$state == Z ]]"
  dumped && is_stopped "$pid" && break
  # shellcheck disable=SC2086
  [[ -z $receivers ]] || kill -CONT $receivers
  wait "$mover"
  echo "the target was not held in time ($try)"
  pid=$(sed -n 's/.* runs on n2 as \([0-9]*\);.*/\1/p' "$dir/mover.log")
  expect 0 go n2 n1 --json --address $address
  pid=$(json 'j["pid"]')
done
is_stopped "$pid" || fail "the move was never held: $(cat "$dir/mover.log")"
! no_rules n1 || fail "CRIU let packets in: nothing was tested"
kill -9 "$mover"
wait "$mover" 2>/dev/null
# shellcheck disable=SC2086
kill -CONT $receivers
all_right client "$before"
until_true 20 no_rules n1
until_true 20 no_rules n2
has_address n1 || fail "n1 lost the address"
! has_address n2 || fail "n2 kept the address"
none_left "$pid"

# Over and back.
for to in n2 n1; do
  before=$(wc -l <"$dir/client")
  expect 0 go $at $to --json --address $address
  there=$(json 'j["pid"]') || break
  echo "to $to: frozen for $(json '"%.0f ms" % j["freeze_ms"]'), the client had $before rounds"
  all_right client "$before"
  has_address $to || fail "$to has not got the address"
  ! has_address $at || fail "$at kept the address"
  until_true 20 no_rules $at
  no_rules $to || fail "packets are still held back: $(in_space $to nft list ruleset)"
  until_true 30 gone "$pid"
  pid=$there at=$to
done
touch "$dir/client.stop"
until_true 60 grep -q "^all" "$dir/client"
grep -q "^all .* wrong 0$" "$dir/client" || fail "what is stored is not what was stored: $(tail -1 "$dir/client")"
kill "$pid"
until_true 60 said $at "process $pid ended"
none_left "$pid"

# A server without connections and with any address goes where its port is free; not where it is
# itself, in one network.
start_redis redis2 --bind 10.77.0.1 --port 6380
refused "10.77.0.1, which is no address of this node"
kill "$pid"
start_redis redis3 --bind 0.0.0.0 --port 6381
expect 0 go n1 n2 --json
pid=$(json 'j["pid"]')
equal "$(in_space c bash -c 'exec 3<>/dev/tcp/10.77.0.2/6381; printf "PING\r\n" >&3; head -n 1 <&3 | tr -d "\r"')" "+PONG"
end_server n1
nsenter --net="/run/netns/${space}n2" "$gobmigrate" serve --socket "$(socket n1)" >>"$dir/n1.log" 2>&1 &
server[n1]=$!
until_true 20 eval "[[ \$(grep -c 'taking processes' '$dir/n1.log') -eq 2 ]]"
expect 3 go n2 n1
says "the same network namespace"
kill "$pid"
until_true 60 said n2 "process $pid ended"
for node in n1 n2; do end_server $node; done
finish
