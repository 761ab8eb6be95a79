#!/usr/bin/env bash
# quickstart.sh: from a fresh Debian 12 machine to a running cluster: installs what is missing,
# builds, starts three nodes on this machine, lets programs on them share memory, checks what they
# computed, shows what it cost, and stops the nodes again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] && [ -z "${NO_COLOR:-}" ] || say() { printf '\n%s\n' "$*"; }

if [ "$(id -u)" -ne 0 ] && [ ! -r /dev/userfaultfd ] &&
  [ "$(cat /proc/sys/vm/unprivileged_userfaultfd 2>/dev/null || echo 0)" != 1 ]; then
  cat >&2 <<'EOT'
quickstart: this user may not serve page faults of programs. As root, do one of these, then run
this again:
  chmod a+rw /dev/userfaultfd                    until the next boot
  sysctl vm.unprivileged_userfaultfd=1           the same, for every program
or run ./quickstart.sh as root.
EOT
  exit 1
fi

say "1. Packages (scripts/packages.txt)"
scripts/install-deps.sh && echo "all there"

say "2. Build, into build/release"
scripts/build.sh release gobd gobctl gobbench hello_shared
export PATH=$PWD/build/release/gobd:$PWD/build/release/gobctl:$PWD/build/release/gobbench:$PATH
echo "built gobd, gobctl, gobbench and an example"

dir=$(mktemp -d)
cleanup() {
  gobctl cluster down --dir "$dir" >/dev/null 2>&1 || true
  rm -rf "$dir"
}
trap cleanup EXIT

say "3. A cluster of three nodes on this machine: gobctl cluster up --nodes 3"
gobctl cluster up --nodes 3 --dir "$dir" --budget 512M
gobctl nodes --socket "$dir/n1/gobd.sock"

say "4. examples/hello_shared.cc on all three: one array, three programs"
pids=()
for rank in 0 1 2; do
  GOB_SOCKET=$dir/n$((rank + 1))/gobd.sock build/release/examples/hello_shared "$rank" 3 &
  pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid"; done

say "5. Jacobi across the nodes, every element checked: gobbench figure 9"
gobbench --results '' --cluster-dir "$dir" figure 9 --nodes 1,2,3 --size 512
say "6. Modified Gram-Schmidt, every element checked: gobbench figure 10"
gobbench --results '' --cluster-dir "$dir" figure 10 --nodes 1,2,3 --size 512
say "7. What a page fault costs, next to raw TCP and a bare fault: gobbench fault"
gobbench --results '' --cluster-dir "$dir" fault --nodes 2 --samples 500

say "8. Stop the cluster: gobctl cluster down"
gobctl cluster down --dir "$dir"
echo
echo "Everything worked. To play on: gobctl cluster up --nodes 3, then README.md."
