//! Debian packages: installing what this machine lacks, and fetching from other suites than the machine's own.
//!
//! Other suites come from the mirror that the machine's own apt is configured with, through lists of their own in the
//! cache: the machine's apt is neither changed nor asked to know them. apt verifies signatures and hashes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cache, command, progress};

/// Where Debian keeps the keys of its archive (12 and 13 differ in the suffix).
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// Installs those of `packages` that are missing, as root or through sudo.
pub fn install(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    progress::step(&format!("installing {}", missing.join(", ")), || {
        let install = || {
            let mut install = command::as_root("env");
            install.args([
                "DEBIAN_FRONTEND=noninteractive",
                "apt-get",
                "install",
                "-q",
                "-y",
                "--no-install-recommends",
            ]);
            command::quietly(install.args(&missing))
        };
        // Package lists that are there may be good enough; ones that are old or missing show by a failure.
        install().or_else(|_| {
            command::quietly(command::as_root("apt-get").args(["-q", "update"]))?;
            install()
        })
    })
}

fn is_installed(package: &str) -> bool {
    command::output(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}

/// A Debian suite on this machine's mirror.
pub struct Suite {
    name: String,
    mirror: String,
    keyring: &'static str,
}

impl Suite {
    /// Names a suite; nothing is fetched yet.
    pub fn new(name: &str) -> Result<Self> {
        let keyring = KEYRINGS.into_iter().find(|keyring| Path::new(keyring).is_file());
        let keyring =
            keyring.context("the keys of Debian's archive are missing: install debian-archive-keyring")?;
        Ok(Self { name: name.to_owned(), mirror: mirror()?, keyring })
    }

    /// The line that names this suite in an apt source list.
    pub fn source_line(&self, kind: &str) -> String {
        format!("{kind} [signed-by={}] {} {} main", self.keyring, self.mirror, self.name)
    }

    /// Fetches this suite's package lists. They last until [`Lists`] is dropped.
    pub fn lists(&self) -> Result<Lists> {
        std::fs::create_dir_all(cache::root()?)?;
        let folder = tempfile::Builder::new().prefix("apt-").tempdir_in(cache::root()?)?;
        std::fs::create_dir_all(folder.path().join("lists/partial"))?;
        let sources = format!("{}\n{}\n", self.source_line("deb"), self.source_line("deb-src"));
        std::fs::write(folder.path().join("sources.list"), sources)?;
        let lists = Lists { folder };
        progress::step(&format!("reading Debian {}'s package lists", self.name), || {
            command::quietly(lists.apt("apt-get").args(["-q", "update"]))
        })?;
        Ok(lists)
    }

    /// Makes a Debian root of this suite in `target` (a folder, or a file ending in .tar), running `hooks` on it.
    ///
    /// A hook is a shell snippet that gets the root's folder as `$1`.
    pub fn bootstrap(&self, target: &Path, packages: &[&str], hooks: &[String]) -> Result<()> {
        install(&["mmdebstrap", "debian-archive-keyring"])?;
        let mut bootstrap = command::as_root("mmdebstrap");
        bootstrap.args(["--quiet", "--mode=root", "--variant=minbase"]);
        bootstrap.arg(format!("--keyring={}", self.keyring));
        for (key, value) in options() {
            bootstrap.arg(format!("--aptopt={key} \"{value}\""));
        }
        if !packages.is_empty() {
            bootstrap.arg(format!("--include={}", packages.join(",")));
        }
        for hook in hooks {
            bootstrap.arg(format!("--customize-hook={hook}"));
        }
        bootstrap.arg(&self.name).arg(target).arg(self.source_line("deb"));
        let title = format!("making a Debian {} root from packages", self.name);
        progress::step(&title, || command::quietly(&mut bootstrap))
    }
}

/// A suite's package lists, fetched.
pub struct Lists {
    folder: tempfile::TempDir,
}

impl Lists {
    /// Downloads binary packages into `into` and gives their paths, in no order.
    pub fn download(&self, packages: &[&str], into: &Path) -> Result<Vec<PathBuf>> {
        progress::step(&format!("fetching {}", packages.join(", ")), || {
            command::quietly(self.apt("apt-get").args(["-q", "download"]).args(packages).current_dir(into))
        })?;
        let fetched = std::fs::read_dir(into)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        Ok(fetched.into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "deb")).collect())
    }

    /// The first package that `package` depends on whose name starts with `prefix`: what a meta package stands for.
    pub fn dependency(&self, package: &str, prefix: &str) -> Result<String> {
        let shown = command::output(self.apt("apt-cache").args(["depends", package]))?;
        let dependencies = shown.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        match dependencies.into_iter().find(|name| name.starts_with(prefix)) {
            Some(name) => Ok(name.to_owned()),
            None => bail!("{package} depends on nothing named {prefix}…:\n{shown}"),
        }
    }

    /// A field of `package` in the signed index, of the version that [`Lists::download`] fetches.
    pub fn field(&self, package: &str, field: &str) -> Result<String> {
        let shown = command::output(self.apt("apt-cache").args(["show", "--no-all-versions", package]))?;
        let value = |line: &str| Some(line.strip_prefix(field)?.strip_prefix(": ")?.trim().to_owned());
        shown.lines().find_map(value).with_context(|| format!("apt shows no {field} of {package}"))
    }

    /// One of apt's programs, made to see these lists and nothing of the machine's own configuration of sources.
    fn apt(&self, program: &str) -> Command {
        let folder = self.folder.path().display();
        let mut command = Command::new(program);
        let mut set = |option: String| {
            command.arg("-o").arg(option);
        };
        set(format!("Dir::Etc::sourcelist={folder}/sources.list"));
        set("Dir::Etc::sourceparts=/dev/null".into());
        set("Dir::Etc::preferences=/dev/null".into());
        set("Dir::Etc::preferencesparts=/dev/null".into());
        set(format!("Dir::State::Lists={folder}/lists"));
        // Ours is a private folder, closed to the user that apt would switch to.
        set("APT::Sandbox::User=root".into());
        set("Acquire::Languages=none".into());
        set("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into());
        for (key, value) in options() {
            set(format!("{key}={value}"));
        }
        command
    }
}

/// What every use of a suite asks of apt. A frozen mirror's testing suite is past its `Valid-Until`.
fn options() -> Vec<(String, String)> {
    let mut options = vec![("Acquire::Check-Valid-Until".to_owned(), "false".to_owned())];
    for scheme in ["http", "https"] {
        let key = format!("Acquire::{scheme}::Proxy");
        let proxy =
            command::output(Command::new("apt-config").args(["shell", "P", &key])).unwrap_or_default();
        if let Some(proxy) = proxy.trim().strip_prefix("P='").and_then(|rest| rest.strip_suffix('\'')) {
            options.push((key, proxy.to_owned()));
        }
    }
    options
}

/// The address that this machine fetches its own Debian release from.
fn mirror() -> Result<String> {
    let targets = ["indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"];
    let known = command::output(Command::new("apt-get").args(targets))?;
    let os_release = std::fs::read_to_string("/etc/os-release").context("failed to read /etc/os-release")?;
    let codename =
        os_release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or("stable");
    find_mirror(&known, codename.trim_matches('"')).with_context(|| {
        format!("apt's configuration names no Debian archive for {codename}; it knows:\n{known}")
    })
}

fn find_mirror(targets: &str, codename: &str) -> Option<String> {
    let releases = [codename, "stable", "oldstable", "testing", "unstable", "sid"];
    let find = |wanted: &str| {
        targets.lines().find_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [release, "main", address] if release == wanted => Some(address.trim_end_matches('/').to_owned()),
            _ => None,
        })
    };
    releases.into_iter().find_map(find)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_one_of_the_machines_own_release() {
        let targets = "bookworm-security main http://mirror.test/security/\n\
                       bookworm main http://mirror.test/debian/\n\
                       nodistro main http://else.test/\n";
        assert_eq!(find_mirror(targets, "bookworm").as_deref(), Some("http://mirror.test/debian"));
        assert_eq!(find_mirror(targets, "trixie"), None);
    }
}
