//! The guest kernel: from the fragments of `kernel-config/` to a cached `vmlinux`.
//!
//! [`build`] reads the fragments (`fragment.rs`), takes Debian's source (`source.rs`), configures, checks that each
//! symbol came out as asked (`survivors.rs`), compiles (`compile.rs`) and checks the image (`elf.rs`). The result is
//! cached under a hash of fragments, source package, compiler and build code; nothing is built when none of them changed.

mod compile;
mod elf;
mod fragment;
mod profile;
mod source;
mod survivors;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{apt, cache, command};
use compile::Tree;
use fragment::Fragments;
use source::Source;

/// Its name in the cache.
const ENTRY: &str = "kernel";

/// What `cargo xtask kernel` takes.
#[derive(clap::Args)]
pub struct Args {
    /// Only configure, and check that every symbol comes out as asked: half a minute, nothing is compiled
    #[arg(long)]
    check: bool,
    /// Boot the kernel on a software CPU and show which functions its boot consists of
    #[arg(long, conflicts_with = "check")]
    profile: bool,
}

/// Checks the configuration, or builds the kernel and prints where it is or how it boots.
pub fn run(args: &Args) -> Result<()> {
    if args.check {
        let asked = check()?;
        println!("all {asked} symbols come out as asked");
        return Ok(());
    }
    let kernel = build()?;
    if args.profile {
        return profile::run(&kernel);
    }
    println!("{}", kernel.display());
    Ok(())
}

/// The path of the guest kernel's `vmlinux`, built when no earlier build had the same inputs.
pub fn build() -> Result<PathBuf> {
    let (fragments, source) = inputs()?;
    let entry = cache::entry(ENTRY, key(&fragments, &source)?, |into| {
        let tree = into.join("tree");
        Tree::configure(&source, &fragments, &tree)?.compile(into)?;
        cache::remove(&tree)
    })?;
    Ok(entry.join("vmlinux"))
}

/// The same if an earlier build made it; nothing is compiled.
pub fn built() -> Result<Option<PathBuf>> {
    let (fragments, source) = inputs()?;
    Ok(cache::find(ENTRY, key(&fragments, &source)?)?.map(|entry| entry.join("vmlinux")))
}

fn key(fragments: &Fragments, source: &Source) -> Result<cache::Key> {
    let compiler = command::output(Command::new("gcc").arg("--version"))?;
    let key = cache::Key::new(1)
        .with(include_str!("compile.rs"))
        .with(include_str!("elf.rs"))
        .with(source.sha256())
        .with(compiler.lines().next().unwrap_or_default());
    // What is asked counts; a better reason for it compiles nothing.
    Ok(fragments.asked.iter().fold(key, |key, one| key.with(&one.symbol).with(one.value.to_string())))
}

/// Checks the configuration alone and tells how many symbols it asks for.
fn check() -> Result<usize> {
    let (fragments, source) = inputs()?;
    let root = cache::root()?;
    let folder = tempfile::Builder::new().prefix("kernel-check-").tempdir_in(&root);
    let folder = folder.with_context(|| format!("failed to create a folder in {}", root.display()))?;
    Tree::configure(&source, &fragments, &folder.path().join("tree"))?;
    Ok(fragments.asked.len())
}

fn inputs() -> Result<(Fragments, Source)> {
    let fragments = fragment::load(&command::workspace().join("kernel-config/fragments"))?;
    apt::install(&compile::TOOLS)?;
    Ok((fragments, Source::find()?))
}
