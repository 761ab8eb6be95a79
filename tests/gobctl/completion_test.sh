#!/usr/bin/env bash
# The completion scripts: bash's is used, those of other shells are parsed where the shell is there.
# Arguments: gobctl fake_gobd.
# shellcheck source=checks.sh source-path=SCRIPTDIR
source "$(dirname "$0")/checks.sh"
gobctl=$1
fake=$2
dir=$(mktemp -d)
export GOB_DIR=$dir/cluster
unset GOB_SOCKET XDG_RUNTIME_DIR
clean_up() {
  "$gobctl" cluster down --timeout 1 >/dev/null 2>&1
  rm -rf "$dir"
}
trap clean_up EXIT
mkdir "$dir/bin" && ln -s "$gobctl" "$dir/bin/gobctl"
export PATH=$dir/bin:$PATH

completion_scripts "$gobctl" cluster create stat watch netns restart
complete_words gobctl cl; equal "$out" "cluster"
complete_words gobctl ''; says "stat"; says "nodes"; says_not "completion"
complete_words gobctl cluster ''; says "up"; says "restart"; says_not "stat "
complete_words gobctl cluster up --n; equal "$out" "--nodes --netns"
complete_words gobctl stat --w; equal "$out" "--watch"

"$gobctl" cluster up --gobd "$fake" --nodes 2 >/dev/null || fail "no cluster"
"$gobctl" create matrix --size 1M >/dev/null || fail "no container"
complete_words gobctl stat m; equal "$out" "matrix"
complete_words gobctl rm ''; says "matrix"
complete_words gobctl stat matrix --node n; equal "$out" "n1 n2"
complete_words gobctl cluster restart ''; says "n1 n2"
complete_words gobctl create m; equal "$out" ""
complete_words gobctl kill --s; equal "$out" "--signal --socket"
complete_words gobctl ps --h; equal "$out" "--help --here"
finish
