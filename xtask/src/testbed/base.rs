//! What every test host starts from, made once: a Debian root with the peers and tools that tests use, and a stock kernel.
//!
//! The root is one ext4 image that no run writes to (QEMU keeps a run's writes aside), so any number of runs share it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::apt::{self, Suite};
use crate::cache::{self, Key};
use crate::{command, image, progress};

/// Debian's testing suite: the one with a containerd that knows sandbox controllers (2.x).
const ROOT_SUITE: &str = "testing";

/// The peers that Theca is compared with, and what tests need to make and inspect images.
const ROOT_PACKAGES: [&str; 22] = [
    "attr",
    "busybox-static",
    "ca-certificates",
    "containerd",
    "crun",
    "curl",
    "docker-registry",
    "e2fsprogs",
    "erofs-utils",
    "iproute2",
    "jq",
    "kmod",
    "libcap2-bin",
    "openssl",
    "procps",
    "python3",
    "qemu-system-x86",
    "runc",
    "skopeo",
    "strace",
    "systemd",
    "umoci",
];

/// Debian 12's cloud kernel (6.1): its kvm-amd is known to work on QEMU's software AMD-V.
const KERNEL_SUITE: &str = "bookworm";
const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";

/// What must be loaded before the root can be mounted (ext4 is built in).
const ROOT_DRIVERS: [&str; 2] = ["virtio_pci", "virtio_blk"];

/// The image is sparse: this is what a run may grow to.
const ROOT_SIZE: &str = "12G";

/// The cached parts of a test host.
pub struct Base {
    folder: PathBuf,
}

impl Base {
    /// Finds the parts in the cache or makes them (some minutes, once).
    pub fn prepare() -> Result<Self> {
        apt::install(&["qemu-system-x86", "e2fsprogs", "kmod"])?;
        let image = image::debian()?;
        let key = Key::new(1)
            .with(ROOT_SUITE)
            .with(ROOT_PACKAGES.join(" "))
            .with(KERNEL_SUITE)
            .with(ROOT_SIZE)
            .with(image.file_name().unwrap_or_default().as_encoded_bytes());
        let folder = cache::entry("testbed", key, |folder| {
            let kernel = unpack_kernel(folder)?;
            make_root(folder, &kernel, &image)?;
            collect_drivers(folder, &kernel)?;
            cache::remove(&folder.join("kernel"))
        })?;
        Ok(Self { folder })
    }

    /// The test host's own kernel.
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// The root file system, never to be written.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root.ext4")
    }

    /// The version of the root's Python, such as 3.14: what Debian's testing suite had when the root was made.
    pub fn python(&self) -> Result<String> {
        let mut list = std::process::Command::new("/sbin/debugfs");
        let names = command::output(list.args(["-R", "ls -p /usr/lib"]).arg(self.root()))?;
        python_version(&names).context("the test host has no Python").map(str::to_owned)
    }

    /// A static busybox for the initrd.
    pub fn busybox(&self) -> PathBuf {
        self.folder.join("busybox")
    }

    /// The kernel modules that the initrd loads, in order.
    pub fn drivers(&self) -> Result<Vec<PathBuf>> {
        let order = self.folder.join("drivers/order");
        let names =
            std::fs::read_to_string(&order).with_context(|| format!("failed to read {}", order.display()))?;
        Ok(names.lines().map(|name| self.folder.join("drivers").join(name)).collect())
    }
}

/// Unpacks Debian's kernel package into `folder/kernel` and keeps its bzImage; gives its release.
fn unpack_kernel(folder: &Path) -> Result<String> {
    let lists = Suite::new(KERNEL_SUITE)?.lists()?;
    let package = lists.dependency(KERNEL_PACKAGE, "linux-image-")?;
    let unpacked = folder.join("kernel");
    std::fs::create_dir(&unpacked)?;
    for package in lists.download(&[&package], &unpacked)? {
        command::quietly(std::process::Command::new("dpkg").arg("-x").arg(&package).arg(&unpacked))?;
        std::fs::remove_file(package)?;
    }
    let release = package.trim_start_matches("linux-image-").to_owned();
    // Debian 13 and later put modules below /usr.
    let merged = unpacked.join("usr/lib/modules");
    if merged.is_dir() {
        std::fs::create_dir_all(unpacked.join("lib"))?;
        std::fs::rename(merged, unpacked.join("lib/modules"))?;
    }
    command::quietly(
        std::process::Command::new("/sbin/depmod").arg("-a").arg("-b").arg(&unpacked).arg(&release),
    )?;
    std::fs::copy(unpacked.join(format!("boot/vmlinuz-{release}")), folder.join("vmlinuz"))?;
    Ok(release)
}

/// Bootstraps the root, puts kernel modules and the example image in, and turns it into `folder/root.ext4`.
fn make_root(folder: &Path, kernel: &str, image: &Path) -> Result<()> {
    let root = folder.join("root");
    let quoted = |path: PathBuf| command::quote(&path.to_string_lossy());
    let fixtures = "\"$1\"/var/lib/theca-testbed";
    let hooks = [
        format!("mkdir -p {fixtures}/bundle/rootfs \"$1\"/usr/lib/modules"),
        format!("cp -a {} \"$1\"/usr/lib/modules/", quoted(folder.join("kernel/lib/modules").join(kernel))),
        format!("cp -a {} {fixtures}/debian", quoted(image.join("layout"))),
        format!("tar -xf {} -C {fixtures}/bundle/rootfs", quoted(image.join("root.tar"))),
        format!(
            "chroot \"$1\" runc spec --bundle /var/lib/theca-testbed/bundle && chown -R root: {fixtures}/debian"
        ),
        format!("cp \"$1\"/usr/bin/busybox {}", quoted(folder.join("busybox"))),
        "echo testbed > \"$1\"/etc/hostname; echo 127.0.0.1 localhost testbed > \"$1\"/etc/hosts".to_owned(),
    ];
    Suite::new(ROOT_SUITE)?.bootstrap(&root, &ROOT_PACKAGES, &hooks)?;
    progress::step("making the test host's disk image", || {
        let disk = folder.join("root.ext4");
        let mut mke2fs = command::as_root("mke2fs");
        mke2fs.args(["-q", "-t", "ext4", "-m", "0", "-O", "^has_journal", "-L", "testbed", "-d"]);
        command::quietly(mke2fs.arg(&root).arg(&disk).arg(ROOT_SIZE))?;
        let user = format!("{}:{}", nix::unistd::getuid(), nix::unistd::getgid());
        command::quietly(command::as_root("chown").arg(user).args([disk, folder.join("busybox")]))?;
        cache::remove(&root)
    })
}

/// Copies [`ROOT_DRIVERS`] and what they depend on to `folder/drivers`, and writes down the order to load them in.
fn collect_drivers(folder: &Path, kernel: &str) -> Result<()> {
    let modules = folder.join("kernel/lib/modules").join(kernel);
    let dependencies =
        std::fs::read_to_string(modules.join("modules.dep")).context("failed to read modules.dep")?;
    let drivers = folder.join("drivers");
    std::fs::create_dir(&drivers)?;
    let mut order = String::new();
    for path in load_order(&dependencies, &ROOT_DRIVERS)? {
        let name = path.rsplit('/').next().unwrap_or(path);
        std::fs::copy(modules.join(path), drivers.join(name))
            .with_context(|| format!("failed to copy {path}"))?;
        order.push_str(name);
        order.push('\n');
    }
    Ok(std::fs::write(drivers.join("order"), order)?)
}

/// The version in the name of Python's folder. debugfs writes an entry as `/inode/mode/uid/gid/name/size/`.
fn python_version(entries: &str) -> Option<&str> {
    let names = entries.lines().filter_map(|line| line.split('/').nth(5));
    names.filter_map(|name| name.strip_prefix("python")).find(|version| version.contains('.'))
}

/// The module files to load for `wanted`, each after all that it depends on. `modules.dep` lists a module's
/// dependencies, direct and indirect, in the reverse of the order to load them in.
fn load_order<'a>(modules_dep: &'a str, wanted: &[&str]) -> Result<Vec<&'a str>> {
    let mut order: Vec<&str> = Vec::new();
    for module in wanted {
        let file = format!("/{module}.ko");
        let line = modules_dep
            .lines()
            .find_map(|line| line.split_once(':').filter(|(path, _)| path.ends_with(&file)));
        let (path, dependencies) = line.with_context(|| format!("the kernel has no module {module}"))?;
        for needed in dependencies.split_whitespace().rev().chain([path]) {
            if !order.contains(&needed) {
                order.push(needed);
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_loads_after_what_it_depends_on() {
        let modules_dep = "k/virtio_ring.ko:\n\
                           k/virtio.ko: k/virtio_ring.ko\n\
                           k/virtio_pci.ko: k/virtio.ko k/virtio_ring.ko\n\
                           k/virtio_blk.ko: k/virtio.ko k/virtio_ring.ko\n";
        let order = load_order(modules_dep, &["virtio_pci", "virtio_blk"]).unwrap();
        assert_eq!(order, ["k/virtio_ring.ko", "k/virtio.ko", "k/virtio_pci.ko", "k/virtio_blk.ko"]);
        assert!(load_order(modules_dep, &["zram"]).is_err());
    }

    #[test]
    fn pythons_version_is_in_its_folders_name() {
        let entries = "/12/040755/0/0/.//\n/17/040755/0/0/python3//\n/2386/040755/0/0/python3.14//\n";
        assert_eq!(python_version(entries), Some("3.14"));
        assert_eq!(python_version("/12/040755/0/0/ssl//\n"), None);
    }
}
