//! What is broken before it starts (an image, a kernel, a disk that is full): a sentence about it, and nothing left behind.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use theca_tests::{IMAGE, Invocation, SmallDisk, Theca, eventually, fixtures};

fn nothing_left(theca: &Theca) {
    eventually("nothing to be left", || theca.leaks().is_empty());
}

#[test]
fn a_kernel_that_panics_is_told_with_its_last_words() {
    let theca = Theca::new();
    let run = ["run", "--rm", "--kernel-cmdline", "rdinit=/none init=/none", IMAGE, "true"];
    let output = theca.cli(&run);
    output
        .exits(125)
        .says("the guest's kernel panicked; the guest's last words:\n")
        // What led there, of which a start without panic shows nothing.
        .says("Registered PF_VSOCK")
        .says("Kernel panic - not syncing");
    nothing_left(&theca);
}

#[test]
fn a_program_is_no_kernel() {
    let theca = Theca::new();
    let busybox = fixtures::busybox_rootfs().join("bin/busybox");
    let output = theca.run(&["--rm", "--kernel", &busybox.to_string_lossy(), IMAGE, "true"]);
    output.exits(125).says("no x86-64 Linux kernel").says("give an ELF vmlinux");
    nothing_left(&theca);
}

/// The disks of the store's images.
fn disks(theca: &Theca) -> Vec<PathBuf> {
    let found =
        Invocation::new("find", &[theca.root().as_os_str(), "-name".as_ref(), "*.erofs".as_ref()]).run();
    found.success().lines().map(PathBuf::from).collect()
}

#[test]
fn a_damaged_image_runs_nothing_and_can_be_replaced() {
    let theca = Theca::new();
    let disk = disks(&theca).pop().expect("the store has a disk");
    // The file is shared with other tests: a copy takes its place.
    let copy = disk.with_extension("copy");
    std::fs::copy(&disk, &copy).unwrap();
    File::options().write(true).open(&copy).unwrap().write_all_at(&[0xa5; 4096], 1024).unwrap();
    std::fs::rename(&copy, &disk).unwrap();

    let output = theca.run(&["--rm", IMAGE, "true"]);
    output
        .exits(125)
        .says("the disk of image debian:13 is damaged; remove it (`theca image rm -f debian:13`)");
    nothing_left(&theca);
    theca.cli(&["image", "rm", "-f", IMAGE]).success();
    let layout = fixtures::debian_layout().to_string_lossy().into_owned();
    theca.cli(&["image", "import", "--name", IMAGE, &layout]).success();
    theca.run(&["--rm", IMAGE, "true"]).success();
}

#[test]
fn a_full_disk_keeps_nothing_of_an_image() {
    let (theca, small) = (Theca::empty(), SmallDisk::new("24m"));
    let layout = fixtures::debian_layout().to_string_lossy().into_owned();
    let output =
        theca.command(&["image", "import", "--name", IMAGE, &layout]).env("THECA_ROOT", small.path()).run();
    output.exits(125).says("no space left").says("THECA_ROOT");
    assert!(small.used() < 1 << 20, "{} bytes are left behind", small.used());
}

#[test]
fn a_full_disk_stops_a_container_before_it_starts() {
    let (theca, small) = (Theca::empty(), SmallDisk::new("64k"));
    let rootfs = fixtures::busybox_rootfs().to_string_lossy().into_owned();
    let run = theca.command(&["run", "--rm", "--rootfs", &rootfs, "true"]);
    run.env("THECA_ROOT", small.path()).run().exits(125).says("o space left");
    assert_eq!(std::fs::read_dir(small.path().join("containers")).unwrap().count(), 0);
    nothing_left(&theca);
}

#[test]
fn a_disk_that_becomes_full_is_an_error_inside_and_no_more() {
    let (theca, small) = (Theca::empty(), SmallDisk::new("24m"));
    let rootfs = fixtures::busybox_rootfs().to_string_lossy().into_owned();
    let script = "dd if=/dev/zero of=/root/big bs=1M count=40 && sync /root/big && echo fits; echo alive";
    let output = theca
        .command(&["run", "--rm", "--rootfs", &rootfs, "sh", "-c", script])
        .env("THECA_ROOT", small.path())
        .run();
    assert_eq!(output.success(), "alive\n");
    assert_eq!(std::fs::read_dir(small.path().join("containers")).unwrap().count(), 0);
}
