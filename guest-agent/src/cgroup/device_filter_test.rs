//! Programs are judged by running them: a small interpreter plays the kernel.

use super::*;
use crate::cgroup::device_rules::MKNOD;

struct Filter(Vec<Instruction>);

impl Filter {
    fn of(json: &str) -> Self {
        let rules: Vec<_> = serde_json::from_str(json).unwrap();
        Self(compile(&DeviceRules::read(&rules).unwrap()))
    }

    fn allows(&self, kind: Kind, major: u32, minor: u32, access: u32) -> bool {
        let context = [access << 16 | kind as u32, major, minor];
        let mut registers = [0u64; 11];
        let mut at = 0;
        loop {
            let Instruction { code, registers: named, offset, immediate } = self.0[at];
            let (to, from) = (usize::from(named & 15), usize::from(named >> 4));
            at += 1;
            let mut branch = |holds: bool| {
                if holds {
                    at = at.checked_add_signed(offset.into()).unwrap();
                }
            };
            match code {
                LOAD_WORD => registers[to] = context[offset as usize / 4].into(),
                MOVE => registers[to] = immediate as u64,
                MOVE_REGISTER_32 => registers[to] = registers[from],
                AND_32 => registers[to] &= u64::from(immediate as u32),
                SHIFT_RIGHT_32 => registers[to] >>= immediate,
                JUMP => branch(true),
                JUMP_IF_NOT_EQUAL => branch(registers[to] != immediate as u64),
                JUMP_IF_ANY_BIT => branch(registers[to] & immediate as u64 != 0),
                EXIT => return registers[0] == 1,
                other => panic!("no such operation {other:#x}"),
            }
        }
    }
}

const NOTHING: &str = r#"[{"allow":false,"access":"rwm"}]"#;
const EVERYTHING: &str = r#"[{"allow":true,"access":"rwm"}]"#;

#[test]
fn the_usual_devices_are_always_there() {
    let filter = Filter::of(NOTHING);
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, 7)] {
        assert!(filter.allows(Kind::Character, major, minor, READ | WRITE), "{major}:{minor}");
    }
    assert!(!filter.allows(Kind::Character, 10, 200, READ), "tun is not usual");
    assert!(!filter.allows(Kind::Character, 1, 1, READ), "memory is not usual");
}

#[test]
fn any_node_can_be_made_and_few_be_opened() {
    let filter = Filter::of(NOTHING);
    assert!(filter.allows(Kind::Character, 10, 200, MKNOD));
    assert!(filter.allows(Kind::Block, 254, 0, MKNOD));
    assert!(!filter.allows(Kind::Character, 10, 200, MKNOD | READ));
}

#[test]
fn a_device_of_the_spec_is_added_with_its_access() {
    let filter = Filter::of(
        r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":229,"access":"r"}]"#,
    );
    assert!(filter.allows(Kind::Character, 10, 229, READ));
    assert!(!filter.allows(Kind::Character, 10, 229, READ | WRITE));
    assert!(!filter.allows(Kind::Character, 10, 228, READ));
}

#[test]
fn the_sandboxs_disks_stay_closed_even_if_everything_is_allowed() {
    let filter = Filter::of(EVERYTHING);
    assert!(filter.allows(Kind::Character, 10, 200, READ | WRITE));
    for access in [READ, WRITE, READ | WRITE, READ | MKNOD] {
        assert!(!filter.allows(Kind::Block, 254, 0, access));
        assert!(!filter.allows(Kind::Block, 7, 0, access));
    }
}

#[test]
fn an_exception_takes_from_everything() {
    let filter =
        Filter::of(r#"[{"allow":true},{"allow":false,"type":"c","major":10,"minor":200,"access":"w"}]"#);
    assert!(filter.allows(Kind::Character, 10, 200, READ));
    assert!(!filter.allows(Kind::Character, 10, 200, READ | WRITE));
}

#[test]
fn a_denial_takes_back_what_a_rule_before_it_gave() {
    let filter = Filter::of(
        r#"[{"allow":true,"type":"c","major":10,"access":"rw"},{"allow":false,"type":"c","major":10,"access":"w"}]"#,
    );
    assert!(filter.allows(Kind::Character, 10, 5, READ));
    assert!(!filter.allows(Kind::Character, 10, 5, WRITE));
}
