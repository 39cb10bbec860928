//! What `theca check` looks at: one finding for each thing, with what to do when it is not as it should be.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::cpu::{Virtualization, virtualization};
use super::{capacity, kernel, kvm};
use crate::container::Roots;
use crate::keeper::{keeper_program, kernel_and_initrd};
use crate::output::size;
use crate::sys;

/// Less free space than this is worth a word.
const LITTLE_SPACE: u64 = 1 << 30;

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Something works less well.
    Warning,
    /// Nothing works without it.
    Missing,
}

/// One thing and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Finding {
    /// The thing.
    pub name: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it; empty if nothing.
    pub advice: String,
}

/// Looks at everything.
pub fn all(roots: &Roots) -> Vec<Finding> {
    let mut findings = vec![processor(), device()];
    findings.extend(kvm::open().ok().map(|kvm| capabilities(&kvm)));
    findings.push(boots_linux());
    findings.push(capacity::cpus());
    findings.push(capacity::ram());
    findings.extend(guest());
    findings.push(keeper());
    findings.push(vmm());
    findings.push(mke2fs());
    findings.push(folder("state folder", roots.state()));
    findings.push(folder("data folder", roots.data()));
    findings.push(space(roots.data()));
    findings.push(cgroups());
    findings
}

pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Finding {
    Finding { name, verdict: Verdict::Ok, found: found.into(), advice: String::new() }
}

pub(super) fn bad(
    name: &'static str,
    verdict: Verdict,
    found: impl Into<String>,
    advice: impl Into<String>,
) -> Finding {
    Finding { name, verdict, found: found.into(), advice: advice.into() }
}

fn processor() -> Finding {
    let name = "processor";
    match virtualization() {
        Some(Virtualization::Vmx) => ok(name, "VT-x"),
        Some(Virtualization::Svm) => ok(name, "AMD-V"),
        Some(Virtualization::None) => bad(
            name,
            Verdict::Missing,
            "neither VT-x nor AMD-V",
            "turn virtualization on in the firmware; inside a virtual machine, ask its operator for nested virtualization",
        ),
        None => bad(name, Verdict::Warning, "of a kind that is not asked", "only x86_64 has been tried"),
    }
}

fn device() -> Finding {
    let name = "/dev/kvm";
    let kvm = match kvm::open() {
        Ok(kvm) => kvm,
        Err(kvm::KvmError::Missing) => {
            let module = if virtualization() == Some(Virtualization::Svm) { "kvm_amd" } else { "kvm_intel" };
            return bad(name, Verdict::Missing, "not there", format!("load the module: modprobe {module}"));
        }
        Err(kvm::KvmError::NoPermission) => {
            let advice = "run theca as root, or: usermod -aG kvm $USER, and log in again";
            return bad(name, Verdict::Missing, "no permission", advice);
        }
        Err(kvm::KvmError::Open(error)) => {
            return bad(name, Verdict::Missing, error.to_string(), "look into the kernel log (dmesg)");
        }
    };
    match sys::kvm::api_version(&kvm) {
        Ok(kvm::API_VERSION) => ok(name, "usable, API version 12"),
        Ok(other) => {
            bad(name, Verdict::Missing, format!("API version {other}"), "use a kernel of this century")
        }
        Err(error) => {
            bad(name, Verdict::Missing, error.to_string(), "this is not KVM's device; restore it with udev")
        }
    }
}

fn capabilities(kvm: &fs::File) -> Finding {
    let name = "KVM capabilities";
    let missing = kvm::missing_capabilities(kvm);
    if missing.is_empty() {
        return ok(name, "all that are needed");
    }
    let advice = "use a newer host kernel; this KVM is an incomplete one";
    bad(name, Verdict::Missing, format!("without {}", missing.join(", ")), advice)
}

/// A /dev/kvm without virtualization in the processor is an emulation of KVM that runs a few thousand instructions a
/// second.
fn boots_linux() -> Finding {
    let name = "boots Linux";
    match (kvm::open().is_ok(), virtualization()) {
        (true, Some(Virtualization::None)) => bad(
            name,
            Verdict::Missing,
            "no: /dev/kvm answers, but the processor has no virtualization, so something emulates it",
            "use another machine; to try Theca here all the same: cargo xtask testbed",
        ),
        (true, _) => ok(name, "by all signs"),
        (false, _) => bad(name, Verdict::Missing, "no: there is no usable /dev/kvm", "see above"),
    }
}

fn guest() -> Vec<Finding> {
    match kernel_and_initrd() {
        Ok((kernel, initrd)) => {
            let kernel = match super::is_kernel(&kernel) {
                Ok(()) => {
                    let release = kernel::release(&kernel).ok().flatten();
                    let release = release.unwrap_or_else(|| "of no known release".into());
                    ok("guest kernel", format!("{}, {release}", kernel.display()))
                }
                Err(error) => {
                    bad("guest kernel", Verdict::Missing, error.to_string(), "install Theca's vmlinux")
                }
            };
            vec![kernel, ok("guest initrd", initrd.display().to_string())]
        }
        Err(error) => vec![bad("guest kernel", Verdict::Missing, "not found", error.to_string())],
    }
}

fn keeper() -> Finding {
    match keeper_program() {
        Ok(path) => ok("keeper", path.display().to_string()),
        Err(error) => bad("keeper", Verdict::Missing, "not found", error.to_string()),
    }
}

/// The keeper looks for it beside itself first.
fn vmm() -> Finding {
    let name = "VMM";
    let beside = keeper_program().ok().and_then(|keeper| Some(keeper.parent()?.join("theca-vmm")));
    match beside.filter(|path| path.is_file()).or_else(|| on_path("theca-vmm")) {
        Some(path) => ok(name, path.display().to_string()),
        None => bad(name, Verdict::Missing, "not found", "install theca-vmm beside the keeper"),
    }
}

fn mke2fs() -> Finding {
    let name = "mke2fs";
    let there = on_path("mke2fs").or_else(|| {
        ["/usr/sbin/mke2fs", "/sbin/mke2fs"]
            .iter()
            .map(Into::into)
            .find(|path: &std::path::PathBuf| path.is_file())
    });
    match there {
        Some(path) => ok(name, path.display().to_string()),
        None => bad(
            name,
            Verdict::Warning,
            "not found: it makes the containers' writable disks",
            "install e2fsprogs, or run containers with --read-only",
        ),
    }
}

fn on_path(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// A folder counts as writable if it, or what it would be made in, is.
fn folder(name: &'static str, path: &Path) -> Finding {
    let there = path.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    match nix::unistd::access(there, nix::unistd::AccessFlags::W_OK) {
        Ok(()) => ok(name, format!("{} is writable", path.display())),
        Err(errno) => bad(
            name,
            Verdict::Missing,
            format!("{}: {}", there.display(), errno.desc()),
            "run theca as root, or point THECA_ROOT and THECA_STATE to folders of yours",
        ),
    }
}

fn space(path: &Path) -> Finding {
    let name = "free space";
    let there = path.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    match nix::sys::statvfs::statvfs(there) {
        Ok(stat) => {
            let free = stat.blocks_available() * stat.fragment_size();
            let found = format!("{} for {}", size::human(free), path.display());
            if free >= LITTLE_SPACE {
                ok(name, found)
            } else {
                bad(
                    name,
                    Verdict::Warning,
                    found,
                    "images and containers need more; free some, or move THECA_ROOT",
                )
            }
        }
        Err(errno) => bad(name, Verdict::Warning, errno.desc(), "look at the file system"),
    }
}

fn cgroups() -> Finding {
    let name = "cgroup v2";
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return ok(name, "mounted");
    }
    bad(
        name,
        Verdict::Warning,
        "not mounted: whoever limits sandboxes from outside, as systemd does, has only the older kind",
        "boot with systemd.unified_cgroup_hierarchy=1",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_complaint_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let findings = all(&Roots::below(folder.path()));
        assert!(findings.len() >= 10);
        for finding in findings {
            assert_eq!(finding.verdict == Verdict::Ok, finding.advice.is_empty(), "{finding:?}");
            assert!(!finding.found.is_empty(), "{finding:?}");
        }
    }

    #[test]
    fn a_folder_of_ours_is_writable() {
        let ours = tempfile::tempdir().unwrap();
        assert_eq!(folder("x", &ours.path().join("not/yet/there")).verdict, Verdict::Ok);
    }
}
