//! Where Theca's own files are on this machine: the VMM, the guest kernel and the initrd.
//!
//! They follow the keeper's executable (`bin/` beside `lib/theca/`) or the system's folders, and the environment for
//! tests. Nothing that a pod can set has a say.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// A file of Theca that is nowhere to be found.
#[derive(Debug, thiserror::Error)]
#[error("no {what} was found in {folders}: install it there{hint}", folders = folders(looked))]
pub struct NotInstalled {
    what: &'static str,
    looked: Vec<PathBuf>,
    hint: &'static str,
}

fn folders(looked: &[PathBuf]) -> String {
    let names: Vec<_> = looked.iter().map(|folder| folder.display().to_string()).collect();
    names.join(" or ")
}

/// Theca's files on this machine. Nothing is looked for before it is asked for.
#[derive(Clone, Debug)]
pub struct Installation {
    /// Folders of programs, the first one first.
    pub programs: Vec<PathBuf>,
    /// Folders of kernels and initrds.
    pub libraries: Vec<PathBuf>,
    /// A kernel named by the environment.
    pub kernel: Option<PathBuf>,
    /// An initrd named by the environment.
    pub initrd: Option<PathBuf>,
    /// The device of KVM.
    pub kvm: PathBuf,
}

impl Installation {
    /// The one that this executable belongs to.
    pub fn own() -> Self {
        let executable = env::current_exe().unwrap_or_default();
        let folder = executable.parent();
        let library = folder.and_then(Path::parent).map(|prefix| prefix.join("lib/theca"));
        let named = |variable| env::var_os(variable).filter(|path| path != OsStr::new("")).map(PathBuf::from);
        Self {
            programs: folder.map(PathBuf::from).into_iter().chain(["/usr/bin".into()]).collect(),
            libraries: library.into_iter().chain(["/usr/lib/theca".into()]).collect(),
            kernel: named("THECA_KERNEL"),
            initrd: named("THECA_INITRD"),
            kvm: "/dev/kvm".into(),
        }
    }

    /// The VMM program.
    pub fn vmm(&self) -> Result<PathBuf, NotInstalled> {
        find("theca-vmm", "theca-vmm", &self.programs, "")
    }

    /// The guest kernel, an ELF `vmlinux`.
    pub fn kernel(&self) -> Result<PathBuf, NotInstalled> {
        let search =
            || find("vmlinux", "guest kernel (vmlinux)", &self.libraries, ", or name one in THECA_KERNEL");
        self.kernel.clone().map_or_else(search, Ok)
    }

    /// The initrd with the agent.
    pub fn initrd(&self) -> Result<PathBuf, NotInstalled> {
        let search = || {
            find(
                "initrd.cpio",
                "guest initrd (initrd.cpio)",
                &self.libraries,
                ", or name one in THECA_INITRD",
            )
        };
        self.initrd.clone().map_or_else(search, Ok)
    }
}

fn find(
    name: &str,
    what: &'static str,
    folders: &[PathBuf],
    hint: &'static str,
) -> Result<PathBuf, NotInstalled> {
    let mut looked = folders.to_vec();
    looked.dedup();
    match looked.iter().map(|folder| folder.join(name)).find(|path| path.exists()) {
        Some(path) => Ok(path),
        None => Err(NotInstalled { what, looked, hint }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_named_with_the_folders_that_were_searched() {
        let error =
            find("vmlinux", "guest kernel", &["/nonexistent/lib".into(), "/none".into()], "").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no guest kernel was found in /nonexistent/lib or /none: install it there"
        );
    }

    #[test]
    fn the_first_folder_that_has_the_file_wins() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("vmlinux"), "").unwrap();
        let looked = ["/nonexistent".into(), folder.path().into()];
        assert_eq!(find("vmlinux", "guest kernel", &looked, "").unwrap(), folder.path().join("vmlinux"));
    }
}
