//! A VM without a keeper: the test speaks to `theca-vmm` itself, for machines that `theca` does not offer on this host.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use tempfile::TempDir;
use theca_vmm_protocol::{
    Channel, Console, Event, ExitReason, FdIndex, FromVmm, Reply, Request, VmConfig, Vsock,
};

use crate::wait::PATIENCE;

/// The host's port that the agent dials when it is ready.
const READY_PORT: u32 = 1025;

/// A machine to boot the installed kernel and initrd on: as much as a test says, and the devices that the agent needs.
pub struct Machine {
    /// 1 to 32, however many this host has.
    pub vcpus: u8,
    /// RAM in MiB.
    pub memory_mib: u64,
    /// Words behind the VMM's own command line.
    pub cmdline: String,
    /// The kernel.
    pub kernel: PathBuf,
}

impl Machine {
    /// One CPU, 256 MiB.
    pub fn new() -> Self {
        Self { vcpus: 1, memory_mib: 256, cmdline: String::new(), kernel: installed("vmlinux") }
    }

    /// Starts it.
    pub fn boot(&self) -> RunningMachine {
        let folder = tempfile::Builder::new().prefix("machine-").tempdir_in("/run");
        let folder = folder.expect("failed to make a folder");
        let listener = UnixListener::bind(folder.path().join("vsock.sock")).expect("failed to listen");
        let log = tempfile::tempfile().expect("failed to make a file");
        let fds: [OwnedFd; 5] = [
            open(Path::new("/dev/kvm"), true).into(),
            open(&self.kernel, false).into(),
            open(&installed("initrd.cpio"), false).into(),
            log.try_clone().expect("failed to duplicate a descriptor").into(),
            listener.into(),
        ];
        let config = VmConfig {
            vcpus: self.vcpus,
            memory_mib: self.memory_mib,
            cmdline: self.cmdline.clone(),
            kvm: FdIndex(0),
            kernel: FdIndex(1),
            initrd: Some(FdIndex(2)),
            console: Console { log: FdIndex(3), max_bytes: 1 << 20 },
            vsock: Some(Vsock { guest_cid: 3, listener: FdIndex(4), host_ports: vec![READY_PORT] }),
            disks: Vec::new(),
            rng: true,
        };
        let mut machine = RunningMachine::spawn(log, folder);
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        machine.request(&Request::Configure(Box::new(config)), &fds);
        machine.request(&Request::Start, &[]);
        machine
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

/// A machine that runs. Dropped, it is gone.
pub struct RunningMachine {
    channel: Channel,
    vmm: Child,
    log: File,
    ready: Option<UnixStream>,
    end: Option<ExitReason>,
    _folder: TempDir,
}

impl RunningMachine {
    fn spawn(log: File, folder: TempDir) -> Self {
        let (channel, theirs) = Channel::pair().expect("failed to make a socket pair");
        // Nothing that is waited for may take longer.
        let patience = TimeVal::seconds(PATIENCE.as_secs().try_into().expect("some minutes"));
        setsockopt(&channel, sockopt::ReceiveTimeout, &patience).expect("failed to bound the wait");
        let theirs = theirs.into_socket();
        // The VMM finds its socket under the number it has here.
        fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty())).expect("failed to hand a socket down");
        let vmm = Command::new("theca-vmm")
            .args(["--control-fd", &theirs.as_raw_fd().to_string()])
            .spawn()
            .expect("failed to start theca-vmm");
        Self { channel, vmm, log, ready: None, end: None, _folder: folder }
    }

    /// Waits until the agent has dialled; gives what it says there.
    #[track_caller]
    pub fn ready(&mut self) -> UnixStream {
        loop {
            if let Some(stream) = self.ready.take() {
                stream.set_read_timeout(Some(PATIENCE)).expect("failed to bound the wait");
                return stream;
            }
            assert_eq!(self.end, None, "the guest ended; its console:\n{}", self.console());
            self.receive();
        }
    }

    /// MiB of the VMM that the host backs with large pages (proc_pid_smaps(5)).
    pub fn large_pages_mib(&self) -> u64 {
        let path = format!("/proc/{}/smaps_rollup", self.vmm.id());
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("failed to read {path}: {error}"));
        let kib =
            text.lines().find_map(|line| line.strip_prefix("AnonHugePages:")?.trim().strip_suffix(" kB"));
        let kib: u64 = kib.and_then(|kib| kib.parse().ok()).expect("smaps_rollup counts large pages");
        kib / 1024
    }

    /// What the guest has printed so far.
    pub fn console(&self) -> String {
        let mut bytes = vec![0; self.log.metadata().map_or(0, |log| log.len() as usize)];
        let length = self.log.read_at(&mut bytes, 0).expect("failed to read the console");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// Ends it, and asserts that the VMM ends as it should.
    #[track_caller]
    pub fn quit(mut self) {
        self.request(&Request::Quit, &[]);
        while self.end.is_none() {
            self.receive();
        }
        assert_eq!(self.end, Some(ExitReason::Quit));
        let status = self.vmm.wait().expect("failed to wait for the VMM");
        assert!(status.success(), "the VMM ended with {status}");
    }

    #[track_caller]
    fn request(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) {
        self.channel.send(request, fds).expect("failed to speak to the VMM");
        let reply = loop {
            if let Some(reply) = self.receive() {
                break reply;
            }
        };
        assert_eq!(reply, Reply::Done);
    }

    #[track_caller]
    fn receive(&mut self) -> Option<Reply> {
        let (message, mut fds) = self.channel.receive().unwrap_or_else(|error| {
            panic!("no word of the VMM: {error}; the guest's console:\n{}", self.console())
        });
        match message {
            FromVmm::Reply(reply) => return Some(reply),
            FromVmm::Event(Event::Connect { .. }) => self.ready = fds.pop().map(UnixStream::from),
            FromVmm::Event(Event::Exited(reason)) => self.end = Some(reason),
        }
        None
    }
}

impl Drop for RunningMachine {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.vmm.kill();
        let _ = self.vmm.wait();
    }
}

/// Writes a copy of the installed kernel without the note that gives its PVH entry, as other kernels come.
pub fn write_kernel_without_pvh(to: &mut File) {
    // XEN_ELFNOTE_PHYS32_ENTRY and its owner, as they follow each other in a note.
    let mark = [&18u32.to_le_bytes()[..], b"Xen\0"].concat();
    let mut kernel = std::fs::read(installed("vmlinux")).expect("failed to read the kernel");
    let positions = 0..kernel.len() - mark.len();
    let found: Vec<usize> = positions.filter(|at| kernel[*at..].starts_with(&mark)).collect();
    let [at] = found[..] else { panic!("the kernel has {} PVH notes", found.len()) };
    // A type that nobody knows.
    kernel[at] = 0xff;
    to.write_all(&kernel).expect("failed to write a kernel");
}

fn open(path: &Path, write: bool) -> File {
    let file = OpenOptions::new().read(true).write(write).open(path);
    file.unwrap_or_else(|error| panic!("failed to open {}: {error}", path.display()))
}

/// A file of `lib/theca`, beside the `bin` in which `theca-vmm` is.
fn installed(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program =
        std::env::split_paths(&path).map(|folder| folder.join("theca-vmm")).find(|path| path.is_file());
    let program = program.expect("theca-vmm is not on the PATH: run these tests through `cargo xtask test`");
    let file = program.parent().and_then(Path::parent).map(|prefix| prefix.join("lib/theca").join(name));
    file.expect("a program in bin/ has a prefix")
}
