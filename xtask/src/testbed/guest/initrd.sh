#!/bin/busybox sh
# The test host's first program: mounts its root disk, unpacks what came with this run, and goes on from there.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for driver in /drivers/*.ko; do $b insmod "$driver" || exit 1; done
$b mount -t ext4 -o noatime /dev/vda /root || exit 1
# Before anything is unpacked into them.
$b mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /root/run
$b mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /root/tmp
$b tar -x -o -f /dev/vdb -C /root || exit 1
for folder in dev proc sys; do $b mount --move /$folder /root/$folder; done
exec $b switch_root /root /run/testbed/init
