//! Where Theca's own files are on this machine: the VMM, the guest kernel and the initrd.
//!
//! They follow the keeper's executable (`bin/` beside `lib/theca/`) or the system's folders, and the environment for
//! tests. Nothing that a pod can set has a say.

use std::env;
use std::path::{Path, PathBuf};

/// The VMM's file name.
const VMM: &str = "theca-vmm";

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

/// The VMM program.
pub fn vmm() -> Result<PathBuf, NotInstalled> {
    let mut looked: Vec<_> = own_folder().into_iter().collect();
    looked.push("/usr/bin".into());
    find(VMM, "theca-vmm", looked, "")
}

/// The guest kernel, an ELF `vmlinux`.
pub fn kernel() -> Result<PathBuf, NotInstalled> {
    library_file("THECA_KERNEL", "vmlinux", "guest kernel (vmlinux)", ", or name one in THECA_KERNEL")
}

/// The initrd with the agent.
pub fn initrd() -> Result<PathBuf, NotInstalled> {
    library_file("THECA_INITRD", "initrd.cpio", "guest initrd (initrd.cpio)", ", or name one in THECA_INITRD")
}

fn library_file(
    variable: &str,
    name: &str,
    what: &'static str,
    hint: &'static str,
) -> Result<PathBuf, NotInstalled> {
    if let Some(path) = env::var_os(variable).filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let mut looked: Vec<_> = own_folder()
        .as_deref()
        .and_then(Path::parent)
        .map(|prefix| prefix.join("lib/theca"))
        .into_iter()
        .collect();
    looked.push("/usr/lib/theca".into());
    find(name, what, looked, hint)
}

fn find(
    name: &str,
    what: &'static str,
    mut looked: Vec<PathBuf>,
    hint: &'static str,
) -> Result<PathBuf, NotInstalled> {
    looked.dedup();
    match looked.iter().map(|folder| folder.join(name)).find(|path| path.exists()) {
        Some(path) => Ok(path),
        None => Err(NotInstalled { what, looked, hint }),
    }
}

fn own_folder() -> Option<PathBuf> {
    Some(env::current_exe().ok()?.parent()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_named_with_the_folders_that_were_searched() {
        let error =
            find("vmlinux", "guest kernel", vec!["/nonexistent/lib".into(), "/none".into()], "").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no guest kernel was found in /nonexistent/lib or /none: install it there"
        );
    }

    #[test]
    fn the_first_folder_that_has_the_file_wins() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("vmlinux"), "").unwrap();
        let looked = vec!["/nonexistent".into(), folder.path().into()];
        assert_eq!(find("vmlinux", "guest kernel", looked, "").unwrap(), folder.path().join("vmlinux"));
    }
}
