//! A byte now and then, so that a test host whose timer was lost goes on.
//!
//! A test host was seen that used no processor time any more: its only CPU was halted, and QEMU's main loop waited. What fits, though
//! it was not caught in the act: QEMU's software CPU clears the virtual interrupt's bit at each #VMEXIT by reading, changing and
//! writing the word of pending interrupts, without the lock under which its main loop sets the timer's bit in that word. A timer
//! interrupt that falls between is forgotten: the local APIC holds it as requested, nobody looks, and Linux, which programs the
//! next one when this one has come, sleeps for good. Any interrupt of a device makes the CPU look at all of them again.

use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

/// How long a test host may stand still. A pulse costs it some thousands of instructions.
const INTERVAL: Duration = Duration::from_millis(100);

/// Interrupts the test host behind `port` every [`INTERVAL`], until the first write after its end.
pub fn start(mut port: UnixStream) -> Result<JoinHandle<()>> {
    port.set_nonblocking(true)?;
    thread::Builder::new()
        .name("pulse".to_owned())
        .spawn(move || {
            while port.write(&[0]).or_else(or_full).is_ok() {
                thread::sleep(INTERVAL);
            }
        })
        .context("failed to start the pulse")
}

/// What is full has bytes enough to come.
fn or_full(error: io::Error) -> io::Result<usize> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(0),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn it_goes_on_until_the_host_is_gone() {
        let (ours, mut host) = UnixStream::pair().unwrap();
        let pulse = start(ours).unwrap();
        host.read_exact(&mut [0; 3]).unwrap();
        drop(host);
        pulse.join().unwrap();
    }

    #[test]
    fn a_host_that_does_not_read_is_left_to_its_own() {
        let (mut ours, _host) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        while ours.write(&[0; 4096]).is_ok() {}
        assert_eq!(ours.write(&[0]).or_else(or_full).unwrap(), 0);
    }
}
