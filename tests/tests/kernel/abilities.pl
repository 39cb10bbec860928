# Uses what a container may need of its kernel; prints a line for each ability that is missing, then how many were tried.
use strict;
use Fcntl;
use Socket;

my $tried = 0;
sub able {
    my ($what, $done) = @_;
    $tried++;
    print "missing: $what: $!\n" unless $done;
}
# Numbers of x86-64 (asm/unistd_64.h); a negative answer is an error.
sub call { my @arguments = @_; return syscall($arguments[0], @arguments[1 .. $#arguments]) >= 0 }

able("io_uring", call(425, 4, my $parameters = "\0" x 120));
able("userfaultfd", call(323, 1));
able("inotify", call(294, 0));
able("fanotify", call(300, 0, 0));
able("a POSIX message queue", call(240, "queue", O_CREAT | O_RDWR, 0600, 0));
able("memory in huge pages by memfd", call(319, "huge", 4));
able("epoll", call(291, 0));
able("signalfd", call(289, -1, my $set = "\0" x 8, 8, 0));
able("timerfd", call(283, 1, 0));
able("System V shared memory", defined shmget(0, 4096, 01600));
able("keys", call(250, 0, -3, 1));
able("FUSE", sysopen(my $fuse, "/dev/fuse", O_RDWR));
able("TUN", sysopen(my $tun, "/dev/net/tun", O_RDWR));

open(my $list, "<", "/proc/filesystems");
my %known = map { (split)[-1] => 1 } <$list>;
able("file system $_", $known{$_})
    for qw(overlay erofs ext4 tmpfs proc sysfs cgroup2 mqueue hugetlbfs fuse virtiofs binfmt_misc);
able("a mounted $_", call(165, $_, "/mnt", $_, 0, 0) && call(166, "/mnt", 2))
    for qw(tmpfs mqueue hugetlbfs binfmt_misc);

# rtnetlink(7): a message, and the error of its acknowledgement.
sub ask {
    my ($family, $type, $body) = @_;
    socket(my $socket, 16, SOCK_RAW, $family) or return 0;
    my $flags = $family ? 0x1 : 0x605;
    send($socket, pack("L S S L L", 16 + length $body, $type, $flags, 1, 0) . $body, 0) or return 0;
    setsockopt($socket, SOL_SOCKET, SO_RCVTIMEO, pack("l! l!", 5, 0));
    defined recv($socket, my $answer, 65536, 0) or return 0;
    my ($length, $kind) = unpack("L S", $answer);
    return 1 if $kind != 2;
    $! = -unpack("l", substr($answer, 16));
    return $! == 0;
}
for my $kind (qw(veth bridge)) {
    my $name = pack("S S a8", 12, 1, $kind);
    able("an interface of kind $kind", ask(0, 16, "\0" x 16 . pack("S S", 4 + length $name, 18) . $name));
}
# Generation of the nftables rules, then how many connections are tracked.
able("nftables", ask(12, 10 << 8 | 16, "\0" x 4));
able("connection tracking", ask(12, 1 << 8 | 5, "\0" x 4));

print "$tried tried\n";
