//! One test host as a process: QEMU's command line and the descriptors it inherits.
//!
//! Everything is handed over as a descriptor (disks, initrd and console are files without a name, the ports are socket
//! pairs), and QEMU dies with the thread that started it, so a run leaves nothing behind however it ends.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::Job;
use super::base::Base;
use crate::command;
use crate::cpio::Archive;

/// What is kept of the console for a message about a failure.
const LAST_WORDS: usize = 60;

/// Held while descriptors are open to children: another test host's QEMU that inherited a port would keep it from ending.
static STARTING: Mutex<()> = Mutex::new(());

/// A running test host. Dropping it kills it.
pub struct Host {
    process: Child,
    console: File,
    /// Our ends of its ports.
    pub ports: Ports,
}

/// One stream per virtio-serial port; `guest/init.sh` knows them by the same numbers.
pub struct Ports {
    /// Port 1, read by the command.
    pub stdin: UnixStream,
    /// Port 2, written by the command.
    pub stdout: UnixStream,
    /// Port 3, written by the command.
    pub stderr: UnixStream,
    /// Port 4: lines from the test host's init about the run itself.
    pub control: UnixStream,
    /// Port 5: read and thrown away, see `pulse.rs`.
    pub pulse: UnixStream,
}

impl Host {
    /// The end of what QEMU and the test host's console said.
    pub fn last_words(&mut self) -> String {
        let mut said = Vec::new();
        let read = self.console.seek(SeekFrom::Start(0)).and_then(|_| self.console.read_to_end(&mut said));
        match read {
            Ok(_) => command::tail(&String::from_utf8_lossy(&said), LAST_WORDS),
            Err(error) => format!("(the console cannot be read: {error})"),
        }
    }

    /// Ends the test host at once.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill().context("failed to kill QEMU")?;
        self.process.wait().context("failed to wait for QEMU")?;
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It is usually dead already, and there is nobody left to tell.
        let _ = self.kill();
    }
}

/// Starts QEMU for the job, with the two disks beside the root.
pub fn start(base: &Base, job: &Job, inputs: &File, results: &File) -> Result<Host> {
    let console = tempfile::tempfile()?;
    let initrd = initrd(base)?;
    let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut line = Line::new();
    if job.icount {
        // Two nanoseconds an instruction; a CPU that idles skips ahead instead of sleeping.
        line.add(["-icount", "shift=1,sleep=off"]);
    }
    // One CPU. QEMU forgets that it has delivered an interrupt which VMRUN injects, and delivers it once more when something
    // asks its CPU loop to return before the next exception: the guest then takes a lock twice and stands still. With more
    // CPUs the others ask for that all the time (on one thread: every 100 ms, to take turns).
    line.add(["-accel", "tcg,tb-size=512", "-cpu", "max,+svm", "-smp", "1"]);
    line.add(["-machine", "q35", "-m", &job.memory_mib.to_string()]);
    line.add(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);

    line.add(["-kernel", &base.kernel().to_string_lossy(), "-initrd", &inherited(&initrd)?]);
    line.add(["-append", "console=ttyS0 reboot=t panic=-1 quiet mitigations=off"]);
    line.add([
        "-chardev",
        &format!("file,id=console,path={}", inherited(&console)?),
        "-serial",
        "chardev:console",
    ]);

    line.disk("root", &base.root().to_string_lossy(), "snapshot=on");
    line.disk("inputs", &inherited(inputs)?, "readonly=on");
    line.disk("results", &inherited(results)?, "readonly=off");

    line.add(["-device", "virtio-serial-pci,max_ports=8"]);
    let (stdin, stdin_far) = UnixStream::pair()?;
    let (stdout, stdout_far) = UnixStream::pair()?;
    let (stderr, stderr_far) = UnixStream::pair()?;
    let (control, control_far) = UnixStream::pair()?;
    let (pulse, pulse_far) = UnixStream::pair()?;
    let far_ends = [&stdin_far, &stdout_far, &stderr_far, &control_far, &pulse_far];
    for (number, far) in far_ends.into_iter().enumerate() {
        line.port(number + 1, far)?;
    }

    let process = line
        .command
        .stdin(Stdio::null())
        .stdout(console.try_clone()?)
        .stderr(console.try_clone()?)
        .spawn()
        .context("failed to start QEMU")?;
    Ok(Host { process, console, ports: Ports { stdin, stdout, stderr, control, pulse } })
}

/// A QEMU command line under construction.
struct Line {
    command: Command,
}

impl Line {
    fn new() -> Self {
        // setpriv asks the kernel to kill what it becomes when we die.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64", "-name", "theca-testbed"]);
        Self { command }
    }

    fn add<const N: usize>(&mut self, words: [&str; N]) {
        self.command.args(words);
    }

    fn disk(&mut self, id: &str, path: &str, mode: &str) {
        self.add(["-drive", &format!("if=none,id={id},file={path},format=raw,cache=unsafe,{mode}")]);
        self.add(["-device", &format!("virtio-blk-pci,drive={id},serial={id}")]);
    }

    fn port(&mut self, number: usize, far: &UnixStream) -> Result<()> {
        keep_open(far)?;
        self.add(["-chardev", &format!("socket,id=port{number},fd={}", far.as_raw_fd())]);
        self.add(["-device", &format!("virtserialport,nr={number},chardev=port{number}")]);
        Ok(())
    }
}

/// The name under which a child finds this file of ours.
fn inherited(file: &File) -> Result<String> {
    keep_open(file)?;
    Ok(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Lets children inherit a descriptor, see [`STARTING`].
fn keep_open(descriptor: impl AsFd) -> Result<()> {
    fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty())).context("failed to clear FD_CLOEXEC")?;
    Ok(())
}

/// The test host's initrd: busybox, the drivers for its root, and the script that mounts it.
fn initrd(base: &Base) -> Result<File> {
    let mut archive = Archive::new(tempfile::tempfile()?);
    for folder in ["bin", "dev", "drivers", "proc", "root", "sys"] {
        archive.folder(folder)?;
    }
    archive.character_device("dev/console", 5, 1)?;
    archive.file("init", 0o755, include_bytes!("guest/initrd.sh"))?;
    archive.file("bin/busybox", 0o755, &std::fs::read(base.busybox())?)?;
    for (number, driver) in base.drivers()?.iter().enumerate() {
        let contents =
            std::fs::read(driver).with_context(|| format!("failed to read {}", driver.display()))?;
        // Numbered, so that the shell's glob gives them in the order to load.
        archive.file(&format!("drivers/{number:02}.ko"), 0o644, &contents)?;
    }
    let mut file = archive.finish()?;
    file.flush()?;
    Ok(file)
}
