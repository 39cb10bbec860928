//! Listening for the host, and for nobody else.
//!
//! vsock has no namespaces: a container can open such a socket too. Only connections from the host's address are taken,
//! so that no container reaches the agent through a loopback.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_stream::{Stream, StreamExt};
use tokio_vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST, VsockAddr, VsockListener, VsockStream};
use tonic::transport::server::Connected;

/// A connection from the host.
pub struct FromHost(VsockStream);

/// Listens on a port. The stream is of the host's connections and has no end.
pub fn listen(port: u32) -> io::Result<impl Stream<Item = io::Result<FromHost>> + Unpin> {
    let incoming = VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, port))?.incoming();
    Ok(incoming.filter_map(move |connection| match connection {
        Ok(connection) => match connection.peer_addr() {
            Ok(peer) if peer.cid() == VMADDR_CID_HOST => Some(Ok(FromHost(connection))),
            peer => {
                tracing::warn!(port, ?peer, "refused a connection that is not the host's");
                None
            }
        },
        Err(error) => Some(Err(error)),
    }))
}

impl Connected for FromHost {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for FromHost {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for FromHost {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.0), cx)
    }
}
