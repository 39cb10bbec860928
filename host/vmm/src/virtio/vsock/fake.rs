//! A stream without a socket, for tests of connections and the muxer.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::rc::Rc;

use super::Stream;
use crate::virtio::Buffers;

/// What the program at the other end of a [`FakeStream`] sees and does.
#[derive(Debug, Default)]
pub struct Program {
    /// Came from the guest.
    pub received: Vec<u8>,
    /// Waits to be read for the guest.
    pub sending: VecDeque<u8>,
    /// Bytes that the stream takes before it is full.
    pub room: usize,
    /// The program will send no more.
    pub done: bool,
    /// The program is gone.
    pub gone: bool,
    /// Directions that the connection has ended.
    pub ended: Vec<Shutdown>,
}

/// One end; the other one is the [`Program`].
#[derive(Clone, Debug, Default)]
pub struct FakeStream(pub Rc<RefCell<Program>>);

impl FakeStream {
    /// A stream that takes `room` bytes.
    pub fn with_room(room: usize) -> Self {
        Self(Rc::new(RefCell::new(Program { room, ..Program::default() })))
    }
}

impl Stream for FakeStream {
    fn read(&mut self, into: &Buffers<'_>) -> io::Result<usize> {
        let mut program = self.0.borrow_mut();
        if program.sending.is_empty() {
            let over = program.done || program.gone;
            return if over { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let count = into.len().min(program.sending.len());
        let bytes: Vec<u8> = program.sending.drain(..count).collect();
        into.clone().write(&bytes).map_err(io::Error::other)?;
        Ok(count)
    }

    fn write(&mut self, from: &Buffers<'_>) -> io::Result<usize> {
        let mut bytes = vec![0; from.len()];
        from.clone().read(&mut bytes).map_err(io::Error::other)?;
        self.write_bytes(&bytes)
    }

    fn write_bytes(&mut self, from: &[u8]) -> io::Result<usize> {
        let mut program = self.0.borrow_mut();
        if program.gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = from.len().min(program.room);
        if count == 0 && !from.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        program.room -= count;
        program.received.extend(&from[..count]);
        Ok(count)
    }

    fn shutdown(&mut self, how: Shutdown) {
        self.0.borrow_mut().ended.push(how);
    }
}
