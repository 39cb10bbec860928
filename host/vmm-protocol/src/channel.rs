//! Packets with descriptors over a `SOCK_SEQPACKET` socket. Blocking or not is the socket's own flag.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recvmsg,
    sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sys;

/// Longest packet in bytes.
pub const MAX_PACKET: usize = 32 * 1024;
/// Most descriptors in one packet. The kernel's own limit is 253 (`SCM_MAX_FD`, unix(7)).
pub const MAX_FDS: usize = 64;

/// Why a packet was not exchanged.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The socket itself failed; `WouldBlock` on a non-blocking socket with nothing to read or no room to write.
    #[error("control socket: {0}")]
    Io(#[from] io::Error),
    /// The peer closed its end.
    #[error("the other end of the control socket is closed")]
    Closed,
    /// A packet that is not the expected document.
    #[error("control packet is malformed")]
    Malformed(#[from] serde_json::Error),
    /// A packet larger than [`MAX_PACKET`] or with more than [`MAX_FDS`] descriptors.
    #[error("control packet exceeds {MAX_PACKET} bytes or {MAX_FDS} descriptors")]
    TooLarge,
}

/// One end of the control socket.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

impl Channel {
    /// A connected pair, both close-on-exec and blocking.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self { socket: a }, Self { socket: b }))
    }

    /// Wraps a `SOCK_SEQPACKET` socket.
    pub fn from_socket(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Gives the socket back.
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Sends one document with its descriptors; they stay open here.
    pub fn send<T: Serialize>(&self, document: &T, fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let bytes = serde_json::to_vec(document)?;
        if bytes.len() > MAX_PACKET || fds.len() > MAX_FDS {
            return Err(ChannelError::TooLarge);
        }
        let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let ancillary = if raw.is_empty() { &rights[..0] } else { &rights[..] };
        let data = [IoSlice::new(&bytes)];
        let flags = MsgFlags::MSG_NOSIGNAL;
        match retry(|| sendmsg::<UnixAddr>(self.socket.as_raw_fd(), &data, ancillary, flags, None)) {
            Ok(_) => Ok(()),
            Err(Errno::EPIPE | Errno::ECONNRESET) => Err(ChannelError::Closed),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }

    /// Receives one document and the descriptors that came with it, close-on-exec.
    pub fn receive<T: DeserializeOwned>(&self) -> Result<(T, Vec<OwnedFd>), ChannelError> {
        let mut buffer = vec![0u8; MAX_PACKET];
        let mut space = cmsg_space!([std::os::fd::RawFd; MAX_FDS]);
        let (length, truncated, fds) = {
            let mut data = [IoSliceMut::new(&mut buffer)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let fd = self.socket.as_raw_fd();
            let message = loop {
                match recvmsg::<UnixAddr>(fd, &mut data, Some(&mut space), flags) {
                    Err(Errno::EINTR) => continue,
                    Err(Errno::ECONNRESET) => return Err(ChannelError::Closed),
                    other => break other.map_err(io::Error::from)?,
                }
            };
            let mut fds = Vec::new();
            for ancillary in message.cmsgs().map_err(io::Error::from)? {
                if let ControlMessageOwned::ScmRights(raw) = ancillary {
                    fds.extend(sys::own(raw));
                }
            }
            (message.bytes, message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC), fds)
        };
        if truncated {
            return Err(ChannelError::TooLarge);
        }
        if length == 0 {
            return Err(ChannelError::Closed);
        }
        Ok((serde_json::from_slice(&buffer[..length])?, fds))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::{Event, ExitReason, FromVmm, Request};

    #[test]
    fn a_descriptor_arrives_usable() {
        let (here, there) = Channel::pair().unwrap();
        let (mut near, far) = UnixStream::pair().unwrap();
        here.send(&FromVmm::Event(Event::Connect { port: 1025 }), &[far.as_fd()]).unwrap();
        drop(far);
        let (message, mut fds) = there.receive::<FromVmm>().unwrap();
        assert_eq!(message, FromVmm::Event(Event::Connect { port: 1025 }));
        let mut far = UnixStream::from(fds.pop().unwrap());
        far.write_all(b"ready").unwrap();
        drop(far);
        let mut text = String::new();
        near.read_to_string(&mut text).unwrap();
        assert_eq!(text, "ready");
    }

    #[test]
    fn a_closed_peer_is_told_apart_from_an_error() {
        let (here, there) = Channel::pair().unwrap();
        drop(there);
        assert!(matches!(here.send(&Request::Start, &[]), Err(ChannelError::Closed)));
        assert!(matches!(here.receive::<Request>(), Err(ChannelError::Closed)));
    }

    #[test]
    fn an_oversized_document_is_refused_before_it_is_sent() {
        let (here, _there) = Channel::pair().unwrap();
        let long = FromVmm::Event(Event::Exited(ExitReason::Failed("x".repeat(MAX_PACKET))));
        assert!(matches!(here.send(&long, &[]), Err(ChannelError::TooLarge)));
    }

    #[test]
    fn an_unknown_request_is_malformed() {
        let (here, there) = Channel::pair().unwrap();
        here.send(&"format_the_disk", &[]).unwrap();
        assert!(matches!(there.receive::<Request>(), Err(ChannelError::Malformed(_))));
    }
}
