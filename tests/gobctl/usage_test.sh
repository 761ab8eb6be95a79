#!/usr/bin/env bash
# What gobctl says to command lines that cannot work, and when there is no gobd. Arguments: gobctl.
# shellcheck source=checks.sh source-path=SCRIPTDIR
source "$(dirname "$0")/checks.sh"
gobctl=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export GOB_DIR=$dir/cluster
unset GOB_SOCKET XDG_RUNTIME_DIR

# Usage errors: status 2, and the way to help.
expect 2 "$gobctl"; says "Subcommands:"
expect 2 "$gobctl" cluster; says "Usage: gobctl cluster"
expect 2 "$gobctl" explode; says "gobctl: there is no command 'explode'"; says_not "meant?"
expect 2 "$gobctl" atach x --file y; says "there is no command 'atach'; was 'attach' meant?"
expect 2 "$gobctl" cluster upp --nodes 2; says "gobctl cluster: there is no command 'upp'; was 'up' meant?"
expect 2 "$gobctl" lea; says "was 'leave' meant?"
expect 2 "$gobctl" ls --nod n1; says "gobctl ls: there is no option '--nod'; was '--node' meant?"
expect 2 "$gobctl" ls x; says "'x' is one argument too many"
expect 2 "$gobctl" create; says "gobctl create: NAME is required"; says "gobctl create --help"
expect 2 "$gobctl" create x; says "--size is required"
expect 2 "$gobctl" create x --size; says "--size"
expect 2 "$gobctl" create x --size many; says "cannot take 'many' as a size"; says "64M"
expect 2 "$gobctl" create x --size -5; says "negative"
expect 2 "$gobctl" create x --size 0; says "at least one byte"
expect 2 "$gobctl" create x --size 9999P; says "too large"
for mode in 8 777x 1000 -1 rw; do
  expect 2 "$gobctl" create x --size 1M --mode="$mode"; says "0600"
done
expect 2 "$gobctl" rm
expect 2 "$gobctl" stat x y
expect 2 "$gobctl" stat --watch 0; says "--watch"
expect 2 "$gobctl" stat --watch often
expect 2 "$gobctl" stat --rounds 0
expect 2 "$gobctl" stat --top 65
expect 2 "$gobctl" ls --nonsense; says "--nonsense"
expect 2 "$gobctl" nodes --socket /x --node n1; says "--socket"
expect 2 "$gobctl" leave --timeout 0
expect 2 "$gobctl" cluster up --nodes 0; says "1 to 64"
expect 2 "$gobctl" cluster up --nodes 65
expect 2 "$gobctl" cluster up --nodes three
expect 2 "$gobctl" cluster up --budget plenty; says "plenty"
expect 2 "$gobctl" cluster up --shards 0
expect 2 "$gobctl" completion tcsh

# Help of every subcommand, on standard output, with status 0.
for command in '' create ls stat rm nodes flush leave cluster 'cluster up' 'cluster down' \
    'cluster restart' 'cluster status'; do
  # shellcheck disable=SC2086  # two words are two arguments
  expect 0 "$gobctl" $command --help; says "Usage: gobctl${command:+ $command}"
done
expect 0 "$gobctl" --version; says "gobctl "

# No gobd: status 3, and how to get one.
for command in ls nodes stat 'create x --size 1M' 'rm x' 'flush x' leave; do
  # shellcheck disable=SC2086
  expect 3 "$gobctl" $command --socket "$dir/none.sock"; says "$dir/none.sock"; says "gobctl cluster up"
done
expect 3 env GOB_SOCKET="$dir/env.sock" "$gobctl" ls; says "$dir/env.sock"
expect 2 "$gobctl" ls --socket "$dir/$(printf 'x%.0s' {1..200})"
python3 -c 'import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1])' "$dir/stale.sock"
expect 3 "$gobctl" ls --socket "$dir/stale.sock"; says "no gobd listens"

# No cluster.
expect 4 "$gobctl" ls --node n1; says "no node 'n1'"; says "$GOB_DIR"
expect 4 "$gobctl" ls --node ../../etc
expect 4 "$gobctl" ls --node "$(printf 'evil\033[31m')"; says '\x1b'; says_not $'\033'
expect 4 "$gobctl" cluster down; says "no development cluster"
expect 4 "$gobctl" cluster status
expect 4 "$gobctl" cluster restart n1
expect 4 "$gobctl" cluster up --gobd "$dir/nothing"; says "is no program"

# A directory that cannot be trusted, or is none.
mkdir "$dir/open" && chmod 777 "$dir/open"
expect 5 "$gobctl" cluster down --dir "$dir/open"; says "others may write"
expect 5 "$gobctl" cluster up --dir "$dir/open" --gobd /bin/true; says "others may write"
touch "$dir/file"
expect 2 "$gobctl" cluster up --dir "$dir/file" --gobd /bin/true; says "no directory"
expect 2 "$gobctl" cluster up --gobd /bin/true --dir "$dir/$(printf 'x%.0s' {1..120})"

# A full disk is noticed.
if [[ -e /dev/full ]]; then
  # shellcheck disable=SC2016  # for the inner shell
  expect 1 bash -c '"$1" completion bash > /dev/full' - "$gobctl"; says "could not be written"
fi
finish
