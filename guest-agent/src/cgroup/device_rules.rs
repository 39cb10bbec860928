//! Which devices a container may use, as a list of exceptions from a default.
//!
//! The rules of a spec are read as cgroup v1 read them: one that names every device sets the default and forgets what
//! came before; any other adds to the exceptions or takes from them. The rules that every container needs come after.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::oci::SpecError;

/// Access bits, as the kernel has them.
pub const MKNOD: u32 = 1;
/// See [`MKNOD`].
pub const READ: u32 = 2;
/// See [`MKNOD`].
pub const WRITE: u32 = 4;

/// A kind of device, numbered as the kernel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Block.
    Block = 1,
    /// Character.
    Character = 2,
}

/// A set of devices and what may (or may not) be done with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Absent: either.
    pub kind: Option<Kind>,
    /// Absent: any.
    pub major: Option<u32>,
    /// Absent: any.
    pub minor: Option<u32>,
    /// Access bits.
    pub access: u32,
}

/// The outcome.
#[derive(Debug, PartialEq, Eq)]
pub struct DeviceRules {
    /// What happens to a device that no exception matches.
    pub allow_by_default: bool,
    /// Where the opposite happens.
    pub exceptions: Vec<Exception>,
}

/// What every container may use: making any node (which opens nothing), the usual nodes, and terminals.
const ALWAYS: &[(Kind, Option<u32>, Option<u32>, u32)] = &[
    (Kind::Character, None, None, MKNOD),
    (Kind::Block, None, None, MKNOD),
    (Kind::Character, Some(1), Some(3), READ | WRITE | MKNOD),
    (Kind::Character, Some(1), Some(5), READ | WRITE | MKNOD),
    (Kind::Character, Some(1), Some(7), READ | WRITE | MKNOD),
    (Kind::Character, Some(1), Some(8), READ | WRITE | MKNOD),
    (Kind::Character, Some(1), Some(9), READ | WRITE | MKNOD),
    (Kind::Character, Some(5), Some(0), READ | WRITE | MKNOD),
    (Kind::Character, Some(5), Some(2), READ | WRITE | MKNOD),
    (Kind::Character, Some(136), None, READ | WRITE | MKNOD),
];

impl DeviceRules {
    /// Reads `linux.resources.devices`. Without any rule a container has the usual devices and no other.
    pub fn read(rules: &[LinuxDeviceCgroup]) -> Result<Self, SpecError> {
        let mut all = Self { allow_by_default: false, exceptions: Vec::new() };
        for rule in rules {
            all.apply(rule.allow(), exception(rule)?);
        }
        for (kind, major, minor, access) in ALWAYS {
            all.apply(true, Exception { kind: Some(*kind), major: *major, minor: *minor, access: *access });
        }
        Ok(all)
    }

    fn apply(&mut self, allow: bool, rule: Exception) {
        let everything = rule.kind.is_none() && rule.major.is_none() && rule.minor.is_none();
        if everything {
            *self = Self { allow_by_default: allow, exceptions: Vec::new() };
            return;
        }
        let same =
            |other: &Exception| (other.kind, other.major, other.minor) == (rule.kind, rule.major, rule.minor);
        let known = self.exceptions.iter_mut().find(|other| same(other));
        match (known, allow == self.allow_by_default) {
            (Some(known), false) => known.access |= rule.access,
            (None, false) => self.exceptions.push(rule),
            (Some(known), true) => known.access &= !rule.access,
            (None, true) => {}
        }
        self.exceptions.retain(|exception| exception.access != 0);
    }
}

fn exception(rule: &LinuxDeviceCgroup) -> Result<Exception, SpecError> {
    let invalid = |reason| SpecError::invalid("linux.resources.devices", reason);
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => None,
        Some(LinuxDeviceType::B) => Some(Kind::Block),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(Kind::Character),
        Some(LinuxDeviceType::P) => return Err(invalid("a pipe is not a device".to_owned())),
    };
    let number = |number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => {
            u32::try_from(number).map(Some).map_err(|_| invalid(format!("{number} is no device number")))
        }
    };
    let mut access = 0;
    for letter in rule.access().as_deref().unwrap_or("rwm").chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => return Err(invalid(format!("{letter:?} is none of r, w and m"))),
        };
    }
    Ok(Exception { kind, major: number(rule.major())?, minor: number(rule.minor())?, access })
}
