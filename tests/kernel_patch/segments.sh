#!/usr/bin/env bash
# segments.sh TRY GOBD GOBCTL LITMUS SEGMENTS_TEST FILES_TEST TURNS: System V segments and plain files on the patched kernel, in a
# guest: what programs see, litmus tests, and two nodes in IPC namespaces of their own, on which the
# same program attaches the same key. Status 77: the kernel is not built. By hand, under KASAN and
# lockdep: GOB_KERNEL=node-debug, and GOB_KERNEL_SECONDS (1000) for the guest's time limit.
set -euo pipefail
try=$1
shift
packed=()
for program in "$@"; do packed+=(-p "$program"); done
exec "$try" -b -k "${GOB_KERNEL:-node}" -t "${GOB_KERNEL_SECONDS:-1000}" "${packed[@]}" "$(cat "$(dirname "$0")/segments_guest.sh")"
