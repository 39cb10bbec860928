//! OCI bundles, run by runc and by Theca and compared.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixtures;
use crate::invocation::{Invocation, Output};
use crate::theca::Theca;

/// A shell's script for a container of [`Bundle::trusted`]. It overwrites the agent's program with breakpoints, as no
/// container may without CAP_SYS_PTRACE: the agent dies at its next step.
pub const DESTROY_THE_AGENT: &str = r#"
    while read range mode rest; do
        case $mode in r-x*) break;; esac
    done < /proc/1/maps
    start=$((0x${range%-*})) end=$((0x${range#*-}))
    tr '\0' '\314' < /dev/zero | head -c $((end - start)) |
        dd of=/proc/1/mem bs=4096 seek=$((start / 4096)) conv=notrunc"#;

/// How the names of bundles' folders begin, and so the names of runc's containers.
pub(crate) const NAME_PREFIX: &str = "bundle-";

/// A bundle whose `config.json` is written when it is run.
pub struct Bundle {
    folder: TempDir,
    /// The runtime specification: what `runc spec` writes, without a terminal. Change it as the test needs.
    pub config: Value,
}

impl Bundle {
    /// Runs `args` on a root of busybox alone, read-only.
    pub fn new(args: &[&str]) -> Self {
        Self::on(&fixtures::busybox_rootfs(), args)
    }

    /// Runs `args` on a root of Debian, read-only.
    pub fn debian(args: &[&str]) -> Self {
        Self::on(&fixtures::debian_rootfs(), args)
    }

    /// The same on busybox, and the container sees the agent and may change it.
    pub fn trusted(args: &[&str]) -> Self {
        let mut bundle = Self::new(args);
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().expect("runc lists namespaces");
        namespaces.retain(|namespace| namespace["type"] != "pid");
        for set in ["bounding", "effective", "permitted"] {
            let set = bundle.config["process"]["capabilities"][set].as_array_mut();
            set.expect("runc lists capabilities").push(json!("CAP_SYS_PTRACE"));
        }
        bundle
    }

    fn on(rootfs: &Path, args: &[&str]) -> Self {
        let text = std::fs::read(fixtures::spec()).expect("failed to read the specification");
        let mut config: Value = serde_json::from_slice(&text).expect("runc writes JSON");
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(args);
        config["root"] = json!({ "path": rootfs, "readonly": true });
        // Left out by a `runc spec` that runs where no cgroup is mounted.
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("runc lists namespaces");
        if !namespaces.contains(&json!({ "type": "cgroup" })) {
            namespaces.push(json!({ "type": "cgroup" }));
        }
        let folder = tempfile::Builder::new().prefix(NAME_PREFIX).tempdir_in("/var/tmp");
        Self { folder: folder.expect("failed to make a folder"), config }
    }

    /// The bundle's folder, with `config.json` as it is now.
    pub fn path(&self) -> &Path {
        std::fs::write(self.folder.path().join("config.json"), self.config.to_string())
            .expect("failed to write");
        self.folder.path()
    }

    /// Runs it under runc.
    pub fn runc(&self) -> Output {
        let name =
            self.folder.path().file_name().expect("a folder has a name").to_string_lossy().into_owned();
        Invocation::new("runc", &["run", "--bundle", &self.path().to_string_lossy(), &name]).run()
    }

    /// Runs it under Theca.
    pub fn theca(&self, theca: &Theca) -> Output {
        theca.run(&["--rm", "--bundle", &self.path().to_string_lossy()])
    }

    /// Asserts that the container has the same exit code and stdout under both, and gives Theca's output.
    #[track_caller]
    pub fn same_under_both(&self, theca: &Theca) -> Output {
        let (expected, found) = (self.runc(), self.theca(theca));
        assert_eq!(
            (found.code, found.stdout.as_str()),
            (expected.code, expected.stdout.as_str()),
            "Theca (left) and runc (right) differ\n{found}\n{expected}"
        );
        found
    }
}
