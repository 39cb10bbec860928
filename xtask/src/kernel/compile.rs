//! From source tree and fragments to a stripped `vmlinux`: configure, check, compile, check again.
//!
//! This file's text is part of the cache key: a change here builds the kernel anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::fragment::Fragments;
use super::survivors::{self, Config};
use super::{elf, source::Source};
use crate::{command, progress};

/// Debian packages that the build calls for.
pub const TOOLS: [&str; 7] =
    ["build-essential", "bc", "bison", "flex", "libelf-dev", "libssl-dev", "xz-utils"];

/// The most that a loaded kernel may take of a guest's memory.
const LOADED_LIMIT: u64 = 16 << 20;

/// An unpacked and configured source tree.
pub struct Tree(PathBuf);

impl Tree {
    /// Unpacks `source` into `folder`, configures it by the fragments, and refuses a configuration that is not as asked.
    pub fn configure(source: &Source, fragments: &Fragments, folder: &Path) -> Result<Tree> {
        fs::create_dir(folder).with_context(|| format!("failed to create {}", folder.display()))?;
        progress::step(&format!("unpacking Linux {}", source.version()), || source.unpack(folder))?;
        let tree = Tree(folder.to_owned());
        let asked = folder.join("theca.config");
        fs::write(&asked, &fragments.text).with_context(|| format!("failed to write {}", asked.display()))?;
        // All that the fragments do not name gets the answer "no".
        command::quietly(tree.make().arg("allnoconfig").env("KCONFIG_ALLCONFIG", &asked))?;
        command::quietly(tree.make().arg("olddefconfig"))?;
        tree.check(fragments)?;
        Ok(tree)
    }

    fn check(&self, fragments: &Fragments) -> Result<()> {
        let config = Config::parse(&self.read(".config")?);
        let lost = survivors::lost(&fragments.asked, &config, &survivors::known_symbols(&self.0)?);
        if lost.is_empty() {
            return Ok(());
        }
        let list: Vec<String> = lost.iter().map(|one| format!("  {one}")).collect();
        bail!("{} symbols of the kernel did not come out as asked:\n{}", list.len(), list.join("\n"))
    }

    /// Compiles, and puts `vmlinux`, its `System.map` and the `config` it was built from into `into`.
    pub fn compile(&self, into: &Path) -> Result<()> {
        let jobs = std::thread::available_parallelism().map_or(1, |count| count.get());
        progress::step("compiling the guest kernel (7 minutes on two cores)", || {
            command::quietly(self.make().arg(format!("-j{jobs}")).arg("vmlinux"))
        })?;
        let built = self.0.join("vmlinux");
        let bytes = fs::read(&built).with_context(|| format!("failed to read {}", built.display()))?;
        let image = elf::Image::parse(&bytes)?;
        let shape = image.shape()?;
        ensure!(
            shape.loaded <= LOADED_LIMIT,
            "the kernel takes {} KiB of a guest's memory, {} are allowed: trim kernel-config",
            shape.loaded >> 10,
            LOADED_LIMIT >> 10
        );
        let packed = into.join("vmlinux");
        fs::write(&packed, image.packed()?)
            .with_context(|| format!("failed to write {}", packed.display()))?;
        // For whoever asks how it was made, or what a bare address in its log means.
        for (from, to) in [(".config", "config"), ("System.map", "System.map")] {
            let to = into.join(to);
            fs::write(&to, self.read(from)?).with_context(|| format!("failed to write {}", to.display()))?;
        }
        Ok(())
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = self.0.join(name);
        fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
    }

    fn make(&self) -> Command {
        let mut make = Command::new("make");
        make.arg("-s").arg("-C").arg(&self.0).arg("ARCH=x86_64");
        // The same inputs give the same bytes, whoever builds and whenever.
        make.env("KBUILD_BUILD_TIMESTAMP", "@0")
            .env("KBUILD_BUILD_USER", "theca")
            .env("KBUILD_BUILD_HOST", "theca");
        // What cargo passes to its children is not meant for this make.
        make.env_remove("MAKEFLAGS").env_remove("MFLAGS").env("LC_ALL", "C");
        make
    }
}
