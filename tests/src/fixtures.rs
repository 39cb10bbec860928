//! Things to run: made when the test host's root was made, or here, once per machine.

use std::fs::File;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};

/// Where those are that the test host (or `cargo xtask test` here) brings along.
fn given() -> PathBuf {
    std::env::var_os("THECA_TEST_FIXTURES").map_or_else(|| "/var/lib/theca-testbed".into(), PathBuf::from)
}

/// A minimal Debian as an OCI image layout.
pub fn debian_layout() -> PathBuf {
    given().join("debian")
}

/// The same Debian as a root file system folder.
pub fn debian_rootfs() -> PathBuf {
    given().join("bundle/rootfs")
}

/// The `config.json` that `runc spec` writes.
pub fn spec() -> PathBuf {
    given().join("bundle/config.json")
}

/// A root file system of busybox alone: small, for the many tests that are about the container and not about the image.
pub fn busybox_rootfs() -> PathBuf {
    once("busybox", |rootfs| {
        for folder in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
            std::fs::create_dir(rootfs.join(folder)).expect("failed to make a folder");
        }
        std::fs::set_permissions(rootfs.join("tmp"), PermissionsExt::from_mode(0o1777))
            .expect("failed to chmod");
        std::fs::copy("/bin/busybox", rootfs.join("bin/busybox")).expect("failed to copy /bin/busybox");
        let list = Command::new("/bin/busybox").arg("--list").output().expect("failed to start busybox");
        for applet in String::from_utf8_lossy(&list.stdout).lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", rootfs.join("bin").join(applet)).expect("failed to make a link");
        }
        let users = "root:x:0:0::/root:/bin/sh\ndaemon:x:1:1::/:/bin/sh\nalice:x:1000:1000::/tmp:/bin/sh\n";
        std::fs::write(rootfs.join("etc/passwd"), users).expect("failed to write passwd");
        std::fs::write(rootfs.join("etc/group"), "root:x:0:\ndaemon:x:1:\nalice:x:1000:\nvideo:x:44:alice\n")
            .expect("failed to write group");
    })
}

/// A folder made once per machine by whichever test comes first; the others wait for it.
pub(crate) fn once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let root = Path::new("/var/tmp/theca-tests");
    std::fs::create_dir_all(root).expect("failed to create the tests' folder");
    let finished = root.join(name);
    let lock = File::create(root.join(format!("{name}.lock"))).expect("failed to open a lock file");
    let _lock =
        Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error).expect("failed to lock");
    if !finished.exists() {
        let making = root.join(format!("{name}.making"));
        if making.exists() {
            std::fs::remove_dir_all(&making).expect("failed to remove what a dead test left");
        }
        std::fs::create_dir(&making).expect("failed to make a folder");
        make(&making);
        std::fs::rename(&making, &finished).expect("failed to publish a folder");
    }
    finished
}
