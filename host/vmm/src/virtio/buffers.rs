//! Guest memory that one request names: a list of pieces, consumed from the front or the back.

use vm_memory::VolatileSlice;

/// The request's buffers are shorter than what has to be read or written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} bytes wanted of a request with {left} bytes left")]
pub struct ShortBuffers {
    /// Bytes that the device needs.
    pub wanted: usize,
    /// Bytes that are there.
    pub left: usize,
}

/// Pieces of guest memory in order. Holds no bytes itself; the guest may change them at any time.
#[derive(Clone, Debug, Default)]
pub struct Buffers<'m> {
    pieces: Vec<VolatileSlice<'m>>,
    length: usize,
}

impl<'m> Buffers<'m> {
    pub(super) fn push(&mut self, piece: VolatileSlice<'m>) {
        self.length += piece.len();
        self.pieces.push(piece);
    }

    /// Bytes left.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether no byte is left.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The pieces, for a system call that scatters or gathers.
    pub fn pieces(&self) -> &[VolatileSlice<'m>] {
        &self.pieces
    }

    /// Splits off everything behind the first `count` bytes.
    pub fn split_off(&mut self, count: usize) -> Result<Self, ShortBuffers> {
        if count > self.length {
            return Err(ShortBuffers { wanted: count, left: self.length });
        }
        let mut behind = Self::default();
        let mut before = count;
        for (index, piece) in self.pieces.iter().enumerate() {
            if before >= piece.len() {
                before -= piece.len();
                continue;
            }
            // `before` lies inside the piece, so neither part can be out of its range.
            let Ok((head, tail)) = piece.split_at(before) else { break };
            behind.push(tail);
            let rest = self.pieces.split_off(index);
            rest.into_iter().skip(1).for_each(|piece| behind.push(piece));
            if !head.is_empty() {
                self.pieces.push(head);
            }
            break;
        }
        self.length = count;
        Ok(behind)
    }

    /// Takes the first `count` bytes away and answers them as buffers of their own.
    pub fn take_front(&mut self, count: usize) -> Result<Self, ShortBuffers> {
        let behind = self.split_off(count)?;
        Ok(std::mem::replace(self, behind))
    }

    /// Keeps at most the first `count` bytes.
    pub fn truncate(&mut self, count: usize) {
        if count < self.length {
            // Cannot be short: there are more than `count` bytes.
            let _ = self.split_off(count);
        }
    }

    /// Reads and consumes exactly as many bytes as `data` holds, or nothing.
    pub fn read(&mut self, data: &mut [u8]) -> Result<(), ShortBuffers> {
        let front = self.take_front(data.len())?;
        let mut done = 0;
        for piece in &front.pieces {
            done += piece.copy_to(&mut data[done..]);
        }
        Ok(())
    }

    /// Writes `data` and consumes the room for it, or does nothing.
    pub fn write(&mut self, data: &[u8]) -> Result<(), ShortBuffers> {
        let front = self.take_front(data.len())?;
        let mut done = 0;
        for piece in &front.pieces {
            piece.copy_from(&data[done..]);
            done += piece.len();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn buffers<'m>(storage: &'m mut [Vec<u8>]) -> Buffers<'m> {
        let mut buffers = Buffers::default();
        for piece in storage {
            buffers.push(VolatileSlice::from(&mut piece[..]));
        }
        buffers
    }

    #[test]
    fn more_than_there_is_consumes_nothing() {
        let mut storage = vec![b"abc".to_vec()];
        let mut buffers = buffers(&mut storage);
        assert_eq!(buffers.read(&mut [0; 4]), Err(ShortBuffers { wanted: 4, left: 3 }));
        assert_eq!(buffers.len(), 3);
    }

    proptest! {
        #[test]
        fn splitting_anywhere_keeps_every_byte_in_order(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..9),
            at in 0usize..90,
        ) {
            let whole: Vec<u8> = pieces.concat();
            let mut storage = pieces.clone();
            let mut front = buffers(&mut storage);
            match front.split_off(at) {
                Err(_) => prop_assert!(at > whole.len()),
                Ok(mut behind) => {
                    let (mut a, mut b) = (vec![0; front.len()], vec![0; behind.len()]);
                    front.read(&mut a).unwrap();
                    behind.read(&mut b).unwrap();
                    prop_assert_eq!(a.len(), at);
                    a.extend(b);
                    prop_assert_eq!(a, whole);
                    prop_assert!(front.is_empty() && behind.is_empty());
                }
            }
        }

        #[test]
        fn written_bytes_land_in_order(
            lengths in prop::collection::vec(0usize..9, 0..9),
            data in prop::collection::vec(any::<u8>(), 0..90),
        ) {
            let mut storage: Vec<Vec<u8>> = lengths.iter().map(|length| vec![0; *length]).collect();
            let room: usize = lengths.iter().sum();
            let written = buffers(&mut storage).write(&data);
            prop_assert_eq!(written.is_ok(), data.len() <= room);
            if written.is_ok() {
                prop_assert_eq!(&storage.concat()[..data.len()], &data[..]);
            }
        }
    }
}
