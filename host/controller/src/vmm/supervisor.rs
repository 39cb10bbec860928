//! The task that owns a VMM's control socket and its process.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net;
use std::sync::Arc;
use std::time::Duration;

use theca_vmm_protocol::{ChannelError, Event, ExitReason, FromVmm, Reply, Request};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::wire::Wire;
use super::{Ask, VmEnd, VmmError, end};

/// How long a VMM that was asked to end, or whose socket closed, may take.
const PATIENCE: Duration = Duration::from_secs(3);

pub struct Supervisor {
    pub wire: Wire,
    pub child: Child,
    pub inbox: mpsc::UnboundedReceiver<Ask>,
    pub publish_halt: watch::Sender<bool>,
    pub publish: watch::Sender<Option<Arc<VmEnd>>>,
    pub dialled: mpsc::Sender<(u32, UnixStream)>,
    pub console: File,
}

type Waiters = VecDeque<oneshot::Sender<Result<Reply, VmmError>>>;

impl Supervisor {
    /// Serves both sides until the VMM is over, reaps it and publishes how it ended.
    pub async fn run(mut self) {
        let mut waiters = Waiters::new();
        let reason = self.converse(&mut waiters).await;
        drop(self.wire);
        let status = match timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                warn!("the VMM did not end in time and is killed");
                // It can only have ended meanwhile.
                let _ = self.child.start_kill();
                self.child.wait().await
            }
        };
        let end = VmEnd::new(reason, status.ok(), end::tail(&self.console));
        debug!(%end, "the VMM is over");
        self.publish_halt.send_replace(true);
        self.publish.send_replace(Some(Arc::new(end)));
        // Whoever waits for an answer hears `Ended` now, and finds the reason published.
        drop(waiters);
    }

    /// Until the socket closes: the reason that the VMM gave, if it gave one.
    async fn converse(&mut self, waiters: &mut Waiters) -> Option<ExitReason> {
        let mut reason = None;
        let mut open = true;
        loop {
            tokio::select! {
                ask = self.inbox.recv(), if open => match ask {
                    Some(Ask::Request(request, fds, waiter)) => self.send(*request, &fds, waiter, waiters).await,
                    Some(Ask::Stop(fault)) => {
                        if self.wire.send(&Request::Quit, &[]).await.is_err() {
                            return reason;
                        }
                        // Its reply has no waiter; the socket's end is what counts, and it is bounded.
                        let reason = timeout(PATIENCE, self.drain(reason)).await.unwrap_or(None);
                        return match (reason, fault) {
                            (None | Some(ExitReason::Quit), Some(fault)) => Some(ExitReason::Failed(fault.into())),
                            (reason, _) => reason,
                        };
                    }
                    None => open = false,
                },
                received = self.wire.receive() => match received {
                    Ok((FromVmm::Reply(reply), _)) => {
                        let Some(waiter) = waiters.pop_front() else {
                            return Some(broken("it answered what nobody asked"));
                        };
                        // The asker may have given up.
                        let _ = waiter.send(Ok(reply));
                    }
                    Ok((FromVmm::Event(Event::Connect { port }), fds)) => {
                        // No warning: anybody in the guest can dial, as often as they like.
                        if let Err(why) = self.dial(port, fds) {
                            debug!(port, why, "a dial of the guest is dropped");
                        }
                    }
                    Ok((FromVmm::Event(Event::Exited(why)), _)) => {
                        self.publish_halt.send_replace(true);
                        reason = Some(why);
                    }
                    Err(ChannelError::Closed) => return reason,
                    Err(error) => return Some(broken(&error.to_string())),
                },
            }
        }
    }

    async fn send(
        &self,
        request: Request,
        fds: &[OwnedFd],
        waiter: oneshot::Sender<Result<Reply, VmmError>>,
        waiters: &mut Waiters,
    ) {
        match self.wire.send(&request, fds).await {
            // A VMM that is gone has not answered: the waiter hears so once its end is published.
            Ok(()) | Err(ChannelError::Closed) => waiters.push_back(waiter),
            Err(error) => {
                let _ = waiter.send(Err(error.into()));
            }
        }
    }

    /// Reads on to the end of the socket for the sake of the reason.
    async fn drain(&self, mut reason: Option<ExitReason>) -> Option<ExitReason> {
        while let Ok((message, _)) = self.wire.receive().await {
            if let FromVmm::Event(Event::Exited(why)) = message {
                self.publish_halt.send_replace(true);
                reason = Some(why);
            }
        }
        reason
    }

    fn dial(&self, port: u32, mut fds: Vec<OwnedFd>) -> Result<(), &'static str> {
        let (Some(fd), true) = (fds.pop(), fds.is_empty()) else {
            return Err("it did not come with one descriptor");
        };
        let stream = nonblocking(fd).map_err(|_| "its descriptor is no stream")?;
        self.dialled.try_send((port, stream)).map_err(|_| "nobody takes it")
    }
}

fn nonblocking(fd: OwnedFd) -> io::Result<UnixStream> {
    let stream = net::UnixStream::from(fd);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

fn broken(why: &str) -> ExitReason {
    ExitReason::Failed(format!("the VMM broke the control protocol: {why}"))
}
