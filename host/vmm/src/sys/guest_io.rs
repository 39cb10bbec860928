//! System calls that move bytes between a descriptor and guest memory without a copy in between.
//!
//! Guest memory may change at any moment under the hands of a vCPU, so it is never a `&[u8]` here: only its address
//! goes to the kernel, which copies byte by byte as it would for any racing user buffer.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use vm_memory::VolatileSlice;

/// Most pieces that one call takes (`UIO_MAXIOV`, readv(2)).
pub const MAX_PIECES: usize = 1024;

/// Fills `pieces` from `offset` of `file` on; answers how many bytes there were.
pub fn read_at(file: &File, pieces: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
    let vectors = vectors(pieces);
    let offset = file_offset(offset)?;
    retry(|| {
        // SAFETY: every vector is a range of mapped guest memory that its `VolatileSlice` borrows for this call; the
        // kernel writes within it and keeps no reference.
        unsafe { libc::preadv(file.as_raw_fd(), vectors.as_ptr(), vectors.len() as libc::c_int, offset) }
    })
}

/// As [`read_at`], but only what is there without waiting for the medium; `None` if that is nothing, or not to be told.
pub fn read_cached_at(file: &File, pieces: &[VolatileSlice<'_>], offset: u64) -> Option<usize> {
    let vectors = vectors(pieces);
    let (offset, flags) = (file_offset(offset).ok()?, libc::RWF_NOWAIT);
    let read = retry(|| {
        let count = vectors.len() as libc::c_int;
        // SAFETY: as in `read_at`.
        unsafe { libc::preadv2(file.as_raw_fd(), vectors.as_ptr(), count, offset, flags) }
    });
    // Nothing before the end of the file is a bug of Linux 5.9 and 5.10 (readv(2)).
    read.ok().filter(|count| *count > 0)
}

/// Writes `pieces` to `file` from `offset` on; answers how many bytes were taken.
pub fn write_at(file: &File, pieces: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
    let vectors = vectors(pieces);
    let offset = file_offset(offset)?;
    retry(|| {
        // SAFETY: as in `read_at`; the kernel only reads.
        unsafe { libc::pwritev(file.as_raw_fd(), vectors.as_ptr(), vectors.len() as libc::c_int, offset) }
    })
}

/// Reads from a socket into `pieces`.
pub fn read(fd: BorrowedFd<'_>, pieces: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let vectors = vectors(pieces);
    retry(|| {
        // SAFETY: as in `read_at`.
        unsafe { libc::readv(fd.as_raw_fd(), vectors.as_ptr(), vectors.len() as libc::c_int) }
    })
}

/// Sends `pieces` on a stream socket; a peer that is gone is `BrokenPipe`, not a signal.
pub fn send(fd: BorrowedFd<'_>, pieces: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let mut vectors = vectors(pieces);
    // SAFETY: `msghdr` is plain data for which zero means "absent".
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = vectors.len() as _;
    retry(|| {
        // SAFETY: the message names only `vectors`, which outlive the call and describe guest memory as in `read_at`.
        unsafe { libc::sendmsg(fd.as_raw_fd(), &message, libc::MSG_NOSIGNAL) }
    })
}

/// Fills `piece` with random bytes; answers how many, fewer than asked only when a signal came.
pub fn fill_random(piece: &VolatileSlice<'_>) -> io::Result<usize> {
    let guard = piece.ptr_guard_mut();
    retry(|| {
        // SAFETY: the guard keeps `len` bytes of guest memory mapped and writable during the call.
        unsafe { libc::getrandom(guard.as_ptr().cast(), guard.len(), 0) }
    })
}

/// Gives whole pages back to the host; the guest reads zeroes there afterwards.
pub fn discard_pages(piece: &VolatileSlice<'_>) -> io::Result<()> {
    let guard = piece.ptr_guard_mut();
    retry(|| {
        // SAFETY: the range is guest RAM, a private anonymous mapping in which Rust keeps no object: losing its content
        // is what the guest asked for.
        let result = unsafe { libc::madvise(guard.as_ptr().cast(), guard.len(), libc::MADV_DONTNEED) };
        result as libc::ssize_t
    })
    .map(drop)
}

/// Makes a range of a file read as zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clear {
    /// Gives the blocks back to the file system.
    Deallocate,
    /// Keeps them allocated.
    KeepAllocated,
}

/// Clears `length` bytes from `offset` on without changing the file's size. `Unsupported` where the file system cannot.
pub fn clear(fd: impl AsFd, how: Clear, offset: u64, length: u64) -> io::Result<()> {
    let mode = match how {
        Clear::Deallocate => libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
        Clear::KeepAllocated => libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE,
    };
    let (offset, length) = (file_offset(offset)?, file_offset(length)?);
    retry(|| {
        // SAFETY: touches no memory of this process.
        let result = unsafe { libc::fallocate(fd.as_fd().as_raw_fd(), mode, offset, length) };
        result as libc::ssize_t
    })
    .map(drop)
}

fn vectors(pieces: &[VolatileSlice<'_>]) -> Vec<libc::iovec> {
    // Only the address leaves the guard: guest RAM is mapped in one piece for the life of the VM.
    pieces
        .iter()
        .take(MAX_PIECES)
        .map(|piece| libc::iovec { iov_base: piece.ptr_guard_mut().as_ptr().cast(), iov_len: piece.len() })
        .collect()
}

fn file_offset(value: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(value).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn retry(mut call: impl FnMut() -> libc::ssize_t) -> io::Result<usize> {
    loop {
        if let Ok(count) = usize::try_from(call()) {
            return Ok(count);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_is_read_into_scattered_pieces() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let (mut first, mut second) = ([0u8; 3], [0u8; 4]);
        let pieces = [VolatileSlice::from(&mut first[..]), VolatileSlice::from(&mut second[..])];
        assert_eq!(read_at(&file, &pieces, 2).unwrap(), 7);
        assert_eq!((&first, &second), (b"234", b"5678"));
    }

    #[test]
    fn what_is_in_the_page_cache_needs_no_waiting() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let mut bytes = [0u8; 4];
        let piece = [VolatileSlice::from(&mut bytes[..])];
        // A file system may not know, but one that does answers the same bytes.
        if let Some(count) = read_cached_at(&file, &piece, 2) {
            assert_eq!((count, &bytes), (4, b"2345"));
        }
        assert_eq!(read_cached_at(&file, &[VolatileSlice::from(&mut bytes[..])], 10), None);
    }

    #[test]
    fn an_offset_beyond_what_a_file_can_have_is_refused() {
        let file = tempfile::tempfile().unwrap();
        let error = read_at(&file, &[], u64::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_gone_peer_is_an_error_and_no_signal() {
        let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(there);
        let mut bytes = *b"late";
        let error = send(here.as_fd(), &[VolatileSlice::from(&mut bytes[..])]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
