# What segments.sh runs in the guest. Busybox's shell.
export TMPDIR=/tmp PATH=/programs:$PATH
failed=0
run() {
  echo "== $*"
  "$@" || { echo "== failed: $*"; failed=1; }
}
insmod /gob.ko
ip link set lo up
# Whatever may be swapped can be.
dd if=/dev/zero of=/mnt/swap bs=1M count=8 2>/dev/null
mkswap /mnt/swap >/dev/null
run swapon /mnt/swap
run kernel_segments_test --gtest_brief=1
run kernel_files_test --gtest_brief=1
run litmus --gobd /programs/gobd --segments --runs 200 --no-control --tests SB,MP,LB,2+2W,CoRR,IRIW

# Nodes that see no segment of each other: what two machines would be.
node() { cat <<EOF
cluster = "twins"
node = "$1"
linker = "kernel"
write_back_ms = 0
control_socket = "/tmp/$1.sock"
[[nodes]]
name = "a"
host = "127.0.0.1"
port = 7401
[[nodes]]
name = "b"
host = "127.0.0.1"
port = 7402
EOF
}
for n in a b; do
  node $n >/tmp/$n.toml
  unshare -i sh -c "echo \$\$ >/tmp/$n.pid; exec gobd --config /tmp/$n.toml 2>/tmp/$n.log" &
done
# on NODE COMMAND: in its IPC namespace.
on() { n=$1; shift; nsenter -i -t "$(cat /tmp/$n.pid)" "$@"; }
# gobd tells systemd's socket when it is ready; busybox's shell cannot listen at one.
until gobctl nodes --socket /tmp/a.sock 2>/dev/null | grep -q 'b .*member'; do
  kill -0 $! || { cat /tmp/a.log /tmp/b.log; exit 1; }
  usleep 100000
done
for n in a b; do
  run on $n segment_turns 0x2a make 262144
  run gobctl attach twins --segment 0x2a --socket /tmp/$n.sock
done
gobctl stat --socket /tmp/a.sock | grep 'linker kernel' || failed=1
on a segment_turns 0x2a 0 30 & first=$!
run on b segment_turns 0x2a 1 30
wait $first || failed=1
for n in b a; do run gobctl detach twins --socket /tmp/$n.sock; done
# What one node wrote dies with it: the other is told so, and takes zeros for it if it is told to.
for n in a b; do run gobctl attach twins --segment 0x2a --socket /tmp/$n.sock; done
on b segment_turns 0x2a write 3
kill -9 "$(cat /tmp/b.pid)"
until gobctl detach twins --socket /tmp/a.sock 2>&1 | tee /tmp/told | grep -q '1 of its 64 pages .* lost for good.*: 3;'; do
  kill -0 "$(cat /tmp/a.pid)" || break
  grep -q 'cannot be had' /tmp/told || { cat /tmp/told; failed=1; break; }
done
run gobctl detach twins --lossy --socket /tmp/a.sock | tee /tmp/told
grep -q 'zeros from now on: 1 page of 4096 bytes: 3$' /tmp/told || failed=1
kill "$(cat /tmp/a.pid)"
wait
[ $failed = 0 ] || cat /tmp/a.log /tmp/b.log
exit $failed
