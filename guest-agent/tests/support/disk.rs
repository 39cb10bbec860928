//! A loop device that looks to the agent like a virtio disk.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the disk reports as its serial number.
pub const SERIAL: &str = "busybox";
/// The same of the disk to write to.
pub const SCRATCH: &str = "scratch";

/// A loop device, detached when it is dropped.
pub struct Disk {
    device: PathBuf,
}

impl Disk {
    /// Makes disk 0 of the agent whose folder is `folder`: an ext4 with busybox and a few files.
    pub fn busybox(folder: &Path) -> Result<Self, String> {
        let root = folder.join("image");
        for name in ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "home/ann"] {
            fs::create_dir_all(root.join(name)).map_err(|error| error.to_string())?;
        }
        let write =
            |name: &str, text: &str| fs::write(root.join(name), text).map_err(|error| error.to_string());
        write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001:Ann:/home/ann:/bin/sh\n")?;
        write("etc/group", "root:x:0:\nann:x:1001:\naudio:x:29:ann\n")?;
        write("etc/plain", "not a program\n")?;
        fs::hard_link(root.join("etc/plain"), root.join("etc/linked")).map_err(|error| error.to_string())?;
        // As images with systemd have it.
        symlink("../run/resolve/conf", root.join("etc/resolv.conf")).map_err(|error| error.to_string())?;
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        let busybox = busybox.ok_or("there is no busybox: apt-get install busybox-static")?;
        fs::copy(busybox, root.join("bin/busybox")).map_err(|error| error.to_string())?;
        run(Command::new("chroot").arg(&root).args(["/bin/busybox", "true"]))
            .map_err(|error| format!("{busybox} is not static: apt-get install busybox-static ({error})"))?;
        let applets = run(Command::new(root.join("bin/busybox")).arg("--list"))?;
        for applet in applets.lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", root.join("bin").join(applet)).map_err(|error| error.to_string())?;
        }
        let image = folder.join("image.ext4");
        run(Command::new("mke2fs").args(["-q", "-t", "ext4", "-d"]).arg(&root).arg(&image).arg("16M"))?;
        Self::attach(folder, &image, "vda", SERIAL, &["--read-only"])
    }

    /// Makes disk 1 of the agent: an empty ext4.
    pub fn scratch(folder: &Path) -> Result<Self, String> {
        let image = folder.join("scratch.ext4");
        run(Command::new("mke2fs").args(["-q", "-t", "ext4"]).arg(&image).arg("16M"))?;
        Self::attach(folder, &image, "vdb", SCRATCH, &[])
    }

    fn attach(folder: &Path, image: &Path, name: &str, serial: &str, how: &[&str]) -> Result<Self, String> {
        let device = run(Command::new("losetup").args(["--find", "--show"]).args(how).arg(image))?;
        let disk = Self { device: PathBuf::from(device.trim()) };
        let block = folder.join("block").join(name);
        fs::create_dir_all(&block).map_err(|error| error.to_string())?;
        fs::write(block.join("size"), "32768\n").map_err(|error| error.to_string())?;
        fs::write(block.join("serial"), serial).map_err(|error| error.to_string())?;
        fs::create_dir_all(folder.join("dev")).map_err(|error| error.to_string())?;
        symlink(&disk.device, folder.join("dev").join(name)).map_err(|error| error.to_string())?;
        Ok(disk)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| {
        let program = command.get_program().display();
        format!("failed to start {program}: {error} (e2fsprogs has mke2fs, mount has losetup)")
    })?;
    if !output.status.success() {
        return Err(format!("{command:?} failed: {}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{command:?} wrote no text: {error}"))
}
