//! What other threads have for the keeper.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};
use theca_vmm_protocol::ExitReason;

/// Dials that may wait for the keeper. More than these are a guest that floods; they are closed.
const MAX_DIALS: usize = 64;

/// Filled by any thread, emptied by the control thread. Readable through `poll` when something is in it.
#[derive(Debug)]
pub struct Outbox {
    contents: Mutex<Contents>,
    filled: EventFd,
}

/// Taken out at once.
#[derive(Debug, Default)]
pub struct Contents {
    /// Connections of the guest to host ports, in order.
    pub dials: VecDeque<(u32, OwnedFd)>,
    /// Why the guest ended; the first reason given counts.
    pub exit: Option<ExitReason>,
}

impl Outbox {
    /// An empty outbox.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            contents: Mutex::default(),
            filled: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
        })
    }

    /// Leaves a connection for the keeper, or closes it if too many wait.
    pub fn dial(&self, port: u32, stream: OwnedFd) {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        if contents.dials.len() < MAX_DIALS {
            contents.dials.push_back((port, stream));
            self.ring();
        }
    }

    /// Leaves the reason for which the guest ended.
    pub fn exit(&self, reason: ExitReason) {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        contents.exit.get_or_insert(reason);
        self.ring();
    }

    /// Takes everything.
    pub fn take(&self) -> Contents {
        // Fails when nobody rang, which is as good.
        let _ = self.filled.read();
        std::mem::take(&mut self.contents.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn ring(&self) {
        // Fails only when the counter is full, and then the reader is awake.
        let _ = self.filled.write(1);
    }
}

impl AsFd for Outbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.filled.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_to_exit_counts() {
        let outbox = Outbox::new().unwrap();
        outbox.exit(ExitReason::Panic);
        outbox.exit(ExitReason::Reboot);
        assert_eq!(outbox.take().exit, Some(ExitReason::Panic));
        assert_eq!(outbox.take().exit, None);
    }

    #[test]
    fn a_flood_of_dials_is_cut_off() {
        let outbox = Outbox::new().unwrap();
        for _ in 0..1000 {
            outbox.dial(1025, std::fs::File::open("/dev/null").unwrap().into());
        }
        assert_eq!(outbox.take().dials.len(), MAX_DIALS);
    }
}
