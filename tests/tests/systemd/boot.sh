# A machine that systemd boots, in namespaces: boot.sh PROGRAMS KEPT UNIT
# PROGRAMS: the folder of `theca` and its like. KEPT: what stays of /var/lib from one boot to the next.
set -eu
programs=$1 kept=$2 unit=$3

mount --make-rprivate /
mount -t proc proc /proc
umount -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p "$kept/lib" "$kept/work"
mount -t overlay -o "lowerdir=/var/lib,upperdir=$kept/lib,workdir=$kept/work" overlay /var/lib
mount -t tmpfs tmpfs /mnt
mkdir /mnt/usr /mnt/work
mount -t overlay -o "lowerdir=/usr,upperdir=/mnt/usr,workdir=/mnt/work" overlay /usr
mount -t tmpfs tmpfs /etc/systemd/system
mount -t tmpfs tmpfs /var/log
mount -t tmpfs -o mode=755 tmpfs /run

# Nothing of the machine below is started or changed: of systemd's units only what thecad's need, and the journal.
rm -rf /usr/lib/systemd/system/*.wants /usr/lib/systemd/system-generators
mkdir /etc/systemd/system/sysinit.target.wants
ln -s /usr/lib/systemd/system/systemd-journald.service /etc/systemd/system/sysinit.target.wants/
# As the README says.
if [ "$programs" != /usr/bin ]; then
    cp -r "$programs" "$programs/../lib" /usr/
fi
cp "$unit" /etc/systemd/system/
export container=theca-test
exec /usr/lib/systemd/systemd --unit=basic.target --show-status=false
