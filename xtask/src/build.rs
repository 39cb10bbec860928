//! `cargo xtask build`: everything that ships, as an install tree.
//!
//! ```text
//! target/theca/bin/         theca, containerd-shim-theca-v2, theca-vmm
//! target/theca/lib/theca/   vmlinux (guest kernel), initrd.cpio (the agent and nothing else)
//! ```
//!
//! Another profile than `release` has a tree of its own, `target/theca-PROFILE`.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::cpio::Archive;

/// Host programs and the packages they come from.
const PROGRAMS: [(&str, &str); 3] =
    [("theca-cli", "theca"), ("theca-shim", "containerd-shim-theca-v2"), ("theca-vmm", "theca-vmm")];
const AGENT: (&str, &str) = ("theca-agent", "theca-agent");
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

/// Builds the programs and lays out the tree.
pub fn build(profile: &Profile) -> Result<InstallTree> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(command::workspace()).args([
        "build",
        "--locked",
        "--target",
        TARGET,
        "--profile",
        &profile.name,
    ]);
    for (package, _) in PROGRAMS.iter().chain([&AGENT]) {
        cargo.args(["--package", package]);
    }
    // cargo shows its own progress, on stderr.
    if !cargo.status().context("failed to start cargo")?.success() {
        bail!("the programs do not build");
    }
    lay_out(profile)
}

/// Lays out the tree from programs that were built before; says which are missing.
pub fn as_built(profile: &Profile) -> Result<InstallTree> {
    lay_out(profile)
}

fn lay_out(profile: &Profile) -> Result<InstallTree> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| command::workspace().join("target"), PathBuf::from);
    let built = target.join(TARGET).join(if profile.name == "dev" { "debug" } else { &profile.name });
    let name = if profile.name == "release" { "theca".to_owned() } else { format!("theca-{}", profile.name) };
    let tree = InstallTree { folder: target.join(name) };
    let (programs, library) = (tree.folder.join("bin"), tree.folder.join("lib/theca"));
    std::fs::create_dir_all(&programs)?;
    std::fs::create_dir_all(&library)?;
    for (_, program) in PROGRAMS {
        publish(&programs.join(program), |aside| copy(&built.join(program), aside))?;
    }
    publish(&library.join("initrd.cpio"), |aside| pack_initrd(&built.join(AGENT.1), aside))?;
    Ok(tree)
}

/// Makes a file aside and renames it into place, so that another run never sees half of it. `make` answers false when
/// there is nothing to make it from.
fn publish(path: &Path, make: impl FnOnce(&Path) -> Result<bool>) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let aside = tempfile::Builder::new().prefix(".new-").tempdir_in(folder.parent().unwrap_or(folder))?;
    let file = aside.path().join("file");
    if make(&file)? {
        std::fs::rename(&file, path).with_context(|| format!("failed to publish {}", path.display()))?;
    }
    Ok(())
}

fn copy(program: &Path, to: &Path) -> Result<bool> {
    if !program.is_file() {
        eprintln!("  not built yet: {}", program.display());
        return Ok(false);
    }
    std::fs::copy(program, to).with_context(|| format!("failed to copy {}", program.display()))?;
    Ok(true)
}

/// Packs the agent as the guest's init, with the folders it mounts on and the console the kernel opens for it.
fn pack_initrd(agent: &Path, to: &Path) -> Result<bool> {
    if !agent.is_file() {
        eprintln!("  not built yet: {}", agent.display());
        return Ok(false);
    }
    let contents = std::fs::read(agent).with_context(|| format!("failed to read {}", agent.display()))?;
    let mut archive = Archive::new(BufWriter::new(File::create(to)?));
    for folder in ["dev", "proc", "sys"] {
        archive.folder(folder)?;
    }
    archive.character_device("dev/console", 5, 1)?;
    archive.file("init", 0o755, &contents)?;
    archive.finish()?;
    Ok(true)
}
