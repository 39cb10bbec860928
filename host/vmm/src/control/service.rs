//! Serving the control socket until the VM is over.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use theca_vmm_protocol::{
    Channel, ChannelError, Disk, Event, ExitReason, FdIndex, FromVmm, Reply, Request, VmConfig,
};

use super::config::{self, ConfigError, Descriptors, MachineConfig};
use super::large_pages::LargePages;
use super::outbox::Outbox;
use super::policy::{self, OutOfPlace, Phase};
use crate::jail::filters::ThreadKind;
use crate::jail::{self, JailError, seccomp};
use crate::machine::{self, AttachError, BuildError, Machine};
use crate::vcpu::VcpuError;

/// Why the VMM ends without having said so on the socket.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The keeper is gone or speaks another language.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// Waiting failed.
    #[error("failed to wait for requests")]
    Wait(#[source] io::Error),
}

/// Why a request was not carried out; becomes the sentence of [`Reply::Failed`].
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error(transparent)]
    OutOfPlace(#[from] OutOfPlace),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    Vcpu(#[from] VcpuError),
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error(transparent)]
    Jail(#[from] JailError),
    #[error("failed to confine the control thread")]
    Confine(#[from] seccomp::SeccompError),
    #[error("failed to write the state")]
    Write(#[source] io::Error),
}

/// The conversation with one keeper about one VM.
pub struct Service {
    channel: Channel,
    outbox: Arc<Outbox>,
    machine: Option<Machine>,
    phase: Phase,
    started: Instant,
    start_us: u64,
    large_pages: LargePages,
}

/// Whether there is more to serve.
enum Next {
    Serve,
    Exit(ExitReason),
}

impl Service {
    /// Serves `channel`; `started` is when the process began.
    pub fn new(channel: Channel, started: Instant) -> io::Result<Self> {
        let outbox = Arc::new(Outbox::new()?);
        Ok(Self {
            channel,
            outbox,
            machine: None,
            phase: Phase::Empty,
            started,
            start_us: 0,
            large_pages: LargePages::Booting,
        })
    }

    /// Serves until the guest ends, the keeper asks to quit or goes away. Whatever happened in the VM has been reported
    /// when this returns.
    pub fn run(&mut self) -> Result<(), ServiceError> {
        loop {
            let (request, event) = self.wait()?;
            if request && let Next::Exit(reason) = self.serve_request()? {
                return self.report_exit(reason);
            }
            if event && let Next::Exit(reason) = self.serve_outbox()? {
                return self.report_exit(reason);
            }
        }
    }

    /// Blocks until there is a request or something in the outbox, or until something is due: then neither is reported.
    fn wait(&mut self) -> Result<(bool, bool), ServiceError> {
        // Rounded up, so that waking up finds it due.
        let due = self.large_pages.settle().map(|due| due + Duration::from_millis(1));
        let limit =
            due.map_or(PollTimeout::NONE, |due| PollTimeout::try_from(due).unwrap_or(PollTimeout::MAX));

        let mut fds = [
            PollFd::new(self.channel.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.outbox.as_fd(), PollFlags::POLLIN),
        ];
        while let Err(error) = poll(&mut fds, limit) {
            if error != Errno::EINTR {
                return Err(ServiceError::Wait(error.into()));
            }
        }
        Ok((fds[0].any().unwrap_or(true), fds[1].any().unwrap_or(true)))
    }

    fn serve_request(&mut self) -> Result<Next, ServiceError> {
        let (request, fds) = match self.channel.receive::<Request>() {
            Ok(received) => received,
            Err(error @ (ChannelError::Malformed(_) | ChannelError::TooLarge)) => {
                self.reply(Reply::Failed(sentence(&error)))?;
                return Ok(Next::Serve);
            }
            Err(error) => return Err(error.into()),
        };
        let quit = matches!(request, Request::Quit);
        let reply = self.carry_out(request, fds).unwrap_or_else(|error| Reply::Failed(sentence(&error)));
        self.reply(reply)?;
        Ok(if quit { Next::Exit(ExitReason::Quit) } else { Next::Serve })
    }

    fn carry_out(&mut self, request: Request, fds: Vec<OwnedFd>) -> Result<Reply, RequestError> {
        policy::admit(self.phase, &request)?;
        let mut fds = Descriptors::new(fds);
        match request {
            Request::Configure(config) => self.configure(*config, &mut fds)?,
            Request::Start => {
                self.resume()?;
                self.start_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
            }
            Request::Pause if self.phase == Phase::Running => self.pause()?,
            Request::Resume if self.phase == Phase::Paused => self.resume()?,
            Request::Pause | Request::Resume | Request::Quit => {}
            Request::AttachDisk { slot, disk } => self.attach(slot.into(), disk, &mut fds)?,
            Request::DetachDisk { slot } => self.machine()?.detach(slot.into())?,
            Request::SaveState { file } => self.save(file, &mut fds)?,
            Request::Stats => {
                let stats = self.machine.as_ref().map(Machine::stats).unwrap_or_default();
                return Ok(Reply::Stats(theca_vmm_protocol::Stats { start_us: self.start_us, ..stats }));
            }
        }
        Ok(Reply::Done)
    }

    /// Builds the VM, then closes the jail behind the last thing that needed room.
    fn configure(&mut self, config: VmConfig, fds: &mut Descriptors) -> Result<(), RequestError> {
        let config = MachineConfig::new(config, fds)?;
        self.large_pages = LargePages::forbid();
        for disk in config.disks.iter().filter_map(|slot| slot.disk()) {
            jail::allow_disk(&disk)?;
        }
        let machine = machine::build(config, &self.outbox)?;
        seccomp::install(&seccomp::compile(ThreadKind::Control))?;
        self.machine = Some(machine);
        self.phase = Phase::Built;
        Ok(())
    }

    fn resume(&mut self) -> Result<(), RequestError> {
        self.machine()?.run()?;
        self.phase = Phase::Running;
        Ok(())
    }

    fn pause(&mut self) -> Result<(), RequestError> {
        self.machine()?.pause()?;
        self.phase = Phase::Paused;
        Ok(())
    }

    fn attach(&self, slot: usize, disk: Disk, fds: &mut Descriptors) -> Result<(), RequestError> {
        let disk = config::open_disk(slot, disk, fds)?;
        jail::allow_disk(&disk)?;
        Ok(self.machine()?.attach(slot, disk)?)
    }

    fn save(&self, file: FdIndex, fds: &mut Descriptors) -> Result<(), RequestError> {
        let mut file = File::from(fds.take(file, "state file")?);
        let state = self.machine()?.save()?;
        let bytes = serde_json::to_vec(&state).map_err(|error| RequestError::Write(error.into()))?;
        file.write_all(&bytes).map_err(RequestError::Write)
    }

    fn machine(&self) -> Result<&Machine, OutOfPlace> {
        self.machine.as_ref().ok_or(OutOfPlace::NotConfigured)
    }

    /// Passes on what other threads left.
    fn serve_outbox(&mut self) -> Result<Next, ServiceError> {
        let contents = self.outbox.take();
        if !contents.dials.is_empty() {
            self.large_pages.dialled();
        }
        for (port, stream) in contents.dials {
            self.channel.send(&FromVmm::Event(Event::Connect { port }), &[stream.as_fd()])?;
        }
        Ok(contents.exit.map_or(Next::Serve, Next::Exit))
    }

    /// Says last why the VM is over; what the guest printed is complete by then.
    fn report_exit(&self, reason: ExitReason) -> Result<(), ServiceError> {
        if let Some(machine) = &self.machine {
            machine.flush_console();
        }
        Ok(self.channel.send(&FromVmm::Event(Event::Exited(reason)), &[])?)
    }

    fn reply(&self, reply: Reply) -> Result<(), ServiceError> {
        Ok(self.channel.send(&FromVmm::Reply(reply), &[])?)
    }
}

/// An error with its causes, as one line for a person.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
