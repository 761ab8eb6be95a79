#!/usr/bin/env bash
# build.sh PRESET [TARGET ...]: configures and builds one preset of CMakePresets.json, with ccache.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
preset=$1
shift
# Objects are shared between checkouts: paths below the checkout do not count.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1 CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-3G}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cmake --preset "$preset" >"$log" 2>&1 || { cat "$log"; exit 1; }
targets=()
[ $# -eq 0 ] || targets=(--target "$@")
cmake --build --preset "$preset" "${targets[@]}" >"$log" 2>&1 || { grep -v '^\[' "$log" | tail -100; exit 1; }
