# What try.sh runs in the guest unless it is told otherwise.
failed=0
run() {
  echo "== $*"
  "$@" || { echo "== failed: $*"; failed=1; }
}
run insmod /gob.ko
run /gob_test
run /gob_calls
run /gob_stress 20000
run /gob_stress 20000 /mnt/stress
# Links that come and go, daemons that are killed, the module removed whenever nothing uses it.
run /gob_churn 600
run /gob_churn 600 /mnt/churn /gob.ko
run /gob_cost faults
# While a daemon serves, the module stays; when all of it is killed at once, the module goes.
/gob_stress 1000000000 & load=$!
until [ "$(cat /sys/module/gob/refcnt)" -gt 1 ]; do
  kill -0 $load || { echo "== failed: there is no load"; failed=1; break; }
done
tries=0
while [ $tries -lt 100 ]; do
  tries=$((tries + 1))
  if rmmod gob 2>/dev/null; then echo "== failed: the module went under load"; failed=1; break; fi
done
echo "== rmmod gob was tried $tries times under load"
kill -9 $load
wait $load
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
