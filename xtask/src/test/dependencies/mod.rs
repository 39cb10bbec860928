//! What may come into the tree, as `deny.toml` says: licences and sources of every package, from what cargo itself knows of
//! them, so that this check needs nothing installed. cargo-deny adds bans and security advisories where it is there.

mod licence;

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::here::check;
use super::tally::Tally;
use crate::command;

/// What `deny.toml` allows without a word on sources: cargo's own registry.
const CARGOS_REGISTRY: &str = "https://github.com/rust-lang/crates.io-index";

const NOT_INSTALLED: &str = "advisories of dependencies: cargo-deny is not installed (`cargo install --locked cargo-deny`; its database comes over the network)";
const NO_DATABASE: &str = "advisories of dependencies: the advisory database cannot be reached from this machine, or is out of order";

/// The parts of `deny.toml` that are checked here.
#[derive(Deserialize)]
struct Rules {
    licenses: Licences,
    #[serde(default)]
    sources: Sources,
}

#[derive(Deserialize)]
struct Licences {
    allow: BTreeSet<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Option<Vec<String>>,
    #[serde(default)]
    allow_git: Vec<String>,
}

/// What cargo says.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    /// Absent: one of ours.
    source: Option<String>,
    license: Option<String>,
}

/// Checks all that can be checked on this machine.
pub fn run() -> Result<Tally> {
    let mut tally = Tally::default().ended(licences_and_sources()?);
    if !installed() {
        tally += Tally::skipped(NOT_INSTALLED);
        return Ok(tally);
    }
    tally += check(cargo_deny().args(["check", "bans", "licenses", "sources"]))?;
    tally += match cargo_deny().args(["fetch", "db"]).status() {
        Ok(status) if status.success() => {
            check(cargo_deny().args(["check", "--disable-fetch", "advisories"]))?
        }
        _ => Tally::skipped(NO_DATABASE),
    };
    Ok(tally)
}

fn licences_and_sources() -> Result<bool> {
    let path = command::workspace().join("deny.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    let rules = toml::from_str(&text).with_context(|| format!("{} is not as expected", path.display()))?;
    let metadata = command::output(command::cargo("metadata").args(["--format-version", "1"]))?;
    let metadata: Metadata = serde_json::from_str(&metadata).context("cargo metadata wrote no JSON")?;
    if metadata.packages.is_empty() {
        bail!("cargo metadata knows no packages");
    }
    let complaints: Vec<String> =
        metadata.packages.iter().flat_map(|package| complaints(package, &rules)).collect();
    complaints.iter().for_each(|complaint| println!("{complaint}"));
    println!("licences and sources of {} packages: {} complaints", metadata.packages.len(), complaints.len());
    Ok(complaints.is_empty())
}

/// What is wrong with a package.
fn complaints(package: &Package, rules: &Rules) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut complain =
        |what: String| complaints.push(format!("{} {}: {what}", package.name, package.version));
    match &package.license {
        None => complain("names no licence".into()),
        Some(licence) => match licence::allows(licence, &rules.licenses.allow) {
            Ok(true) => {}
            Ok(false) => complain(format!("licence {licence:?} is not allowed by deny.toml")),
            Err(error) => complain(format!("licence {licence:?}: {error}")),
        },
    }
    if let Some(source) = package.source.as_deref().filter(|source| !from_allowed(source, &rules.sources)) {
        complain(format!("source {source} is not allowed by deny.toml"));
    }
    complaints
}

/// `registry+URL`, or `git+URL?branch=…#commit`.
fn from_allowed(source: &str, rules: &Sources) -> bool {
    if let Some(url) = source.strip_prefix("registry+").or(source.strip_prefix("sparse+")) {
        return match &rules.allow_registry {
            Some(allowed) => allowed.iter().any(|registry| registry == url),
            None => url == CARGOS_REGISTRY,
        };
    }
    let url = source.strip_prefix("git+").and_then(|url| url.split(['?', '#']).next());
    url.is_some_and(|url| rules.allow_git.iter().any(|git| git == url))
}

fn installed() -> bool {
    let version = cargo_deny().arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

fn cargo_deny() -> Command {
    let mut deny = Command::new("cargo-deny");
    deny.current_dir(command::workspace()).arg("--all-features").stdin(Stdio::null());
    deny
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        toml::from_str("[licenses]\nallow = [\"MIT\"]\n[sources]\nallow-git = [\"https://git.example/kept\"]")
            .unwrap()
    }

    fn words(licence: Option<&str>, source: Option<&str>) -> Vec<String> {
        let text = |text: &str| text.to_owned();
        let package = Package {
            name: text("p"),
            version: text("1"),
            source: source.map(text),
            license: licence.map(text),
        };
        complaints(&package, &rules())
    }

    #[test]
    fn packages_of_allowed_licence_and_source_are_fine() {
        for source in [
            None,
            Some("registry+https://github.com/rust-lang/crates.io-index"),
            Some("git+https://git.example/kept?branch=main#abc"),
        ] {
            assert!(words(Some("MIT OR GPL-3.0-only"), source).is_empty(), "{source:?}");
        }
    }

    #[test]
    fn others_are_named() {
        assert_eq!(words(None, None), ["p 1: names no licence"]);
        assert_eq!(
            words(Some("GPL-3.0-only"), None),
            ["p 1: licence \"GPL-3.0-only\" is not allowed by deny.toml"]
        );
        assert!(words(Some("MIT AND ("), None)[0].contains("cannot be read"));
        for source in
            ["registry+https://elsewhere.example/index", "git+https://git.example/other#abc", "new+x"]
        {
            assert_eq!(
                words(Some("MIT"), Some(source)),
                [format!("p 1: source {source} is not allowed by deny.toml")]
            );
        }
    }

    #[test]
    fn this_trees_rules_are_read() {
        let text = fs::read_to_string(command::workspace().join("deny.toml")).unwrap();
        assert!(toml::from_str::<Rules>(&text).unwrap().licenses.allow.contains("Apache-2.0"));
    }
}
