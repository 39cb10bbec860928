//! A keeper for tests: starts the real VMM, with its jail and filters, on payloads of a few instructions.
//!
//! The payloads run on any KVM, also on one that emulates the guest in software and boots no Linux.

#![allow(dead_code, reason = "each test program uses its own part")]

pub mod driver;
pub mod payload;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use theca_vmm_protocol::{Channel, Console, Event, ExitReason, FdIndex, FromVmm, Reply, Request, VmConfig};

/// Longest that any of these guests may take, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// An open `/dev/kvm`, or none where the tests were told to do without.
pub fn kvm() -> Option<File> {
    match File::options().read(true).write(true).open("/dev/kvm") {
        Ok(file) => Some(file),
        Err(_) if std::env::var_os("THECA_NO_KVM").is_some_and(|value| value == "1") => {
            eprintln!("skipped: THECA_NO_KVM=1 and /dev/kvm cannot be opened");
            None
        }
        Err(error) => panic!(
            "this test needs /dev/kvm ({error}); load kvm-intel or kvm-amd, or set THECA_NO_KVM=1 to go without"
        ),
    }
}

/// A temporary file with `bytes` in it.
pub fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// A VM to start, with files in place of indexes.
pub struct Guest {
    pub config: VmConfig,
    fds: Vec<OwnedFd>,
    log: File,
}

impl Guest {
    /// One vCPU, 64 MiB, `kernel` as the file to boot.
    pub fn new(kvm: File, kernel: &[u8]) -> Self {
        let log = tempfile::tempfile().unwrap();
        let fds = vec![kvm.into(), file(kernel).into(), log.try_clone().unwrap().into()];
        let config = VmConfig {
            vcpus: 1,
            memory_mib: 64,
            cmdline: String::new(),
            kvm: FdIndex(0),
            kernel: FdIndex(1),
            initrd: None,
            console: Console { log: FdIndex(2), max_bytes: 1 << 16 },
            vsock: None,
            disks: Vec::new(),
            rng: false,
        };
        Self { config, fds, log }
    }

    /// Adds a descriptor to the packet.
    pub fn add(&mut self, fd: impl Into<OwnedFd>) -> FdIndex {
        self.fds.push(fd.into());
        FdIndex((self.fds.len() - 1) as u8)
    }

    /// Adds an initrd.
    pub fn with_initrd(mut self, bytes: &[u8]) -> Self {
        self.config.initrd = Some(self.add(file(bytes)));
        self
    }

    /// Starts a VMM and configures it.
    pub fn configure(self) -> Vmm {
        let mut vmm = Vmm::spawn(self.log);
        let fds: Vec<BorrowedFd<'_>> = self.fds.iter().map(AsFd::as_fd).collect();
        assert_eq!(vmm.request(&Request::Configure(Box::new(self.config)), &fds), Reply::Done);
        vmm
    }

    /// Starts a VMM that must refuse the configuration; answers the sentence.
    pub fn refusal(self) -> String {
        let mut vmm = Vmm::spawn(self.log);
        let fds: Vec<BorrowedFd<'_>> = self.fds.iter().map(AsFd::as_fd).collect();
        let reply = vmm.request(&Request::Configure(Box::new(self.config)), &fds);
        let Reply::Failed(sentence) = reply else { panic!("must be refused, was {reply:?}") };
        // A refusal leaves a VMM that still answers.
        assert_eq!(vmm.request(&Request::Quit, &[]), Reply::Done);
        assert_eq!(vmm.end(), ExitReason::Quit);
        sentence
    }

    /// Runs to the end; answers why it ended and what was printed.
    pub fn run(self) -> (ExitReason, String) {
        let mut vmm = self.configure();
        assert_eq!(vmm.request(&Request::Start, &[]), Reply::Done);
        let reason = vmm.end();
        (reason, vmm.console())
    }
}

/// A VMM process. Dropping it takes its VM along.
pub struct Vmm {
    channel: Option<Channel>,
    child: Child,
    log: File,
    end: Option<ExitReason>,
    connects: Vec<(u32, OwnedFd)>,
}

impl Vmm {
    fn spawn(log: File) -> Self {
        let (ours, theirs) = Channel::pair().unwrap();
        // A guest that does not end fails its test rather than keeping it.
        let patience = TimeVal::seconds(PATIENCE.as_secs().try_into().unwrap());
        setsockopt(&ours, sockopt::ReceiveTimeout, &patience).unwrap();
        let theirs = theirs.into_socket();
        let inherit = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty());
        nix::fcntl::fcntl(&theirs, inherit).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_theca-vmm"))
            .args(["--control-fd", &theirs.as_raw_fd().to_string()])
            .spawn()
            .unwrap();
        Self { channel: Some(ours), child, log, end: None, connects: Vec::new() }
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a request and waits for its answer.
    pub fn request(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> Reply {
        self.channel.as_ref().unwrap().send(request, fds).unwrap();
        loop {
            if let Some(reply) = self.receive() {
                return reply;
            }
        }
    }

    fn receive(&mut self) -> Option<Reply> {
        let received = self.channel.as_ref().unwrap().receive::<FromVmm>();
        let (message, mut fds) = received.expect("the VMM must not vanish, and tell its end in time");
        match message {
            FromVmm::Reply(reply) => Some(reply),
            FromVmm::Event(Event::Exited(reason)) => {
                self.end = Some(reason);
                None
            }
            FromVmm::Event(Event::Connect { port }) => {
                self.connects.push((port, fds.pop().expect("a dial comes with its stream")));
                None
            }
        }
    }

    /// Waits for the VM's end and the process'.
    pub fn end(&mut self) -> ExitReason {
        while self.end.is_none() {
            assert_eq!(self.receive(), None);
        }
        let status = self.wait();
        assert!(status.success(), "the VMM must end cleanly, was {status}");
        self.end.take().unwrap()
    }

    /// Host ports that the guest has dialled so far, each with the keeper's end of its stream.
    pub fn connects(&self) -> &[(u32, OwnedFd)] {
        &self.connects
    }

    /// Closes the control socket, as a keeper's death does.
    pub fn hang_up(&mut self) {
        self.channel = None;
    }

    /// Waits for the process' end.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the VMM's end", || self.child.try_wait().unwrap())
    }

    /// What the guest has printed so far.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&self.console_bytes()).into_owned()
    }

    /// The same as bytes.
    pub fn console_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.log.metadata().unwrap().len() as usize];
        // The log may be cut in half at any time.
        let read = self.log.read_at(&mut bytes, 0).unwrap();
        bytes.truncate(read);
        bytes
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until there is an answer.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "no sign of {what} after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
