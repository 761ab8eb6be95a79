#!/bin/busybox sh
# The first program of the guest that try.sh boots: mounts, runs /command, says its status, and ends.
/bin/busybox --install -s /bin
export PATH=/bin GOB_TEST_DIR=/mnt
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/shm
mount -t tmpfs tmpfs /dev/shm
mount -o loop /disk /mnt || echo "guest: no ext4 file system"
uname -rv
sh /command
status=$?
umount /mnt
# An oops stops the machine at once; what is only a warning counts, too.
if dmesg | grep -E 'WARNING:|BUG:|possible (circular|recursive) locking|blocked for more'; then
  dmesg | tail -n 60
  status=1
fi
echo "guest: status $status"
reboot -f
