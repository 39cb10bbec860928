//! Where Theca's other parts are: the keeper's program, the guest's kernel and initrd.

use std::env;
use std::path::{Path, PathBuf};

/// The keeper, under the name by which containerd finds it.
const KEEPER: &str = "containerd-shim-theca-v2";
/// Where a package puts the guest's files.
const INSTALLED: &str = "/usr/lib/theca";

/// A part is not where it is looked for.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// No keeper.
    #[error("{KEEPER} is neither beside theca nor on the PATH; install it there, or name it in THECA_KEEPER")]
    NoKeeper,
    /// No guest kernel or initrd.
    #[error(
        "the guest's {what} is missing: {file} is neither in {INSTALLED} nor in {beside}; install it, or name it in {variable}"
    )]
    NoGuestFile {
        /// `kernel` or `initrd`.
        what: &'static str,
        /// The file's name.
        file: &'static str,
        /// The folder beside this program that was looked in.
        beside: PathBuf,
        /// The variable that overrides.
        variable: &'static str,
    },
    /// A variable names a file that is not there.
    #[error("{variable} names {path}, which is not a file; correct or unset it")]
    NotAFile {
        /// The variable.
        variable: &'static str,
        /// Its value.
        path: PathBuf,
    },
}

/// The keeper's program: `THECA_KEEPER`, else beside this program, else on the PATH.
pub fn keeper_program() -> Result<PathBuf, ProgramError> {
    if let Some(path) = overridden("THECA_KEEPER")? {
        return Ok(path);
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    own_folder()
        .into_iter()
        .chain(env::split_paths(&folders))
        .map(|folder| folder.join(KEEPER))
        .find(|path| path.is_file())
        .ok_or(ProgramError::NoKeeper)
}

/// The guest's kernel and initrd as the keeper will find them: `THECA_KERNEL` and `THECA_INITRD`, else the installed
/// ones, else those in `../lib/theca` of this program.
pub fn kernel_and_initrd() -> Result<(PathBuf, PathBuf), ProgramError> {
    Ok((
        guest_file("kernel", "vmlinux", "THECA_KERNEL")?,
        guest_file("initrd", "initrd.cpio", "THECA_INITRD")?,
    ))
}

fn guest_file(
    what: &'static str,
    file: &'static str,
    variable: &'static str,
) -> Result<PathBuf, ProgramError> {
    if let Some(path) = overridden(variable)? {
        return Ok(path);
    }
    let beside = own_folder().map(|folder| folder.join("../lib/theca")).unwrap_or_default();
    let places = [Path::new(INSTALLED).join(file), beside.join(file)];
    places.into_iter().find(|path| path.is_file()).ok_or(ProgramError::NoGuestFile {
        what,
        file,
        beside,
        variable,
    })
}

fn overridden(variable: &'static str) -> Result<Option<PathBuf>, ProgramError> {
    let Some(path) = env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from) else {
        return Ok(None);
    };
    if path.is_file() { Ok(Some(path)) } else { Err(ProgramError::NotAFile { variable, path }) }
}

fn own_folder() -> Option<PathBuf> {
    env::current_exe().ok()?.parent().map(Path::to_owned)
}
