//! gRPC on unix sockets, for clients of every kind.
//!
//! A client that is built on gRPC's C core (Python, C++, Ruby, PHP) names the socket's path in `:authority`,
//! percent-encoded: `run%2Ftheca.sock`. RFC 3986 allows that in a host. The HTTP library below tonic does not: it resets
//! every such call before any of our code sees it. A server on a unix socket has no use for the authority, so
//! [`Connection`] replaces what offends on its way in.
//!
//! It reads along, `frames.rs` the frames of HTTP/2 and `headers.rs` the headers in them. Bytes change in the value of
//! `:authority` alone and are never added or taken away, so frames keep their lengths and both sides' tables of headers
//! stay the same. What is malformed passes as it came, for the library to refuse.

mod frames;
mod headers;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use frames::Frames;

/// A connection from a client, for tonic's server.
#[derive(Debug)]
pub struct Connection<Socket> {
    socket: Socket,
    frames: Frames,
    client: Client,
}

/// Whose connection it is: an extension of every request that comes by it. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Bytes of answers that it has not read, counted by whoever answers.
    pub unread: Arc<AtomicUsize>,
}

impl<Socket> Connection<Socket> {
    /// Wraps a connection that has just been accepted.
    pub fn new(socket: Socket) -> Self {
        Self { socket, frames: Frames::new(), client: Client::default() }
    }
}

impl<Socket> Connected for Connection<Socket> {
    type ConnectInfo = Client;

    fn connect_info(&self) -> Client {
        self.client.clone()
    }
}

impl<Socket: AsyncRead + Unpin> AsyncRead for Connection<Socket> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.socket).poll_read(context, buffer);
        self.frames.pass(&mut buffer.filled_mut()[before..]);
        result
    }
}

impl<Socket: AsyncWrite + Unpin> AsyncWrite for Connection<Socket> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
