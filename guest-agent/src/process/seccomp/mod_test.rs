//! Filters are judged by running them: a small interpreter plays the kernel.

use libc::{SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD};

use super::*;

const EPERM: u32 = SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

struct Filter(SeccompFilter);

impl Filter {
    fn of(json: &str) -> Self {
        Self(compile(&serde_json::from_str(json).unwrap()).unwrap())
    }

    fn call(&self, number: i64, args: [u64; 6]) -> u32 {
        self.run(abi::NATIVE.architecture, number as u32, args)
    }

    /// Classic BPF over `struct seccomp_data`.
    fn run(&self, architecture: u32, number: u32, args: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_le_bytes());
        data.extend(architecture.to_le_bytes());
        data.extend(0u64.to_le_bytes());
        args.iter().for_each(|arg| data.extend(arg.to_le_bytes()));
        let (mut at, mut word) = (0, 0u32);
        loop {
            let instruction = self.0.program[at];
            at += 1;
            let mut branch =
                |holds: bool| at += usize::from(if holds { instruction.jt } else { instruction.jf });
            match u32::from(instruction.code) {
                0x20 => {
                    let from = instruction.k as usize;
                    word = u32::from_le_bytes(data[from..from + 4].try_into().unwrap());
                }
                0x54 => word &= instruction.k,
                0x05 => at += instruction.k as usize,
                0x15 => branch(word == instruction.k),
                0x25 => branch(word > instruction.k),
                0x35 => branch(word >= instruction.k),
                0x06 => return instruction.k,
                other => panic!("no such operation {other:#x}"),
            }
        }
    }
}

#[test]
fn calls_that_are_named_get_their_action_and_others_the_default() {
    let filter = Filter::of(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
            {"names":["read","write","mount_setattr"],"action":"SCMP_ACT_ALLOW"},
            {"names":["reboot"],"action":"SCMP_ACT_KILL_PROCESS"},
            {"names":["swapon"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}"#,
    );
    assert_eq!(filter.call(libc::SYS_read, [0; 6]), SECCOMP_RET_ALLOW);
    assert_eq!(filter.call(libc::SYS_write, [0; 6]), SECCOMP_RET_ALLOW);
    assert_eq!(filter.call(libc::SYS_reboot, [0; 6]), SECCOMP_RET_KILL_PROCESS);
    assert_eq!(filter.call(libc::SYS_swapon, [0; 6]), ENOSYS);
    assert_eq!(filter.call(libc::SYS_mkdir, [0; 6]), EPERM);
}

#[test]
fn neighbours_are_one_range_and_any_pattern_is_found() {
    let allowing = |wanted: fn(u32) -> bool| {
        let named = syscalls_x86_64::SYSCALLS.iter().filter(|(_, number)| wanted(*number));
        let names: Vec<_> = named.map(|(name, _)| *name).collect();
        let rule = serde_json::json!({ "names": names, "action": "SCMP_ACT_ALLOW" });
        Filter::of(&serde_json::json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule] }).to_string())
    };
    // Two comparisons of architecture, one number to load, and the gap between 334 and 424.
    assert!(allowing(|_| true).0.program.len() < 20);
    let filter = allowing(|number| number % 3 == 0);
    assert!(filter.0.program.len() > 255, "short jumps only");
    for (name, number) in syscalls_x86_64::SYSCALLS {
        let expected = if number % 3 == 0 { SECCOMP_RET_ALLOW } else { EPERM };
        assert_eq!(filter.call((*number).into(), [0; 6]), expected, "{name}");
    }
}

#[test]
fn a_call_newer_than_the_profile_does_not_exist() {
    let filter = Filter::of(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["openat2"],"action":"SCMP_ACT_ALLOW"}]}"#,
    );
    assert_eq!(filter.call(libc::SYS_openat2, [0; 6]), SECCOMP_RET_ALLOW);
    assert_eq!(filter.call(libc::SYS_openat2 + 1, [0; 6]), ENOSYS);
}

#[test]
fn foreign_calls_do_not_slip_through() {
    let filter = Filter::of(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#);
    assert_eq!(filter.run(0x4000_0003, 0, [0; 6]), SECCOMP_RET_KILL_PROCESS);
    assert_eq!(filter.run(abi::NATIVE.architecture, X32, [0; 6]), ENOSYS);
}

#[test]
fn programs_of_32_bits_have_the_same_rules_where_the_architecture_is_named() {
    let filter = Filter::of(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32"],
            "syscalls":[
            {"names":["getpid","mmap2","connect","openat2"],"action":"SCMP_ACT_ALLOW"},
            {"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":18446744073709551615,"op":"SCMP_CMP_EQ"}]},
            {"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":40,"op":"SCMP_CMP_LT"}]}]}"#,
    );
    let call = |number, first| filter.run(abi::I386.architecture, number, [first, 0, 0, 0, 0, 0]);
    let (getpid, mmap2, personality, socketcall, socket) = (20, 192, 136, 102, 359);
    assert_eq!((call(getpid, 0), call(mmap2, 0)), (SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW));
    assert_eq!(call(39, 0), EPERM, "mkdir, which is getpid's number elsewhere");
    assert_eq!((call(personality, u64::from(u32::MAX)), call(personality, 1)), (SECCOMP_RET_ALLOW, EPERM));
    assert_eq!((call(socket, 1), call(socket, 40)), (SECCOMP_RET_ALLOW, EPERM));
    assert_eq!(call(socketcall, 3), SECCOMP_RET_ALLOW, "connect");
    assert_eq!(call(socketcall, 1), EPERM, "socket, of a family that nobody can see");
    assert_eq!(call(460, 0), ENOSYS);
    assert_eq!(filter.run(abi::NATIVE.architecture, X32 + 39, [0; 6]), ENOSYS);
}

#[test]
fn what_is_forbidden_is_so_by_every_way() {
    let filter = Filter::of(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"syscalls":[
            {"names":["socket"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":40,"op":"SCMP_CMP_EQ"}]},
            {"names":["shmget"],"action":"SCMP_ACT_ERRNO"}]}"#,
    );
    let call = |number, first| filter.run(abi::I386.architecture, number, [first, 0, 0, 0, 0, 0]);
    assert_eq!((call(102, 1), call(102, 2)), (EPERM, SECCOMP_RET_ALLOW));
    assert_eq!((call(117, 23), call(117, 1 << 16 | 23), call(117, 24)), (EPERM, EPERM, SECCOMP_RET_ALLOW));
}

#[test]
fn comparisons_are_of_64_bits() {
    let value = 0x2_0000_0005_u64;
    let around = [
        0,
        5,
        value - 1,
        value,
        value + 1,
        0x1_ffff_ffff,
        0x3_0000_0000,
        0x3_0000_0005,
        0x1_0000_0009,
        u64::MAX,
    ];
    type Holds = fn(u64, u64) -> bool;
    let operators: [(&str, Holds); 6] = [
        ("NE", |a, b| a != b),
        ("LT", |a, b| a < b),
        ("LE", |a, b| a <= b),
        ("EQ", |a, b| a == b),
        ("GE", |a, b| a >= b),
        ("GT", |a, b| a > b),
    ];
    for (operator, holds) in operators {
        let filter = Filter::of(&format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["ioctl"],"action":"SCMP_ACT_ALLOW",
                "args":[{{"index":1,"value":{value},"op":"SCMP_CMP_{operator}"}}]}}]}}"#
        ));
        for arg in around {
            let expected = if holds(arg, value) { SECCOMP_RET_ALLOW } else { EPERM };
            assert_eq!(
                filter.call(libc::SYS_ioctl, [0, arg, 0, 0, 0, 0]),
                expected,
                "{arg:#x} {operator} {value:#x}"
            );
        }
    }
}

#[test]
fn a_masked_comparison_looks_at_the_mask_only() {
    // The usual rule for clone: no new namespaces.
    let filter = Filter::of(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["clone"],"action":"SCMP_ACT_ALLOW",
            "args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#,
    );
    assert_eq!(filter.call(libc::SYS_clone, [libc::SIGCHLD as u64, 0, 0, 0, 0, 0]), SECCOMP_RET_ALLOW);
    assert_eq!(filter.call(libc::SYS_clone, [libc::CLONE_NEWNS as u64, 0, 0, 0, 0, 0]), EPERM);
}

#[test]
fn all_conditions_of_a_rule_hold_unless_an_argument_is_named_twice() {
    let both = Filter::of(
        r#"{"defaultAction":"SCMP_ACT_KILL","syscalls":[{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[
            {"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":1,"value":2,"op":"SCMP_CMP_EQ"}]}]}"#,
    );
    assert_eq!(both.call(libc::SYS_socket, [1, 2, 0, 0, 0, 0]), SECCOMP_RET_ALLOW);
    assert_eq!(both.call(libc::SYS_socket, [1, 3, 0, 0, 0, 0]), SECCOMP_RET_KILL_THREAD);
    let either = Filter::of(
        r#"{"defaultAction":"SCMP_ACT_KILL","syscalls":[{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[
            {"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]}]}"#,
    );
    assert_eq!(either.call(libc::SYS_socket, [2, 0, 0, 0, 0, 0]), SECCOMP_RET_ALLOW);
    assert_eq!(either.call(libc::SYS_socket, [3, 0, 0, 0, 0, 0]), SECCOMP_RET_KILL_THREAD);
}

#[test]
fn a_long_list_of_conditions_is_jumped_over() {
    let rules: Vec<_> = (0..200)
        .map(|value| {
            format!(
                r#"{{"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[{{"index":0,"value":{value},"op":"SCMP_CMP_EQ"}}]}}"#
            )
        })
        .collect();
    let filter =
        Filter::of(&format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{}]}}"#, rules.join(",")));
    assert_eq!(filter.call(libc::SYS_personality, [199, 0, 0, 0, 0, 0]), SECCOMP_RET_ALLOW);
    assert_eq!(filter.call(libc::SYS_personality, [200, 0, 0, 0, 0, 0]), EPERM);
    assert_eq!(filter.call(libc::SYS_read, [0; 6]), EPERM);
}

#[test]
fn listeners_are_refused_by_name() {
    let json =
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mount"],"action":"SCMP_ACT_NOTIFY"}]}"#;
    let error = compile(&serde_json::from_str(json).unwrap()).unwrap_err();
    assert!(error.to_string().contains("SCMP_ACT_NOTIFY"), "{error}");
}
