# What try.sh runs in the guest unless it is told otherwise.
failed=0
run() {
  echo "== $*"
  "$@" || { echo "== failed: $*"; failed=1; }
}
run insmod /gob.ko
run /gob_test
run /gob_stress 5000
run /gob_stress 2000 /mnt/stress
run /gob_cost faults
# Under load the module stays; afterwards it goes.
/gob_stress 2000 >/stress.out & load=$!
tries=0
while kill -0 $load 2>/dev/null; do
  if [ -e /sys/module/gob/refcnt ] && [ "$(cat /sys/module/gob/refcnt)" -gt 1 ]; then
    tries=$((tries + 1))
    if rmmod gob 2>/dev/null; then echo "== failed: the module went under load"; failed=1; break; fi
  fi
done
wait $load || failed=1
cat /stress.out
echo "== rmmod gob, refused $tries times under load"
[ $tries -gt 0 ] || { echo "== failed: there was no load"; failed=1; }
run rmmod gob
# The debug kernel looks for memory that nobody refers to; not at what is younger than 5 s.
if mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null && [ -e /sys/kernel/debug/kmemleak ]; then
  echo "== kmemleak"
  sleep 6
  echo scan >/sys/kernel/debug/kmemleak
  echo scan >/sys/kernel/debug/kmemleak
  leaks=$(cat /sys/kernel/debug/kmemleak)
  if [ -n "$leaks" ]; then echo "$leaks"; echo "== failed: leaks"; failed=1; fi
fi
exit $failed
