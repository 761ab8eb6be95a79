#!/usr/bin/env bash
# test.sh [--quick]: installs what is needed, builds, runs every test. --quick leaves out the
# sanitizer builds. The last lines are ctest's own summaries and one line with the totals.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
quick=
case ${1:-} in
  --quick) quick=1 ;;
  "") ;;
  *) echo "usage: ./test.sh [--quick]" >&2; exit 2 ;;
esac

step() { printf '== %s (%ds so far)\n' "$1" "$SECONDS"; }
passed=0 failed=0
# count LOG: adds ctest's closing line to the totals.
count() {
  local line
  line=$(grep -E '[0-9]+% tests passed, [0-9]+ tests? failed out of [0-9]+' "$1" | tail -n 1)
  [ -n "$line" ] || { echo "test.sh: ctest ran no test" >&2; failed=$((failed + 1)); return; }
  local bad total
  bad=$(sed -E 's/.*, ([0-9]+) tests? failed.*/\1/' <<<"$line")
  total=$(sed -E 's/.*out of ([0-9]+).*/\1/' <<<"$line")
  failed=$((failed + bad)) passed=$((passed + total - bad))
}
# run PRESET CTEST-ARGUMENT...
run() {
  local preset=$1 log
  shift
  log=$(mktemp)
  ctest --preset "$preset" -j 2 "$@" 2>&1 | tee "$log" || true
  count "$log"
  rm -f "$log"
}

step "packages"
scripts/install-deps.sh
step "release build"
scripts/build.sh release
step "kernel for the tests on soft-RoCE in an emulated machine"
guest=0
tests/guest/prepare.sh >/dev/null || guest=$?
[ "$guest" -eq 0 ] || [ "$guest" -eq 77 ] || exit "$guest"
step "all tests, release build"
run release

if [ -z "$quick" ]; then
  for preset in asan tsan; do
    step "$preset build"
    scripts/build.sh "$preset" sanitized_tests
    step "protocol, wire, transport and a small system test under $preset"
    run "$preset" -L '^sanitized$'
  done
fi

step "done"
[ "$guest" -eq 0 ] || echo "LEFT OUT: the tests labelled 'guest'; this machine cannot run them, see 'guest:' above"
for kernel in lean:kernel_patch_guest node:kernel_patch_segments; do
  if ! reason=$(kernel-patch/build.sh --key "${kernel%%:*}" 2>&1 >/dev/null); then
    echo "LEFT OUT: ${kernel#*:}: $reason"
  fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
