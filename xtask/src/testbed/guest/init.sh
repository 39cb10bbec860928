#!/bin/sh
# PID 1 of the test host: sets up what a Debian system has at run time, runs one command, and reports on port 4.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 USER=root
run=/run/testbed disk=/dev/vdc

mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
mkdir -p /dev/pts /dev/shm /run/lock
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /dev/shm
ln -sf /proc/self/fd /dev/fd
ln -sf fd/0 /dev/stdin
ln -sf fd/1 /dev/stdout
ln -sf fd/2 /dev/stderr
hostname testbed
ip link set lo up
modprobe -a virtio_console kvm_amd loop tun vhost_vsock

# A port exists some moments after its driver; the numbers are those of qemu.rs.
for attempt in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    control=$(echo /dev/vport*p4)
    [ -c "$control" ] && break
    sleep 0.1
done
# Without its ports it can tell nobody: PID 1 ending panics the kernel, which ends QEMU.
[ -c "$control" ] || exit 1
port=${control%4}
exec 9>"$control"
cat "${port}5" >/dev/null 9>&- &
[ -c /dev/kvm ] || { echo "failed kvm_amd made no /dev/kvm" >&9; sleep 60; }

# The command gets pipes rather than the ports themselves: a port can be opened once only.
mkfifo $run/stdin $run/stdout $run/stderr
cat "$port"1 >$run/stdin 2>/dev/null 9>&- &
cat $run/stdout >"$port"2 9>&- &
stdout=$!
cat $run/stderr >"$port"3 9>&- &
stderr=$!

read -r uptime _ </proc/uptime
echo "ready $uptime" >&9
cd /root
# What a shell starts in the background ignores SIGINT and SIGQUIT, and so would all that it starts.
setsid env --default-signal=INT,QUIT sh $run/command <$run/stdin >$run/stdout 2>$run/stderr 9>&- &
wait $!
status=$?

# What the command left running may hold its output open: it gets two seconds to say the rest.
(sleep 2; kill $stdout $stderr) 2>/dev/null 9>&- &
wait $stdout $stderr

if [ -s $run/results ]; then
    # What is missing is found out, and said, by the reader of the disk.
    eval "tar -c -f $disk -C / -- $(cat $run/results)" 2>/dev/console
    sync
fi
echo "exit $status" >&9
sleep 60
