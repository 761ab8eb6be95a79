#!/usr/bin/env bash
# Processes that move on: round three nodes and back, before all their memory has arrived.
# Arguments: gobctl gobd gobmigrate traveller criu_shim [HOPS [threads | tree | churn | slow]...].
# shellcheck source=common.sh source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
hops=${6:-4}
whom=("${@:7}")
[[ ${#whom[@]} -gt 0 ]] || whom=(threads tree churn slow)
begin 3
for node in n1 n2 n3; do serve $node; done
for node in n1 n2 n3; do until_true 90 said $node "taking processes"; done

# travel NAME PROCESSES OPTIONS...: $pid, with at most so many processes, goes round, on as soon as it has worked a few rounds.
travel() {
  local name=$1 at=n1 next hop before here numbers=("$pid")
  for ((hop = 1; hop <= hops; ++hop)); do
    case $at in n1) next=n2 ;; n2) next=n3 ;; n3) next=n1 ;; esac
    [[ $hop -ne 3 ]] || next=n2 # back to where it came from
    before=$(wc -l <"$dir/$name")
    move "$pid" $at $next "${@:3}"
    [[ $there != none ]] || return
    echo "$name: hop $hop to $next: $(json '"%d pages from %s, %d still out; frozen for %.0f ms" % (j["lazy_pages"], "'$at'", j["out_pages"], j["freeze_ms"])')"
    carried=$((carried + $(json 'j["out_pages"]')))
    until_true 30 gone "$pid"
    pid=$there at=$next
    numbers+=("$pid")
    all_right "$name" "$before"
    here=$(travellers "$dir/$name" | wc -l)
    [[ $here -ge 1 && $here -le $2 ]] || fail "$here processes of $name, not $2"
  done
  touch "$dir/$name.stop"
  until_true 60 said $at "process $pid ended with status 7"
  none_left "${numbers[@]}"
}

for who in "${whom[@]}"; do
  carried=0
  case $who in
    threads) launch threads 32 threads 4 && travel threads 1 ;;
    tree) launch tree 8 tree && travel tree 2 ;;
    churn) launch churn 8 churn && travel churn 2 ;; # its child may be there
    slow)
      # Nothing comes before it is used: most of it is still out when it moves on.
      launch slow 256 part && travel slow 1 --no-stream
      [[ $carried -gt 0 ]] || fail "no page was out when the process moved on: nothing was tested"
      ;;
    *) fail "no traveller $who" ;;
  esac
done

for node in n1 n2 n3; do end_server $node; done
finish
