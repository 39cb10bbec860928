//! `cargo xtask build`: everything that ships, as an install tree.
//!
//! ```text
//! target/theca/bin/         theca, thecad, containerd-shim-theca-v2, theca-vmm
//! target/theca/lib/theca/   vmlinux (guest kernel), initrd.cpio (the agent and nothing else)
//! ```
//!
//! Another profile than `release` has a tree of its own, `target/theca-PROFILE`.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::cpio::Archive;
use crate::{command, kernel};

/// Host programs and the packages they come from.
const PROGRAMS: [(&str, &str); 4] = [
    ("theca-cli", "theca"),
    ("theca-daemon", "thecad"),
    ("theca-shim", "containerd-shim-theca-v2"),
    ("theca-vmm", "theca-vmm"),
];
const AGENT: (&str, &str) = ("theca-agent", "theca-agent");
/// What a guest may spend on it before anything runs.
const INITRD_MAX: u64 = 6 << 20;
const TARGET: &str = "x86_64-unknown-linux-gnu";

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    profile: Profile,
}

/// Which of the workspace's profiles to build with.
#[derive(clap::Args, Clone)]
pub struct Profile {
    /// The cargo profile: `release` ships, `quick` builds fast
    #[arg(long = "profile", env = "THECA_PROFILE", value_name = "NAME", default_value = "release")]
    name: String,
}

impl Profile {
    /// Lets a command that may call xtask again use the same.
    pub fn hand_on<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("THECA_PROFILE", &self.name)
    }

    /// Where cargo leaves the programs of this profile.
    fn folder(&self) -> PathBuf {
        // The one profile whose folder has another name.
        let name = if self.name == "dev" { "debug" } else { &self.name };
        target().join(TARGET).join(name)
    }
}

/// Programs, initrd and guest kernel, laid out as they are installed below a prefix.
pub struct InstallTree {
    folder: PathBuf,
}

impl InstallTree {
    /// The folder with `bin` and `lib` in it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Every file with its place on an installed system.
    pub fn files(&self) -> Result<Vec<(PathBuf, PathBuf)>> {
        let mut files = Vec::new();
        for folder in ["bin", "lib/theca"] {
            for entry in std::fs::read_dir(self.folder.join(folder))? {
                let entry = entry?;
                files.push((entry.path(), Path::new("/usr").join(folder).join(entry.file_name())));
            }
        }
        files.sort();
        Ok(files)
    }
}

/// Runs `cargo xtask build`.
pub fn run(args: Args) -> Result<()> {
    let tree = build(&args.profile)?;
    println!("{}", tree.folder().display());
    Ok(())
}

/// Builds the programs and the guest kernel, and lays out the tree.
pub fn build(profile: &Profile) -> Result<InstallTree> {
    let packages = PROGRAMS.iter().chain([&AGENT]).flat_map(|(package, _)| ["--package", package]);
    cargo_build(profile, packages)?;
    lay_out(profile, Some(kernel::build()?))
}

/// Lays out the tree from what was built before; says which parts are missing.
pub fn as_built(profile: &Profile) -> Result<InstallTree> {
    lay_out(profile, kernel::built()?)
}

/// Builds a program of the end-to-end tests and gives its path.
pub fn test_program(name: &str, profile: &Profile) -> Result<PathBuf> {
    cargo_build(profile, ["--package", "theca-tests", "--bin", name])?;
    Ok(profile.folder().join(name))
}

fn cargo_build<'a>(profile: &Profile, what: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let mut cargo = command::cargo("build");
    // cargo shows its own progress, on stderr.
    let status = cargo.args(["--target", TARGET, "--profile", &profile.name]).args(what).status();
    if !status.context("failed to start cargo")?.success() {
        bail!("the programs do not build");
    }
    Ok(())
}

fn lay_out(profile: &Profile, kernel: Option<PathBuf>) -> Result<InstallTree> {
    let built = profile.folder();
    let name = if profile.name == "release" { "theca".to_owned() } else { format!("theca-{}", profile.name) };
    let tree = InstallTree { folder: target().join(name) };
    let (programs, library) = (tree.folder.join("bin"), tree.folder.join("lib/theca"));
    std::fs::create_dir_all(&programs)?;
    std::fs::create_dir_all(&library)?;
    for (_, program) in PROGRAMS {
        publish(&built.join(program), &programs.join(program), copy)?;
    }
    publish(&built.join(AGENT.1), &library.join("initrd.cpio"), pack_initrd)?;
    match kernel {
        Some(kernel) => publish(&kernel, &library.join("vmlinux"), copy)?,
        None => eprintln!("  not built yet: the guest kernel (cargo xtask kernel)"),
    }
    Ok(tree)
}

/// Makes `path` from `source` aside and renames it into place, so that another run never sees half of it.
fn publish(source: &Path, path: &Path, make: fn(&Path, &Path) -> Result<()>) -> Result<()> {
    if !source.is_file() {
        eprintln!("  not built yet: {}", source.display());
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let aside = tempfile::Builder::new().prefix(".new-").tempdir_in(folder.parent().unwrap_or(folder))?;
    let file = aside.path().join("file");
    make(source, &file)?;
    std::fs::rename(&file, path).with_context(|| format!("failed to publish {}", path.display()))
}

fn copy(source: &Path, to: &Path) -> Result<()> {
    std::fs::copy(source, to).map(drop).with_context(|| format!("failed to copy {}", source.display()))
}

/// Packs the agent as the guest's init, with the folders it mounts on and the console the kernel opens for it.
fn pack_initrd(agent: &Path, to: &Path) -> Result<()> {
    let contents = std::fs::read(agent).with_context(|| format!("failed to read {}", agent.display()))?;
    let mut archive = Archive::new(BufWriter::new(File::create(to)?));
    for folder in ["dev", "proc", "sys"] {
        archive.folder(folder)?;
    }
    archive.character_device("dev/console", 5, 1)?;
    archive.file("init", 0o755, &contents)?;
    let size = archive.finish()?.get_ref().metadata()?.len();
    ensure!(
        size <= INITRD_MAX,
        "the initrd has {size} bytes, more than {INITRD_MAX}: is the agent stripped?"
    );
    Ok(())
}

/// Where cargo builds.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| command::workspace().join("target"), PathBuf::from)
}
