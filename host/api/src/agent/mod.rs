//! The agent of a guest, over gRPC on one connection through the VMM's vsock.
//!
//! The connection is made once: a guest whose agent cannot be reached any more is over.

mod client;

use std::sync::Arc;

use async_trait::async_trait;
use prost::Message;
use theca_controller::agent::{Agent, AgentError, Connector, Greeting, SERVICE_PORT};
use theca_controller::vsock::Vsock;
use theca_proto::grpc_channel;
use theca_proto::theca::agent::v1::Ready;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::convert;
use client::GrpcAgent;

/// Longest ready message.
const MAX_READY: usize = 64 * 1024;

/// Reaches agents by gRPC.
pub struct GrpcConnector;

#[async_trait]
impl Connector for GrpcConnector {
    async fn connect(
        &self,
        ready: &mut UnixStream,
        guest: &Vsock,
    ) -> Result<(Arc<dyn Agent>, Greeting), AgentError> {
        let services = async {
            let stream = guest.dial(SERVICE_PORT).await.map_err(|error| unreachable(&error))?;
            grpc_channel::open(stream).await.map_err(|error| unreachable(&error))
        };
        let (channel, ready) = tokio::try_join!(services, read_ready(ready))?;
        Ok((Arc::new(GrpcAgent::new(channel)), convert::agent::greeting(ready)))
    }
}

/// One length-delimited message, and not a byte more.
async fn read_ready(stream: &mut UnixStream) -> Result<Ready, AgentError> {
    let mut length = 0;
    // A varint of three bytes reaches far beyond MAX_READY.
    for shift in [0, 7, 14] {
        let byte = stream.read_u8().await.map_err(|error| unreachable(&error))?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            if length > MAX_READY {
                break;
            }
            let mut message = vec![0; length];
            stream.read_exact(&mut message).await.map_err(|error| unreachable(&error))?;
            return Ready::decode(message.as_slice())
                .map_err(|error| AgentError::Malformed(error.to_string()));
        }
    }
    Err(AgentError::Malformed("its ready message is too long".into()))
}

fn unreachable(error: &dyn std::error::Error) -> AgentError {
    let mut story = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        story = format!("{story}: {error}");
        cause = error.source();
    }
    AgentError::Unreachable(story)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn received(bytes: &[u8]) -> (Result<Ready, AgentError>, Vec<u8>) {
        let (mut keeper, mut agent) = UnixStream::pair().unwrap();
        agent.write_all(bytes).await.unwrap();
        drop(agent);
        let ready = read_ready(&mut keeper).await;
        let mut rest = Vec::new();
        keeper.read_to_end(&mut rest).await.unwrap();
        (ready, rest)
    }

    #[tokio::test]
    async fn the_ready_message_is_read_and_nothing_after_it() {
        let ready = Ready { kernel_release: "6.12".repeat(100), ..Ready::default() };
        let mut bytes = ready.encode_length_delimited_to_vec();
        bytes.push(b'x');
        let (read, rest) = received(&bytes).await;
        assert_eq!((read.unwrap(), rest), (ready, vec![b'x']));
    }

    #[tokio::test]
    async fn a_ready_message_that_is_too_long_or_cut_short_is_an_error() {
        for bytes in [&b"\xff\xff\xff\xff\x01"[..], b"\xff\xff\x7f", b"\x05abc", b"", b"\x02\xff\xff"] {
            assert!(received(bytes).await.0.is_err(), "{bytes:?}");
        }
    }
}
