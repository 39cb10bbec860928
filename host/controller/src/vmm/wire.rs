//! The control socket in tokio's terms.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use theca_vmm_protocol::{Channel, ChannelError, FromVmm, Request};
use tokio::io::unix::AsyncFd;

use crate::sys::readiness;

/// The keeper's end. Its flags are its own: the VMM's end of the pair stays as the VMM wants it.
pub struct Wire {
    channel: Channel,
    /// A copy of the channel's descriptor, for the event loop.
    ready: AsyncFd<OwnedFd>,
}

impl Wire {
    pub fn new(channel: Channel) -> io::Result<Self> {
        fcntl(&channel, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let ready = readiness::register(channel.as_fd().try_clone_to_owned()?)?;
        Ok(Self { channel, ready })
    }

    /// Sends one request. Cancel-safe: a packet goes whole or not at all.
    pub async fn send(&self, request: &Request, fds: &[OwnedFd]) -> Result<(), ChannelError> {
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        loop {
            let mut ready = self.ready.writable().await?;
            match self.channel.send(request, &fds) {
                Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready()
                }
                other => return other,
            }
        }
    }

    /// Receives what comes next. Cancel-safe.
    pub async fn receive(&self) -> Result<(FromVmm, Vec<OwnedFd>), ChannelError> {
        loop {
            let mut ready = self.ready.readable().await?;
            match self.channel.receive() {
                Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready()
                }
                other => return other,
            }
        }
    }
}
