#!/bin/busybox sh
# The first program of a guest: loads modules, mounts the host's file tree (read-only below, writes
# in memory) and the shared folder, and goes on with inside.sh from there.
b=/bin/busybox
stop() {
  echo "guest: $1"
  $b poweroff -f
}
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
while read -r module; do
  $b insmod "/modules/$module" || echo "guest: cannot load $module"
done </modules/order
options=trans=virtio,version=9p2000.L,msize=524288
$b mount -t 9p -o "ro,$options,cache=loose" host /lower || stop "cannot mount the host's files"
$b mount -t tmpfs tmpfs /upper
$b mkdir /upper/files /upper/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work overlay /new ||
  stop "cannot lay memory over the host's files"
for dir in dev proc sys; do $b mount --move /$dir /new/$dir; done
$b mkdir -p /new/dev/shm /new/dev/pts /new/run /new/share
$b mount -t tmpfs tmpfs /new/dev/shm
$b mount -t devpts devpts /new/dev/pts
$b mount -t tmpfs tmpfs /new/run
$b mount -t 9p -o "$options,cache=none" share /new/share || stop "cannot mount the shared folder"
exec $b switch_root /new /bin/sh /share/inside.sh
