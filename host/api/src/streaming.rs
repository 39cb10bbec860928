//! `containerd.services.streaming.v1.Streaming`: how clients reach the input and output of processes without FIFOs.
//!
//! ```text
//!   client ── StreamInit{id} ─▶            ◀── an answer, at once
//!   input:    Data ─▶ process              ◀── WindowUpdate: room for so many bytes more
//!   output:   WindowUpdate ─▶              ◀── Data
//! ```
//!
//! The id is one that Create or Exec names, before or after: `<address>?streaming_id=<id>`. A client that was lost opens
//! another stream with the same id and takes its own place.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use prost::Message;
use prost_types::Any;
use theca_controller::Error;
use theca_controller::sandbox::Sandbox;
use theca_controller::task::stdio::StdioError;
use theca_controller::task::stdio::remote::{Attached, Outgoing, RemoteError, Turn};
use theca_proto::containerd::services::streaming::v1::StreamInit;
use theca_proto::containerd::services::streaming::v1::streaming_ttrpc::Streaming;
use theca_proto::containerd::types::transfer::{Data, WindowUpdate};
use theca_proto::ttrpc_glue::{Answer, status as refusal};
use theca_proto::ttrpc_stream::{Framed, ServerStream};
use theca_proto::type_url;
use tokio::sync::{Mutex, mpsc};
use tokio::time::sleep;
use ttrpc::Code;

use crate::status;

/// Bytes of input that a client may send before the process has taken them.
const WINDOW: i32 = 64 * 1024;
/// Most bytes in one message.
const CHUNK: usize = 32 * 1024;
/// Most room that a client can give.
const MOST_ROOM: usize = 16 * 1024 * 1024;
/// A client that sends nothing is given no room so often, to find out whether it is still there.
const PROBE: Duration = Duration::from_secs(30);
/// What acknowledges the first message: its type matters to nobody.
const ACKNOWLEDGEMENT: &str = "google.protobuf.Empty";

type Stream = ServerStream<Any, Any>;

/// The service in front of one sandbox.
pub struct StreamingService {
    sandbox: Sandbox,
}

impl StreamingService {
    /// Serves the streams of `sandbox`.
    pub fn new(sandbox: Sandbox) -> Self {
        Self { sandbox }
    }
}

#[async_trait]
impl Streaming for StreamingService {
    async fn stream(&self, mut stream: Stream) -> Answer<()> {
        let first = stream.recv().await?.ok_or_else(|| invalid("the stream was not named"))?;
        let id = unpack::<StreamInit>(&first.0, type_url::STREAM_INIT)?.id;
        stream.send(&Framed(Any { type_url: ACKNOWLEDGEMENT.into(), value: Vec::new() })).await?;
        let mut room = 0;
        let remotes = self.sandbox.remotes();
        let attached = tokio::select! {
            attached = remotes.attach(&id) => attached,
            gone = gather_room(&mut stream, &mut room) => return gone,
        };
        match attached.map_err(|error| status::of(Error::Stdio(StdioError::Remote(error))))? {
            Attached::Input(process, mut turn) => {
                tokio::select! {
                    done = take_input(stream, process) => done,
                    () = turn.over() => Err(superseded(&id)),
                }
            }
            Attached::Output(process, turn) => give_output(stream, room, &process, turn, &id).await,
        }
    }
}

/// Collects the room that a client gives before there is anything to give it. Answers when it has gone.
async fn gather_room(stream: &mut Stream, room: &mut usize) -> Answer<()> {
    while let Some(message) = stream.recv().await? {
        *room = widened(*room, &message)?;
    }
    Ok(())
}

/// The room after a client's message.
fn widened(room: usize, message: &Framed<Any>) -> Answer<usize> {
    let update = unpack::<WindowUpdate>(&message.0, type_url::STREAM_WINDOW_UPDATE)?.update;
    let update = usize::try_from(update).map_err(|_| invalid("a window does not shrink"))?;
    Ok((room + update).min(MOST_ROOM))
}

/// Until the client or the process has closed the input.
async fn take_input(mut stream: Stream, process: mpsc::Sender<Vec<u8>>) -> Answer<()> {
    let mut window = WINDOW;
    grant(&stream, WINDOW).await?;
    loop {
        let message = tokio::select! {
            message = stream.recv() => message?,
            () = process.closed() => return Ok(()),
            () = sleep(PROBE) => {
                grant(&stream, 0).await?;
                continue;
            }
        };
        let Some(message) = message else { return Ok(()) };
        let data = unpack::<Data>(&message.0, type_url::STREAM_DATA)?.data;
        let length = i32::try_from(data.len()).unwrap_or(i32::MAX);
        if length > window {
            let words = format!("{length} bytes of input, with room for {window}");
            return Err(refusal(Code::RESOURCE_EXHAUSTED, words));
        }
        window -= length;
        if process.send(data.into()).await.is_err() {
            return Ok(());
        }
        window += length;
        grant(&stream, length).await?;
    }
}

async fn grant(stream: &Stream, update: i32) -> Answer<()> {
    send(stream, type_url::STREAM_WINDOW_UPDATE, &WindowUpdate { update }).await
}

/// Until the output has ended or the client has gone.
async fn give_output(
    mut stream: Stream,
    mut room: usize,
    process: &Arc<Mutex<Outgoing>>,
    mut turn: Turn,
    id: &str,
) -> Answer<()> {
    // The client before lets go: its turn is over.
    let mut process = process.lock().await;
    loop {
        let limit = room.min(CHUNK);
        let bytes = tokio::select! {
            biased;
            () = turn.over() => return Err(superseded(id)),
            message = stream.recv() => match message? {
                Some(message) => {
                    room = widened(room, &message)?;
                    continue;
                }
                None => return Ok(()),
            },
            bytes = process.next(limit), if limit > 0 => bytes,
        };
        let Some(bytes) = bytes else { return Ok(()) };
        room -= bytes.len();
        let data = Data { data: bytes.into() };
        if let Err(error) = send(&stream, type_url::STREAM_DATA, &data).await {
            process.give_back(data.data.into());
            return Err(error);
        }
    }
}

async fn send(stream: &Stream, type_url: &str, message: &impl Message) -> Answer<()> {
    stream.send(&Framed(Any { type_url: type_url.into(), value: message.encode_to_vec() })).await
}

/// The message of type `url` in `any`. Type URLs are compared by what follows the last slash.
fn unpack<T: Message + Default>(any: &Any, url: &str) -> Answer<T> {
    let named = any.type_url.rsplit('/').next().unwrap_or_default();
    if named != url {
        return Err(invalid(&format!("a message of type {:?} came where {url} was expected", any.type_url)));
    }
    T::decode(any.value.as_slice()).map_err(|error| invalid(&format!("the {url} is malformed: {error}")))
}

fn invalid(words: &str) -> ttrpc::Error {
    refusal(Code::INVALID_ARGUMENT, words)
}

fn superseded(id: &str) -> ttrpc::Error {
    refusal(Code::ABORTED, RemoteError::Superseded(id.to_owned()).to_string())
}

#[cfg(test)]
#[path = "streaming_test.rs"]
mod tests;
