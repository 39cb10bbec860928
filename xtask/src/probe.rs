//! Where sandboxes can run: on this machine's own KVM, or only in the test host.
//!
//! A `/dev/kvm` that opens is not enough: some machines have one that emulates the guest's kernel mode in software, with
//! gaps that stop Linux. They show by a processor that has neither VT-x nor AMD-V, which KVM needs to be real.

use std::fs::OpenOptions;
use std::io::ErrorKind;

use crate::command;

/// Where to run, and why.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// On this machine.
    Here,
    /// In the test host, for the reason given.
    Testbed(String),
}

impl Place {
    /// Looks at the processor and at /dev/kvm, and says what it found in one line.
    pub fn find() -> Self {
        let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm");
        let refused = kvm.err().filter(|error| error.kind() != ErrorKind::PermissionDenied || !root_may());
        let place = decide(&processor, refused.map(|error| error.to_string()));
        match &place {
            Self::Here => {
                eprintln!("sandboxes run on this machine: its processor and /dev/kvm can run Linux guests")
            }
            Self::Testbed(why) => eprintln!("sandboxes run in the test host: {why}"),
        }
        place
    }
}

/// Whether it opens for root, whom sandboxes of tests and demo run as.
fn root_may() -> bool {
    command::as_root("test").args(["-w", "/dev/kvm"]).status().is_ok_and(|status| status.success())
}

/// Whether /dev/kvm opens, whatever it can run.
pub fn kvm_opens() -> bool {
    OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok()
}

fn decide(cpuinfo: &str, kvm_error: Option<String>) -> Place {
    let flags = cpuinfo.lines().find_map(|line| line.strip_prefix("flags")).unwrap_or_default();
    if !flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm") {
        return Place::Testbed("this machine's processor offers neither VT-x nor AMD-V".into());
    }
    match kvm_error {
        Some(error) => Place::Testbed(format!("/dev/kvm does not open here ({error})")),
        None => Place::Here,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_counts_only_with_both_processor_and_device() {
        let with = "processor\t: 0\nflags\t\t: fpu svm nx\n";
        let without = "processor\t: 0\nflags\t\t: fpu svm_lock nx\n";
        assert_eq!(decide(with, None), Place::Here);
        assert!(matches!(decide(without, None), Place::Testbed(why) if why.contains("AMD-V")));
        assert!(matches!(decide(with, Some("denied".into())), Place::Testbed(why) if why.contains("denied")));
    }
}
