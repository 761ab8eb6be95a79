#!/usr/bin/env bash
# Whatever dies at whatever moment of a move, by kill -9, or a link that is cut: one process, right
# and not stopped, or a clear death; and nothing of the move is left. Arguments: gobctl gobd
# gobmigrate traveller criu_shim moments [all | MOMENT:VICTIM...].
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
moments=$6
shift 6
hold=$dir/hold
printf '#!/bin/sh\nLD_PRELOAD=${LD_PRELOAD:+$LD_PRELOAD:}%s:%s CRIU_FAULT=130 exec %s "$@"\n' "$moments" "$shim" \
  "$(command -v criu)" >"$criu"
with_moments() { exec env GOB_MOMENTS="$hold" LD_PRELOAD="$moments" "$@" 7>&- 8>&-; }

# All processes of moves under way, but what was moved: its environment is its own.
movers() {
  local at
  while read -r at; do
    at=${at#/proc/}
    [[ ${at%/environ} == "${server[n2]:-none}" ]] || echo "${at%/environ}"
  done < <(grep -lsz "^GOB_MOMENTS=$hold\$" /proc/[0-9]*/environ)
}
no_movers() { [[ -z $(movers) ]]; }
# below PATTERN [ROLE]: those of them whose command line is like this. Process 1 of the migrant's
# namespace, its warden, was forked by the server of its memory and has the same.
below() {
  local at name role
  for at in $(movers); do
    [[ $(tr '\0' ' ' 2>/dev/null <"/proc/$at/cmdline") =~ $1 ]] || continue
    read -r name <"/proc/$at/comm"
    role=server
    [[ $name != gobmigrate-wdn ]] || role=warden
    [[ ${2:-$role} != "$role" ]] || echo "$at"
  done
}

# A cluster of two nodes, each in a network namespace, and a server on n2, which has another folder
# $app: the source's covers it for a process that works there.
mkdir "$app"
renew() {
  if [[ -n ${server[n2]:-} ]]; then
    kill "${server[n2]}" 2>/dev/null
    wait "${server[n2]}"
    unset "server[n2]"
  fi
  "$gobctl" cluster down --timeout 10 >/dev/null 2>&1
  expect 0 "$gobctl" cluster up --gobd "$gobd" --nodes 2 --budget 256M --netns --mount
  network=$(head -n 1 "$GOB_DIR/namespaces")
  : >"$dir/n2.log"
  serve_elsewhere n2 with_moments
  until_true 20 said n2 "taking processes"
}
# Ends VICTIM; false: there is no such thing at this moment.
end_victim() {
  local found=''
  case $1 in
    gobmigrate) found=$mover ;;
    dump) found=$(below "^[^ ]*criu dump ") ;;
    restore) found=$(below "^[^ ]*criu restore ") ;;
    server | warden) found=$(below "^gobmigrate receive " "$1") ;;
    n1 | n2) found=$(cat "$GOB_DIR/$1/gobd.pid") ;;
    link) ip -n "${network%-*}-n2" link set eth0 down && return ;;
  esac
  # shellcheck disable=SC2086  # it may be several processes
  [[ -n $found ]] && kill -9 $found
}
# What has to come of it, by docs/MIGRATION.md: the process stays where it was, moves, ends, or one
# of the latter two.
outcome_of() {
  case $1:$2 in
    *:dump) echo ends ;;
    left:gobmigrate | arrived:server | arrived:warden) echo "moves or ends" ;;
    arrived:*) echo moves ;;
    freezing:* | dumping:* | dumped:* | restoring:* | creating:* | handing:* | filling:*) echo stays ;;
    committing:gobmigrate | committing:restore) echo stays ;;
    *) echo "moves or ends" ;;
  esac
}

# strike MOMENT VICTIM
strike() {
  local moment=$1 what=$2 before after outcome status=0 node
  rm -rf "$hold" "$dir"/victim*
  mkdir "$hold"
  mkfifo "$hold/reached" "$hold/release"
  exec 7<>"$hold/release" 8<>"$hold/reached"
  printf %s "$moment" >"$hold/wanted"
  cd "$app" || return
  launch victim 8
  cd - >/dev/null || return
  (with_moments "$gobmigrate" "$pid" n2 --socket "$(socket n1)" --wait) >"$dir/mover.log" 2>&1 &
  mover=$!
  if ! read -r -t 60 -u 8; then
    fail "the move never came to $moment: $(cat "$dir/mover.log")"
  elif ! end_victim "$what"; then
    fail "no $what to end at $moment"
  fi
  printf x >&7
  exec 7>&- 8>&-
  until_true 120 zombie_or_gone "$mover" || kill -9 "$mover"
  wait "$mover" 2>/dev/null || status=$?
  # The process that moved is not told from that which stayed by its number, but by its parent.
  until_true 60 none_stopped victim
  until_true 60 eval "[[ \$(travellers '$dir/victim' | wc -l) -le 1 ]]"
  before=$(wc -l <"$dir/victim")
  until_true 60 eval "lines '$dir/victim' $((before + 3)) || [[ -z \$(travellers '$dir/victim') ]]"
  after=$(travellers "$dir/victim")
  outcome=ends
  [[ -z $after ]] || outcome=moves
  [[ $after != "$pid" ]] || outcome=stays
  echo "$moment, $what: $outcome (gobmigrate: $status $(head -n 1 "$dir/mover.log"))"
  [[ $(outcome_of "$moment" "$what") == *$outcome* ]] ||
    fail "it $outcome instead of: $(outcome_of "$moment" "$what"); $(grep "n2.$pid\." "$dir/n2.log")"
  if [[ $what != gobmigrate ]]; then
    case $outcome:$status in
      stays:1 | moves:0 | ends:4) ;;
      # All memory was there when it died, and nobody was left to tell (docs/MIGRATION.md).
      moves:4) [[ $what == server || $what == n[12] || $what == link ]] || fail "gobmigrate says otherwise" ;;
      ends:0)
        grep -q "Not all of its memory" "$dir/mover.log" ||
          said n2 "$pid\..*process is killed, since\|$pid\..*warden of the process was killed" ||
          fail "a death without a word"
        ;;
      *) fail "gobmigrate says otherwise" ;;
    esac
  fi
  [[ $outcome == ends ]] || all_right victim "$before"
  touch "$dir/victim.stop"
  until_true 60 eval "[[ -z \$(travellers '$dir/victim') ]]"
  until_true 90 no_movers || ps -fp "$(movers | paste -sd,)"
  until_true 10 no_images "$pid"
  ! grep -q "gob-migrate.n2.$pid\." /proc/net/unix /proc/self/mountinfo || fail "a socket or mount is left"
  for node in n1 n2; do
    [[ $what != "$node" && ($what != link || $node == n1) ]] || continue
    until_true 30 no_containers "$node"
  done
  case $what in n1 | n2 | link)
    [[ $what == n1 ]] || until_true 60 zombie_or_gone "${server[n2]}"
    renew
    ;;
  esac
}

all=(freezing dumping dumped restoring creating handing filling committing going told left arrived)
strikes=()
if [[ $# -eq 0 ]]; then
  strikes=(
    dumping:dump creating:restore {dumped,restoring,told,left}:gobmigrate
    {handing,filling,told,arrived}:server creating:warden
    {dumped,arrived}:n1 {creating,told}:n2 {handing,going,arrived}:link)
elif [[ $1 == all ]]; then
  strikes=({dumping,dumped}:dump {restoring,creating,handing}:restore)
  for what in gobmigrate server warden n1 n2 link; do
    for moment in "${all[@]}"; do strikes+=("$moment:$what"); done
  done
else
  strikes=("$@")
fi
renew
for each in "${strikes[@]}"; do strike "${each%:*}" "${each#*:}"; done
end_server n2
finish
