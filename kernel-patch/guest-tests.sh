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
sleep 1
if rmmod gob 2>/dev/null; then echo "== failed: the module went under load"; failed=1; fi
wait $load || failed=1
cat /stress.out
run rmmod gob
exit $failed
