#!/bin/sh
# Runs in the guest, on the host's file tree: sets up the network, runs the command, reports its
# status in a file and stops the machine. Variables come from the file `settings`.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
export PATH HOME LC_ALL
b=/bin/busybox
. /share/settings
for link in fd: stdin:/0 stdout:/1 stderr:/2; do
  $b ln -sf "/proc/self/fd${link#*:}" "/dev/${link%%:*}"
done
$b mkdir -p /lib/modules
$b mount -o bind "$MODULES" /lib/modules
ulimit -l unlimited
ip link set lo up

fault=
add_rxe() { # name, network interface
  rdma link add "$1" type rxe netdev "$2" || fault="no device $1"
}
case $SETUP in
  none) ;;
  rxe) # one device on an interface that leads nowhere: it talks to itself
    ip link add rdma0 type dummy
    ip link set rdma0 up mtu 9000
    ip addr add 10.77.0.1/24 dev rdma0
    add_rxe rxe0 rdma0
    ;;
  nodes:*) # devices node1 ... nodeN with addresses 10.77.0.1 ... N, as if on N machines
    # One kernel has all the addresses and must still send packets between them over the bridge.
    sysctl -qw net.ipv4.conf.all.accept_local=1 net.ipv4.conf.all.rp_filter=0 \
      net.ipv4.conf.default.rp_filter=0 net.ipv4.conf.all.arp_ignore=1 \
      net.ipv4.conf.all.arp_announce=2
    ip link add br0 type bridge
    ip link set br0 up mtu 9000
    i=1
    while [ $i -le "${SETUP#nodes:}" ]; do
      ip link add n$i mtu 9000 type veth peer name p$i mtu 9000
      ip link set p$i up master br0
      ip link set n$i up
      ip addr add 10.77.0.$i/24 dev n$i
      add_rxe node$i n$i
      i=$((i + 1))
    done
    ;;
  wire:*) # a device on the cable to another guest: wire:ADDRESS
    ip link set eth0 up mtu 9000
    ip addr add "${SETUP#wire:}/24" dev eth0
    add_rxe rxe0 eth0
    ;;
  *) fault="unknown set-up '$SETUP'" ;;
esac
if [ -n "$fault" ]; then
  echo "guest: $fault" >>/share/output
  status=126
else
  (cd "$FOLDER" && exec sh /share/command) </dev/null >>/share/output 2>&1
  status=$?
fi
echo $status >/share/status.new
$b mv /share/status.new /share/status
$b sync
# isa-debug-exit: QEMU ends at once. The status that counts is the file.
printf 1 | $b dd of=/dev/port bs=1 seek=244 count=1 conv=notrunc 2>/dev/null
$b poweroff -f
