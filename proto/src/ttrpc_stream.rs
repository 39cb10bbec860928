//! Streams both ways over ttrpc, with prost messages in them.
//!
//! The ttrpc crate hands each arriving frame to a task of its own. Frames of one stream keep their order only where those
//! tasks do, which is on a runtime with one thread: serve streams on such a one.

use std::sync::Arc;

use async_trait::async_trait;
use prost::{DecodeError, Message};
use ttrpc::r#async::{StreamHandler, StreamInner, TtrpcContext};
use ttrpc::proto::Codec;
use ttrpc::{Code, Error, Response};

use crate::ttrpc_glue::Answer;

/// The serving side of a stream: sends `Output`, receives `Input`, and `None` once the client has sent its last.
pub type ServerStream<Output, Input> = ttrpc::r#async::ServerStream<Framed<Output>, Framed<Input>>;

/// The calling side of a stream: sends `Output`, receives `Input`, and [`Error::Eof`] once the server has returned.
pub type ClientStream<Output, Input> = ttrpc::r#async::ClientStream<Framed<Output>, Framed<Input>>;

/// A prost message, as the ttrpc crate's streams take it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Framed<M>(pub M);

impl<M: Message + Default> Codec for Framed<M> {
    type E = DecodeError;

    fn size(&self) -> u32 {
        // A frame is bounded far below this by the ttrpc crate.
        u32::try_from(self.0.encoded_len()).unwrap_or(u32::MAX)
    }

    fn encode(&self) -> Result<Vec<u8>, DecodeError> {
        Ok(self.0.encode_to_vec())
    }

    fn decode(buffer: impl AsRef<[u8]>) -> Result<Self, DecodeError> {
        M::decode(buffer.as_ref()).map(Self)
    }

    fn merge(&mut self, buffer: impl AsRef<[u8]>) -> Result<(), DecodeError> {
        self.0.merge(buffer.as_ref())
    }
}

/// What the ttrpc server calls for each stream that a client opens.
pub(crate) fn handler<Output, Input, Call, Pending>(call: Call) -> Arc<dyn StreamHandler + Send + Sync>
where
    Output: Message + Default + 'static,
    Input: Message + Default + 'static,
    Call: Fn(ServerStream<Output, Input>) -> Pending + Send + Sync + 'static,
    Pending: Future<Output = Answer<()>> + Send + 'static,
{
    Arc::new(Duplex(Box::new(move |inner| Box::pin(call(ServerStream::new(inner))))))
}

type Served = std::pin::Pin<Box<dyn Future<Output = Answer<()>> + Send>>;

struct Duplex(Box<dyn Fn(StreamInner) -> Served + Send + Sync>);

#[async_trait]
impl StreamHandler for Duplex {
    async fn handler(&self, _context: TtrpcContext, stream: StreamInner) -> ttrpc::Result<Option<Response>> {
        let status = match (self.0)(stream).await {
            // No response: the server closes the stream.
            Ok(()) => return Ok(None),
            Err(Error::RpcStatus(status)) => status,
            Err(other) => ttrpc::get_status(Code::UNKNOWN, other),
        };
        let mut response = Response::default();
        response.set_status(status);
        Ok(Some(response))
    }
}

#[cfg(all(test, feature = "keeper"))]
mod tests {
    use prost_types::Any;
    use ttrpc::r#async::{Client, Server};

    use super::*;
    use crate::containerd::services::streaming::v1::streaming_ttrpc::{self, Streaming, StreamingClient};
    use crate::ttrpc_glue::{Caller, status};

    /// Sends back what it gets, and knows no stream called `lost`.
    struct Echo;

    #[async_trait]
    impl Streaming for Echo {
        async fn stream(&self, mut stream: ServerStream<Any, Any>) -> Answer<()> {
            while let Some(message) = stream.recv().await? {
                if message.0.type_url == "lost" {
                    return Err(status(Code::NOT_FOUND, "no stream is called lost"));
                }
                stream.send(&message).await?;
            }
            Ok(())
        }
    }

    fn named(type_url: &str) -> Framed<Any> {
        Framed(Any { type_url: type_url.into(), value: b"window".to_vec() })
    }

    #[tokio::test]
    async fn a_stream_carries_messages_in_order_both_ways_and_ends_with_its_server() {
        let folder = tempfile::tempdir().unwrap();
        let address = format!("unix://{}/keeper.sock", folder.path().display());
        let services = streaming_ttrpc::serve(Arc::new(Echo)).into_services();
        let mut server = Server::new().bind(&address).unwrap().register_service(services);
        server.start().await.unwrap();
        let client = StreamingClient::new(Caller::new(Client::connect(&address).await.unwrap()));

        let mut stream = client.stream().await.unwrap();
        for number in 0..200 {
            stream.send(&named(&number.to_string())).await.unwrap();
        }
        for number in 0..200 {
            assert_eq!(stream.recv().await.unwrap(), named(&number.to_string()));
        }
        stream.close_send().await.unwrap();
        assert!(matches!(stream.recv().await, Err(Error::Eof)));

        let mut refused = client.stream().await.unwrap();
        refused.send(&named("lost")).await.unwrap();
        let Err(Error::RpcStatus(status)) = refused.recv().await else { panic!("expected a status") };
        assert_eq!(status.code(), Code::NOT_FOUND);
        server.shutdown().await.unwrap();
    }
}
