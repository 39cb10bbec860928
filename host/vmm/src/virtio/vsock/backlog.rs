//! Bytes from the guest that a stream has not taken yet. As long as credit allows, and no memory when empty.

use std::collections::VecDeque;
use std::io;

use super::connection::Stream;
use crate::virtio::Buffers;

/// A queue of bytes.
#[derive(Debug, Default)]
pub struct Backlog {
    bytes: VecDeque<u8>,
}

impl Backlog {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether none wait.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Copies everything left of `payload` behind what waits already.
    pub fn append(&mut self, payload: &mut Buffers<'_>) {
        let held = self.bytes.len();
        self.bytes.resize(held + payload.len(), 0);
        let (front, back) = self.bytes.as_mut_slices();
        let (first, second) = match held.checked_sub(front.len()) {
            Some(into_back) => (&mut back[into_back..], &mut [][..]),
            None => (&mut front[held..], back),
        };
        // Together they are exactly as long as the payload.
        let _ = payload.read(first);
        let _ = payload.read(second);
    }

    /// Writes to the stream once; answers how much it took.
    pub fn write_to(&mut self, stream: &mut impl Stream) -> io::Result<usize> {
        let count = stream.write_bytes(self.bytes.as_slices().0)?;
        self.bytes.drain(..count);
        if self.is_empty() {
            self.clear();
        }
        Ok(count)
    }

    /// Drops what waits, and the memory with it.
    pub fn clear(&mut self) {
        self.bytes = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vm_memory::VolatileSlice;

    use super::super::fake::FakeStream;
    use super::*;

    proptest! {
        #[test]
        fn bytes_leave_in_the_order_they_came(
            steps in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), 0usize..60), 0..20),
        ) {
            let (mut backlog, mut stream) = (Backlog::default(), FakeStream::default());
            let mut sent = Vec::new();
            for (mut bytes, room) in steps {
                sent.extend(&bytes);
                let mut payload = Buffers::default();
                payload.push(VolatileSlice::from(&mut bytes[..]));
                backlog.append(&mut payload);
                stream.0.borrow_mut().room = room;
                while !backlog.is_empty() && backlog.write_to(&mut stream).is_ok() {}
            }
            let received = stream.0.borrow().received.clone();
            prop_assert_eq!(received.len() + backlog.len(), sent.len());
            prop_assert!(sent.starts_with(&received));
        }
    }
}
