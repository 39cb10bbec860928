//! Images of a test's own making, by umoci: layers over busybox.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::fixtures;
use crate::invocation::Invocation;

/// An OCI image layout with one image.
pub struct Layout {
    folder: TempDir,
    layers: usize,
}

impl Layout {
    /// An image of one layer, busybox.
    pub fn busybox() -> Self {
        let folder = tempfile::Builder::new().prefix("layout-").tempdir_in("/var/tmp");
        let layout = Self { folder: folder.expect("failed to make a folder"), layers: 0 };
        umoci(&["init", "--layout", &layout.path().to_string_lossy()]);
        umoci(&["new", "--image", &layout.image()]);
        layout.insert(&[&fixtures::busybox_rootfs().to_string_lossy(), "/"]);
        layout
    }

    /// The layout's folder.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("layout")
    }

    /// The image as umoci and skopeo name it.
    pub fn image(&self) -> String {
        format!("{}:app", self.path().display())
    }

    /// The image's root as umoci unpacks it.
    pub fn unpacked(&self) -> PathBuf {
        let bundle = self.folder.path().join("bundle");
        umoci(&["unpack", "--image", &self.image(), &bundle.to_string_lossy()]);
        bundle.join("rootfs")
    }

    /// Adds a layer with what `script`, a shell script that runs in an empty folder, makes there.
    pub fn layer(&mut self, script: &str) {
        let folder = self.made_by(script);
        self.insert(&[&folder.to_string_lossy(), "/"]);
    }

    /// Adds a layer in which `target` has only what `script` makes: nothing of the layers below.
    pub fn opaque_layer(&mut self, target: &str, script: &str) {
        let folder = self.made_by(script);
        self.insert(&["--opaque", &folder.to_string_lossy(), target]);
    }

    /// Adds a layer that removes `target`.
    pub fn whiteout(&self, target: &str) {
        self.insert(&["--whiteout", target]);
    }

    /// Sets parts of the image's configuration, such as `--config.user alice`.
    pub fn configure(&self, flags: &[&str]) {
        umoci(&[&["config", "--image", &self.image()], flags].concat());
    }

    fn made_by(&mut self, script: &str) -> PathBuf {
        self.layers += 1;
        let folder = self.folder.path().join(format!("layer{}", self.layers));
        std::fs::create_dir(&folder).expect("failed to make a folder");
        run_in(&folder, script);
        folder
    }

    fn insert(&self, args: &[&str]) {
        umoci(&[&["insert", "--image", &self.image()], args].concat());
    }
}

fn umoci(args: &[&str]) {
    Invocation::new("umoci", args).run().success();
}

/// Runs a shell script in a folder.
pub fn run_in(folder: &Path, script: &str) {
    let script = format!("set -e; cd {}\n{script}", folder.display());
    Invocation::new("sh", &["-c", &script]).run().success();
}
