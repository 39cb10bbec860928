//! The ways into the kernel that a filter knows: each has numbers of its own for the same system calls.

use super::rules::{Condition, Test};
use super::syscalls_i386;
#[cfg(target_arch = "x86_64")]
use super::syscalls_x86_64;

/// One way into the kernel.
pub struct Abi {
    /// How the kernel names it to filters.
    pub architecture: u32,
    /// Names and numbers.
    syscalls: &'static [(&'static str, u32)],
    /// The bits that an argument has.
    pub argument: u64,
    /// Calls that do the work of several.
    multiplexers: &'static [Multiplexer],
}

/// A call whose first argument says which call is meant. The arguments of that one lie in memory, where no filter looks.
struct Multiplexer {
    name: &'static str,
    /// The bits of the first argument that say so.
    mask: u64,
    /// By that number.
    calls: &'static [(&'static str, u64)],
}

/// That of the guest's own programs.
#[cfg(target_arch = "x86_64")]
pub const NATIVE: Abi = Abi {
    architecture: 0xc000_003e,
    syscalls: syscalls_x86_64::SYSCALLS,
    argument: u64::MAX,
    multiplexers: &[],
};

/// That of 32-bit x86 programs.
pub const I386: Abi = Abi {
    architecture: 0x4000_0003,
    syscalls: syscalls_i386::SYSCALLS,
    argument: u32::MAX as u64,
    multiplexers: &[SOCKETCALL, IPC],
};

const SOCKETCALL: Multiplexer = Multiplexer {
    name: "socketcall",
    mask: u32::MAX as u64,
    calls: &[
        ("socket", 1),
        ("bind", 2),
        ("connect", 3),
        ("listen", 4),
        ("accept", 5),
        ("getsockname", 6),
        ("getpeername", 7),
        ("socketpair", 8),
        ("send", 9),
        ("recv", 10),
        ("sendto", 11),
        ("recvfrom", 12),
        ("shutdown", 13),
        ("setsockopt", 14),
        ("getsockopt", 15),
        ("sendmsg", 16),
        ("recvmsg", 17),
        ("accept4", 18),
        ("recvmmsg", 19),
        ("sendmmsg", 20),
    ],
};

/// The upper half of its first argument is a version.
const IPC: Multiplexer = Multiplexer {
    name: "ipc",
    mask: 0xffff,
    calls: &[
        ("semop", 1),
        ("semget", 2),
        ("semctl", 3),
        ("semtimedop", 4),
        ("msgsnd", 11),
        ("msgrcv", 12),
        ("msgget", 13),
        ("msgctl", 14),
        ("shmat", 21),
        ("shmdt", 22),
        ("shmget", 23),
        ("shmctl", 24),
    ],
};

impl Abi {
    /// The number of a system call, if there is one of that name.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.syscalls.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
    }

    /// The other way to make a call: the number of a multiplexer, and what its first argument must be.
    pub fn multiplexed(&self, name: &str) -> Option<(u32, Condition)> {
        self.multiplexers.iter().find_map(|multiplexer| {
            let (_, call) = multiplexer.calls.iter().find(|(known, _)| *known == name)?;
            let test = Test::MaskedEqual { mask: multiplexer.mask, value: *call };
            Some((self.number(multiplexer.name)?, Condition { argument: 0, test }))
        })
    }
}
